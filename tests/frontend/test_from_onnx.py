"""Import of ONNX models written node by node: results, names, and every refusal."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.frontend.onnx import from_onnx
from hyq_tvm.quantization.float_executor import FloatExecutor
from relay_passes.extract_graph import extract_graph

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1, 3, 8, 8)).astype(np.float32)


def model(nodes, weights=None, shape=(1, 3, 8, 8), opset=17, out=None):
    values = [
        numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()
    ]
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)]
    results = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, out)]
    graph = helper.make_graph(nodes, "graph", inputs, results, values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def node(op, inputs, outputs, name=None, **attrs):
    return helper.make_node(op, inputs, outputs, name=name, **attrs)


def small(**weights):
    """Convolution, decomposed layer norm over channels, silu, linear."""
    values = {
        "stem.weight": RNG.normal(size=(8, 3, 3, 3)).astype(np.float32),
        "stem.bias": RNG.normal(size=8).astype(np.float32),
        "gamma": RNG.normal(size=8).astype(np.float32),
        "beta": RNG.normal(size=8).astype(np.float32),
        "two": np.float32(2),
        "eps": np.float32(1e-5),
        "shape": np.asarray([1, 8, 64], np.int64),
        "fc": RNG.normal(size=(8, 5)).astype(np.float32),
        **weights,
    }
    nodes = [
        node("Conv", ["x", "stem.weight", "stem.bias"], ["c"], "Conv_0", pads=[1, 1, 1, 1]),
        node("Reshape", ["c", "shape"], ["flat"], "Reshape_1"),
        node("Transpose", ["flat"], ["rows"], "Transpose_2", perm=[0, 2, 1]),
        node("ReduceMean", ["rows"], ["mean"], "Mean_3", axes=[-1]),
        node("Sub", ["rows", "mean"], ["centred"], "Sub_4"),
        node("Pow", ["centred", "two"], ["squared"], "Pow_5"),
        node("ReduceMean", ["squared"], ["variance"], "Mean_6", axes=[-1]),
        node("Add", ["variance", "eps"], ["shifted"], "Add_7"),
        node("Sqrt", ["shifted"], ["root"], "Sqrt_8"),
        node("Div", ["centred", "root"], ["normed"], "Div_9"),
        node("Mul", ["normed", "gamma"], ["scaled"], "Mul_10"),
        node("Add", ["scaled", "beta"], ["norm"], "Add_11"),
        node("Sigmoid", ["norm"], ["gate"], "Sigmoid_12"),
        node("Mul", ["norm", "gate"], ["act"], "Mul_13"),
        node("MatMul", ["act", "fc"], ["y"], "MatMul_14"),
    ]
    return model(nodes, values, out=(1, 64, 5))


def reference(proto):
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(proto).run(None, {"x": X})


def test_a_model_computes_what_onnx_says():
    proto = small()
    graph = extract_graph(from_onnx(proto))
    (out,) = FloatExecutor(graph).run(X)
    np.testing.assert_allclose(out, reference(proto)[0], rtol=1e-4, atol=1e-5)
    assert [n.op for n in graph if n.op not in ("view", "input")] == [
        "conv2d", "layer_norm", "unary", "dense",
    ]  # fmt: skip


def test_nodes_are_named_after_weights_or_nodes():
    graph = extract_graph(from_onnx(small()))
    assert [n.name for n in graph if n.op != "view"] == [
        "x", "stem", "Div_9", "Mul_13", "MatMul_14",
    ]  # fmt: skip


def test_a_path_is_read(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(small(), path)
    assert len(extract_graph(from_onnx(path))) == len(extract_graph(from_onnx(str(path))))


OPERATORS = {
    "batch_norm": [
        node("BatchNormalization", ["x", "k", "l", "l", "k"], ["y"]),
    ],
    "hardswish": [node("HardSwish", ["x"], ["y"])],
    "hardsigmoid": [node("HardSigmoid", ["x"], ["y"], alpha=1 / 6, beta=0.5)],
    "clip": [node("Clip", ["x", "low", "high"], ["y"])],
    "leaky_relu": [node("LeakyRelu", ["x"], ["y"], alpha=0.2)],
    "prelu": [node("PRelu", ["x", "slope"], ["y"])],
    "global_pool": [node("GlobalAveragePool", ["x"], ["y"])],
    "average_pool": [
        node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
    ],
    "average_pool_ceil": [
        node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    ],
    "max_pool": [
        node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
    ],
    "gather": [node("Gather", ["x", "one"], ["y"], axis=1)],
    "slice": [node("Slice", ["x", "starts", "ends", "axes"], ["y"])],
    "pad": [node("Pad", ["x", "pads"], ["y"])],
    "softmax": [node("Softmax", ["x"], ["y"], axis=1)],
    "instance_norm": [node("InstanceNormalization", ["x", "k", "l"], ["y"])],
    "shape_arithmetic": [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "one"], ["channels"]),
        node("Unsqueeze", ["channels", "zero"], ["channels1"]),
        node("Concat", ["channels1", "minus"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ],
    "split": [
        node("Split", ["x", "parts"], ["a", "b"], axis=1),
        node("Relu", ["b"], ["c"]),
        node("Concat", ["c", "a"], ["y"], axis=1),
    ],
    "gemm": [
        node("GlobalAveragePool", ["x"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "w", "b"], ["y"], transB=1),
    ],
}

WEIGHTS = {
    "k": np.float32([0.5, 1.0, 2.0]), "l": np.float32([-1.0, 0.0, 1.0]),
    "low": np.float32(-0.3), "high": np.float32(0.7),
    "slope": np.float32([0.1, 0.2, 0.3]).reshape(3, 1, 1),
    "one": np.int64(1), "zero": np.int64([0]), "minus": np.int64([-1]),
    "starts": np.int64([1, 2]), "ends": np.int64([3, -1]), "axes": np.int64([1, 3]),
    "pads": np.int64([0, 0, 1, 2, 0, 0, 0, 3]), "parts": np.int64([1, 2]),
    "w": RNG.normal(size=(4, 3)).astype(np.float32), "b": np.float32([1, 2, 3, 4]),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name):
    used = {i for n in OPERATORS[name] for i in n.input}
    weights = {key: value for key, value in WEIGHTS.items() if key in used}
    proto = model(OPERATORS[name], weights, opset=19 if name == "average_pool_ceil" else 17)
    (out,) = FloatExecutor(extract_graph(from_onnx(proto))).run(X)
    np.testing.assert_allclose(out, reference(proto)[0], rtol=1e-4, atol=1e-5)


def test_open_shapes_must_be_given():
    nodes = [node("Relu", ["x"], ["y"])]
    proto = model(nodes, shape=("batch", 3, "h", 8))
    with pytest.raises(
        UnsupportedModelError, match=r"'x' has the open shape \['batch', 3, 'h', 8\]"
    ):
        from_onnx(proto)
    mod = from_onnx(proto, input_shapes={"x": (1, 3, 8, 8)})
    assert [int(n) for n in mod["main"].params[0].ty.shape] == [1, 3, 8, 8]
    with pytest.raises(UnsupportedModelError, match="does not fit the declared"):
        from_onnx(proto, input_shapes={"x": (1, 4, 8, 8)})
    with pytest.raises(
        UnsupportedModelError, match=r"no inputs \['image'\]; its inputs are \['x'\]"
    ):
        from_onnx(proto, input_shapes={"image": (1, 3, 8, 8)})


def test_arithmetic_with_shapes_is_done_for_the_given_ones():
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "two"], ["h"], axis=0),
        node("Mul", ["h", "h"], ["pixels"]),
        node("Unsqueeze", ["pixels", "zero"], ["p"]),
        node("Concat", ["head", "p"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    values = {"two": np.int64(2), "zero": np.int64([0]), "head": np.int64([-1, 3])}
    proto = model(nodes, values, shape=(1, 3, "h", 8))
    graph = extract_graph(from_onnx(proto, input_shapes={"x": (1, 3, 8, 8)}))
    assert graph[graph.outputs[0]].shape == (1, 3, 64)
    assert proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param == "h"


def test_shape_arithmetic_without_its_package_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    nodes = [node("Shape", ["x"], ["s"]), node("Reshape", ["x", "s"], ["y"])]
    with pytest.raises(UnsupportedModelError, match=r"hyq-tvm\[onnx\]"):
        from_onnx(model(nodes))


def test_all_unsupported_operators_are_named_at_once_with_their_node():
    nodes = [
        node("Det", ["x"], ["d"], "determinant"),
        node("NonZero", ["x"], ["n"], "dead"),
        node("CumSum", ["x", "axis"], ["c"], "running"),
        node("Unsqueeze", ["d", "axes"], ["u"], "wide"),
        node("Add", ["c", "u"], ["a"], "sum"),
        node("Mish", ["a"], ["y"], "act"),
    ]
    proto = model(nodes, {"axis": np.int64(1), "axes": np.int64([2, 3])}, opset=18)
    with pytest.raises(UnsupportedModelError) as caught:
        from_onnx(proto)
    message = str(caught.value)
    for expected in ("Det at determinant", "cumsum at running", "act"):
        assert expected in message
    assert "dead" not in message
    assert "sum:" not in message


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(bad):
    weight = np.ones((8, 5), np.float32)
    weight[1, 2] = bad
    with pytest.raises(UnsupportedModelError, match="'fc' holds 1 values"):
        from_onnx(small(fc=weight))


def test_files_that_are_missing_or_something_else(tmp_path):
    with pytest.raises(UnsupportedModelError, match="no such file"):
        from_onnx(tmp_path / "absent.onnx")
    path = tmp_path / "text.onnx"
    path.write_text("not a model")
    with pytest.raises(UnsupportedModelError, match="not a valid ONNX model"):
        from_onnx(path)
    with pytest.raises(UnsupportedModelError, match="not list"):
        from_onnx([1, 2])


def test_without_the_package_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UnsupportedModelError, match=r"hyq-tvm\[onnx\]"):
        from_onnx("model.onnx")
