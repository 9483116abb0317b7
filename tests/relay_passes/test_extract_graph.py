"""Relax modules written by hand: layouts, constants, attention, errors that name everything."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.quantization.float_executor import FloatExecutor
from hyq_tvm.quantization.graph import Graph
from relay_passes.extract_graph import _settled, canonicalize, extract_graph, read_graph

R = relax.op
RNG = np.random.default_rng(0)


def constant(*shape):
    return relax.const(RNG.normal(size=shape).astype(np.float32))


def module(write, *shapes, dtype="float32"):
    """A module whose ``main`` returns what ``write(builder, *inputs)`` gives."""
    builder = relax.BlockBuilder()
    inputs = [relax.Var(f"x{i}", relax.TensorType(s, dtype)) for i, s in enumerate(shapes)]
    with builder.function("main", inputs):
        with builder.dataflow():
            out = builder.emit_output(write(builder, *inputs))
        builder.emit_func_output(out)
    return builder.get()


def outputs(graph, *arrays):
    return [np.asarray(out) for out in FloatExecutor(graph).run(*arrays)]


def ops(graph):
    return [n.op for n in graph if n.op not in ("input", "view")]


def image(n=1, c=4, h=6, w=6):
    return RNG.normal(size=(n, c, h, w)).astype(np.float32)


def test_reading_and_canonicalizing_compute_the_same():
    weight, bias = constant(8, 4, 3, 3), constant(1, 8, 1, 1)
    mod = module(
        lambda bb, x: R.nn.relu(R.add(R.nn.conv2d(x, weight, padding=1), bias)), (1, 4, 6, 6)
    )
    raw = read_graph(mod)
    x = image()
    np.testing.assert_allclose(
        outputs(raw, x)[0], outputs(canonicalize(raw), x)[0], rtol=1e-5, atol=1e-6
    )
    assert ops(canonicalize(raw)) == ["conv2d", "unary"]


@pytest.mark.parametrize("kernel", ["OIHW", "HWIO", "OHWI"])
def test_channels_last_modules_and_kernel_layouts(kernel):
    order = {"OIHW": (0, 1, 2, 3), "HWIO": (2, 3, 1, 0), "OHWI": (0, 2, 3, 1)}[kernel]
    weight = RNG.normal(size=(8, 4, 3, 3)).astype(np.float32)
    x = image()
    first = module(lambda bb, v: R.nn.conv2d(v, relax.const(weight), padding=1), (1, 4, 6, 6))
    moved = relax.const(np.ascontiguousarray(weight.transpose(order)))
    last = module(
        lambda bb, v: R.nn.conv2d(v, moved, padding=1, data_layout="NHWC", kernel_layout=kernel),
        (1, 6, 6, 4),
    )
    graph = extract_graph(last)
    assert not [n for n in graph if n.op == "view" and not n.attrs["view"].is_identity]
    (expected,) = outputs(extract_graph(first), x)
    (actual,) = outputs(graph, np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(actual.transpose(0, 3, 1, 2), expected, rtol=1e-5, atol=1e-5)


def test_several_inputs_and_outputs_keep_their_order():
    mod = module(lambda bb, a, b: relax.Tuple([R.subtract(a, b), R.nn.relu(b)]), (2, 3), (2, 3))
    graph = extract_graph(mod)
    a, b = (RNG.normal(size=(2, 3)).astype(np.float32) for _ in "ab")
    difference, relu = outputs(graph, a, b)
    np.testing.assert_allclose(difference, a - b, rtol=1e-6)
    np.testing.assert_array_equal(relu, np.maximum(b, 0))
    assert [n.name for n in graph.inputs] == ["x0", "x1"]


def test_attention_has_heads_before_rows():
    bias = constant(1, 2, 5, 5)
    mod = module(lambda bb, q, k, v: R.nn.attention(q, k, v, bias, scale=0.3), *[(1, 5, 2, 4)] * 3)
    graph = extract_graph(mod)
    (attention,) = [n for n in graph if n.op == "attention"]
    assert attention.shape == (1, 2, 5, 4)
    q, k, v = (RNG.normal(size=(1, 5, 2, 4)).astype(np.float32) for _ in "qkv")
    scores = 0.3 * np.einsum("bnhd,bmhd->bhnm", q, k) + bias.value.numpy()
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = np.einsum("bhnm,bmhd->bnhd", weights, v)
    np.testing.assert_allclose(outputs(graph, q, k, v)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_bias_that_is_computed_stays_unfused_but_right():
    mod = module(
        lambda bb, q, b: R.nn.attention(q, q, q, R.nn.relu(b), scale=0.3),
        (1, 5, 2, 4), (1, 2, 5, 5),
    )  # fmt: skip
    graph = extract_graph(mod)
    assert sorted(ops(graph)) == ["add", "matmul", "matmul", "softmax", "unary"]
    q, b = (RNG.normal(size=s).astype(np.float32) for s in ((1, 5, 2, 4), (1, 2, 5, 5)))
    scores = 0.3 * np.einsum("bnhd,bmhd->bhnm", q, q) + np.maximum(b, 0)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = np.einsum("bhnm,bmhd->bnhd", weights, q)
    np.testing.assert_allclose(outputs(graph, q, b)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_softmax_made_safe_is_a_softmax():
    def write(bb, x):
        masked = R.logical_not(R.equal(x, relax.const(float("-inf"))))
        some = R.max(R.astype(masked, "int8"), -1, keepdims=True)
        empty = R.logical_not(R.astype(some, "bool"))
        soft = R.nn.softmax(x, -1)
        return R.where(empty, R.full_like(soft, relax.const(0.0)), soft)

    assert ops(extract_graph(module(write, (2, 3, 5)))) == ["softmax"]


def test_a_choice_by_data_is_refused():
    def write(bb, x):
        return R.where(R.greater(x, relax.const(0.0)), R.nn.relu(x), x)

    with pytest.raises(UnsupportedModelError, match=r"relax\.where at \w+: a choice that depends"):
        extract_graph(module(write, (2, 3)))


def test_everything_in_the_way_is_named_and_dead_code_is_not():
    def write(bb, x):
        bb.emit(R.cumsum(x, 1), "dead")
        a = bb.emit(R.sort(x), "sorted")
        b = bb.emit(R.floor(a), "floored")
        c = bb.emit(R.nn.softplus(b), "soft")
        return R.add(c, R.nn.relu(x))

    with pytest.raises(UnsupportedModelError) as caught:
        extract_graph(module(write, (2, 3)))
    message = str(caught.value)
    for expected in ("relax.sort at sorted", "relax.floor at floored", "relax.nn.softplus at soft"):
        assert expected in message
    assert "dead" not in message


def test_division_by_an_activation_is_named():
    mod = module(lambda bb, x: R.divide(x, bb.emit(R.exp(x), "e")), (2, 3))
    with pytest.raises(UnsupportedModelError, match="division by an activation at"):
        extract_graph(mod)


def test_weights_that_are_not_finite_are_named():
    weight = np.ones((8, 4, 3, 3), np.float32)
    weight[2, 1] = np.nan
    mod = module(lambda bb, x: bb.emit(R.nn.conv2d(x, relax.const(weight)), "stem"), (1, 4, 6, 6))
    with pytest.raises(UnsupportedModelError, match="weight of 'stem' holds NaN"):
        extract_graph(mod)


def test_training_statistics_are_refused():
    ones = relax.const(np.ones(4, np.float32))
    mod = module(
        lambda bb, x: R.nn.batch_norm(x, ones, ones, ones, ones, axis=1, training=True)[0],
        (1, 4, 6, 6),
    )
    with pytest.raises(UnsupportedModelError, match="evaluation mode"):
        extract_graph(mod)


def test_dynamic_shapes_are_refused():
    from tvm import tirx

    n = tirx.Var("n", "int64")
    mod = module(lambda bb, x: R.nn.relu(x), (n, 3))
    with pytest.raises(UnsupportedModelError, match=r"x0: the shape .* is not static"):
        extract_graph(mod)


def test_weights_that_are_computed_are_refused():
    mod = module(lambda bb, x, w: R.nn.conv2d(x, w), (1, 4, 6, 6), (8, 4, 3, 3))
    with pytest.raises(UnsupportedModelError, match="weights that are not constant"):
        extract_graph(mod)


def test_a_module_without_main_is_refused():
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((2,), "float32"))
    with builder.function("other", [x]):
        builder.emit_func_output(x)
    with pytest.raises(UnsupportedModelError, match="no function 'main'"):
        extract_graph(builder.get())


def test_an_output_that_is_an_input_or_a_constant():
    mod = module(lambda bb, x: relax.Tuple([x, constant(2, 2)]), (2, 3))
    graph = extract_graph(mod)
    x = RNG.normal(size=(2, 3)).astype(np.float32)
    np.testing.assert_array_equal(outputs(graph, x)[0], x)
    assert ops(graph) == ["constant"]


def test_passes_that_never_settle_are_stopped():
    """A pass that makes a new graph in every round."""
    graph = read_graph(module(lambda bb, x: R.add(x, constant(3)), (2, 3)))
    rounds = []

    def restless(graph):
        rounds.append(graph)
        fresh = [n.with_(params={k: v.copy() for k, v in n.params.items()}) for n in graph]
        return Graph(fresh, graph.outputs)

    with pytest.raises(AssertionError, match="the graph is still changing after 50 rounds"):
        _settled(graph, [restless])
    assert len(rounds) == 50


def test_passes_that_undo_each_other_end_where_a_form_returns():
    graph = read_graph(module(lambda bb, x: R.add(R.nn.relu(x), constant(3)), (2, 3)))

    def renamed(graph):
        names = {n.name: f"{n.name}." for n in graph if n.op != "input"}
        nodes = [
            n.with_(name=names.get(n.name, n.name), inputs=tuple(names.get(i, i) for i in n.inputs))
            for n in graph
        ]
        return Graph(nodes, [names[name] for name in graph.outputs])

    assert _settled(graph, [renamed]) is graph
