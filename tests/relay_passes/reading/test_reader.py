"""The walk over a function: names, constants, tuples, and what is said of what cannot be read."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tvm import ir, relax, tirx

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.quantization.view import View
from relay_passes.extract_graph import HANDLERS, read_graph
from relay_passes.reading.arithmetic import CONSTANTS_ONLY
from relay_passes.reading.reader import Reader
from tests.relay_passes.reading.small_modules import (
    assert_computes,
    const,
    module,
    nodes,
    random,
    read,
    refusal,
    refusals,
)

R = relax.op


def function(write, *types):
    """A module whose ``main`` is written by ``write(builder, *inputs)``, in the builder's block."""
    builder = relax.BlockBuilder()
    inputs = [relax.Var(f"x{i}", type_) for i, type_ in enumerate(types)]
    with builder.function("main", inputs):
        builder.emit_func_output(write(builder, *inputs))
    return builder.get()


def tensor(*shape):
    return relax.TensorType(shape, "float32")


def test_images_are_brought_channels_last_and_back():
    graph = read(R.nn.relu, (2, 3, 4, 5))
    assert [(n.name, n.op, n.inputs) for n in graph] == [
        ("x0", "input", ()),
        ("x0.view", "view", ("x0",)),
        ("x0.view.1", "view", ("x0.view",)),
        ("y", "unary", ("x0.view.1",)),
    ]
    assert graph["x0.view"].attrs["view"] == View.permutation((2, 3, 4, 5), (0, 2, 3, 1))
    assert graph["x0.view.1"].attrs["view"] == View.permutation((2, 4, 5, 3), (0, 3, 1, 2))


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5, 6)])
def test_other_inputs_stay(shape):
    assert [n.name for n in read(R.nn.relu, shape)] == ["x0", "y"]


def test_equal_names_get_the_operator_and_a_number():
    reader = Reader({})
    found = [reader.emit("unary", (), (2,), "same") for _ in range(4)]
    assert found == ["same", "same.unary", "same.unary.1", "same.unary.2"]
    ending = [reader.emit("view", (), (2,), "a.view") for _ in range(3)]
    assert ending == ["a.view", "a.view.1", "a.view.2"]
    assert reader.name_of(np.ones(2), "same") == "same.constant"
    assert reader.name_of(np.ones(2), "same") == "same.constant.1"


def test_parameters_are_float32_in_their_own_order():
    reader = Reader({})
    turned = random("k", 3, 4).astype(np.float64).T
    name = reader.emit("dense", (), (2,), "y", {}, {"weight": turned})
    kept = reader.nodes[name].params["weight"]
    assert (kept.dtype, kept.flags.c_contiguous) == (np.float32, True)
    np.testing.assert_array_equal(kept, random("k", 3, 4).T)
    constant = reader.nodes[reader.name_of(turned, "k")].params["value"]
    assert (constant.dtype, constant.flags.c_contiguous) == (np.float32, True)


def test_layers_of_constants_are_computed():
    k, w = random("k", 1, 3, 4), random("w", 4, 5)
    graph = read(lambda x: R.add(x, R.nn.relu(R.matmul(const(k), const(w)))), (2, 3, 5))
    assert nodes(graph) == [("y", "add", ("x0",))]
    want = np.maximum(k @ w, 0)
    np.testing.assert_allclose(graph["y"].params["const"], want, rtol=1e-5, atol=1e-6)


def test_one_constant_among_tensors_is_a_node():
    graph = read(lambda x: R.concat([x, const(np.ones((1, 3)))], 0), (2, 3))
    assert graph["y"].inputs == ("x0", "y.constant")


def test_outputs_in_nested_tuples_are_flat():
    graph = read(lambda a, b: relax.Tuple([a, relax.Tuple([b, R.nn.relu(a)])]), (2, 3), (3,))
    assert [graph[name].op for name in graph.outputs] == ["input", "input", "unary"]
    assert [n.name for n in graph.inputs] == ["x0", "x1"]


def test_parts_of_tuples():
    def write(builder, x, y):
        both = builder.emit(relax.Tuple([x, y]))
        return R.subtract(relax.TupleGetItem(both, 1), relax.TupleGetItem(both, 0))

    graph = read_graph(function(write, tensor(3), tensor(2, 3)))
    assert_computes(graph, random("x1", 2, 3) - random("x0", 3))


def test_several_blocks_are_read():
    def write(builder, x):
        with builder.dataflow():
            a = builder.emit_output(R.exp(x), "a")
        b = builder.emit(R.nn.relu(a), "b")
        with builder.dataflow():
            return builder.emit_output(R.tanh(b), "c")

    graph = read_graph(function(write, tensor(2, 3)))
    assert [n.name for n in graph] == ["x0", "a", "b", "c"]


def test_all_that_is_in_the_way_is_said_once_and_nothing_else():
    def write(x):
        return R.add(R.nn.relu(R.nn.softplus(R.sort(x))), R.floor(R.sort(x)))

    assert refusals(write, (2, 3)) == [
        "relax.floor at lv4: not supported on activations",
        "relax.nn.softplus at lv1: not supported",
        "relax.sort at lv3: not supported",
        "relax.sort at lv: not supported",
    ]


def test_what_an_output_does_not_need_is_not_said():
    def write(builder, x):
        builder.emit(R.sort(x), "dead")
        return builder.emit(R.nn.relu(x), "y")

    graph = read_graph(function(write, tensor(2, 3)))
    assert [n.name for n in graph] == ["x0", "y"]


def test_parts_of_what_is_not_supported():
    reasons = refusals(lambda x: R.nn.relu(R.topk(x, 2)[0]), (2, 3))
    assert reasons == ["relax.topk at lv: not supported"]


def test_functions_are_no_operators():
    builder = relax.BlockBuilder()
    p = relax.Var("p", tensor(2, 3))
    with builder.function("other", [p]):
        other = builder.emit_func_output(p)
    x = relax.Var("x", tensor(2, 3))
    with builder.function("main", [x]):
        builder.emit_func_output(builder.emit(relax.Call(other, [x]), "called"))
    with pytest.raises(UnsupportedModelError, match=r"other.* at called: not supported"):
        read_graph(builder.get())


def test_arguments_that_are_neither_tensors_nor_numbers_are_named():
    def write(builder, x):
        types = [relax.TensorType((2, 3), "float32")]
        return builder.emit(relax.op.call_dps_packed("anything", relax.Tuple([x]), types), "y")

    with pytest.raises(UnsupportedModelError) as caught:
        read_graph(function(write, tensor(2, 3)))
    assert str(caught.value).split("\n  ")[1:] == [
        "ExternFunc at y: not supported",
        "relax.call_dps_packed at y: not supported",
    ]


def test_shapes_matched_at_run_time_are_refused():
    n = tirx.Var("n", "int64")

    def write(builder, x):
        return builder.match_cast(x, relax.TensorType((n, 3), "float32"))

    mod = function(write, tensor(2, 3))
    with pytest.raises(UnsupportedModelError, match=r"^\w+: shapes matched at run time$"):
        read_graph(mod)


@pytest.mark.parametrize(
    "type_",
    [
        relax.TensorType(dtype="float32", ndim=2),
        relax.TensorType((tirx.Var("n", "int64"), 3), "float32"),
        relax.TensorType((3, tirx.Var("n", "int64")), "float32"),
    ],
)
def test_shapes_are_static(type_):
    mod = function(lambda builder, x: x, type_)
    expected = r"^x0: the shape .* is not static; import the model with fixed input shapes$"
    with pytest.raises(UnsupportedModelError, match=expected):
        read_graph(mod)


def test_numbers_and_shapes_are_read_as_they_are():
    graph = read(lambda x: R.clip(R.reshape(x, (3, 2)), -2, 3.5), (2, 3))
    assert graph["y"].attrs["args"] == (-2.0, 3.5)
    assert graph["y"].shape == (3, 2)


def test_operators_that_are_read_exist():
    """TVM refuses names that it does not know."""
    for name in (*HANDLERS, *CONSTANTS_ONLY):
        assert ir.Op.get(name).name == name


def test_a_reason_names_operator_and_binding():
    assert refusal(R.sort, (2, 3)) == "relax.sort at y: not supported"
    mod = module(R.sort, (2, 3))
    with pytest.raises(UnsupportedModelError, match=re.escape("unsupported operators:\n  relax")):
        read_graph(mod)
