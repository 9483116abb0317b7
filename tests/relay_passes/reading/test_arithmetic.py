"""Elementwise operators: the nodes that they become, constants that vanish, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from tests.relay_passes.reading.small_modules import (
    assert_computes,
    const,
    nodes,
    random,
    read,
    refusal,
    refusals,
)

R = relax.op
X, Y = random("x0", 2, 3), random("x1", 2, 3)
K = random("k", 2, 3)
INFINITY = float("inf")

UNARY = [
    (R.nn.relu, "relu"),
    (R.nn.silu, "silu"),
    (R.nn.gelu, "gelu"),
    (R.nn.gelu_tanh, "gelu_tanh"),
    (R.sigmoid, "sigmoid"),
    (R.tanh, "tanh"),
    (R.exp, "exp"),
    (R.sqrt, "sqrt"),
    (R.rsqrt, "rsqrt"),
    (R.square, "square"),
    (R.abs, "abs"),
    (R.negative, "neg"),
    (R.erf, "erf"),
]


def functions(graph):
    """Functions of one number, in order, with their arguments."""
    return [(n.attrs["fn"], n.attrs["args"]) for n in graph if n.op == "unary"]


@pytest.mark.parametrize(("op", "fn"), UNARY)
def test_functions_of_one_number(op, fn):
    graph = read(op, (2, 3))
    assert nodes(graph) == [("y", "unary", ("x0",))]
    assert functions(graph) == [(fn, ())]
    assert graph["y"].shape == (2, 3)


FOLDED = [
    (R.add, np.add),
    (R.subtract, np.subtract),
    (R.multiply, np.multiply),
    (R.divide, np.divide),
    (R.floor_divide, np.floor_divide),
    (R.mod, np.fmod),
    (R.floor_mod, np.mod),
    (R.maximum, np.maximum),
    (R.minimum, np.minimum),
    (R.equal, np.equal),
    (R.not_equal, np.not_equal),
    (R.less, np.less),
    (R.less_equal, np.less_equal),
    (R.greater, np.greater),
    (R.greater_equal, np.greater_equal),
]


@pytest.mark.parametrize(("op", "function"), FOLDED)
def test_constants_are_computed_on_the_spot(op, function):
    a, b = np.float32([-5.5, 2.0, 7.0, 3.0]), np.float32([3.0, 2.0, -4.0, 0.5])
    graph = read(lambda x: relax.Tuple([x, op(const(a), const(b))]), (2,))
    (found,) = [n.params["value"] for n in graph if n.op == "constant"]
    np.testing.assert_array_equal(found, function(a, b))


def test_powers_and_logic_of_constants():
    base, bits = np.float32([1.5, 2.0]), np.array([True, False])
    true = np.array([True, True])

    def write(x):
        b, t = relax.const(bits), relax.const(true)
        logic = [R.logical_and(b, t), R.logical_or(b, b), R.logical_not(b)]
        one = [op(const([2.5, -1.25])) for op in (R.floor, R.ceil, R.round)]
        last = [R.log(const([2.0, 8.0])), R.isnan(const([np.nan, 1.0]))]
        power = R.power(const(base), const([2.0, 3.0]))
        return relax.Tuple([R.astype(v, "float32") for v in (*logic, *one, *last, power)])

    expected = [[1, 0], [1, 0], [0, 1], [2, -2], [3, -1], [2, -1]]
    expected += [np.log(np.float32([2.0, 8.0])), [1, 0], [2.25, 8.0]]
    graph = read(write, (2,))
    assert {n.op for n in graph} == {"input", "constant"}
    for name, want in zip(graph.outputs, expected, strict=True):
        np.testing.assert_array_equal(graph[name].params["value"], np.float32(want))


@pytest.mark.parametrize("op", ["add", "multiply"])
def test_sums_and_products_of_two_tensors(op):
    graph = read(getattr(R, op), (2, 3), (2, 3))
    assert nodes(graph) == [("y", op, ("x0", "x1"))]
    assert not graph["y"].params


@pytest.mark.parametrize("op", ["add", "multiply"])
@pytest.mark.parametrize("left", [False, True])
def test_a_constant_on_either_side_is_inside_the_node(op, left):
    call = getattr(R, op)
    graph = read(lambda x: call(const(K), x) if left else call(x, const(K)), (2, 3))
    assert nodes(graph) == [("y", op, ("x0",))]
    np.testing.assert_array_equal(graph["y"].params["const"], K)


def test_a_constant_may_widen_a_tensor():
    graph = read(lambda x: R.add(x, const(random("k", 4, 1, 3))), (2, 3))
    assert graph["y"].shape == (4, 2, 3)


def test_differences():
    graph = read(lambda x: R.subtract(x, const(K)), (2, 3))
    assert nodes(graph) == [("y", "add", ("x0",))]
    np.testing.assert_array_equal(graph["y"].params["const"], -K)
    graph = read(lambda x: R.subtract(const(K), x), (2, 3))
    assert nodes(graph) == [("y.negated", "multiply", ("x0",)), ("y", "add", ("y.negated",))]
    assert graph["y.negated"].params["const"] == -1
    np.testing.assert_array_equal(graph["y"].params["const"], K)
    graph = read(R.subtract, (2, 3), (3,))
    assert nodes(graph) == [("y.negated", "multiply", ("x1",)), ("y", "add", ("x0", "y.negated"))]
    assert graph["y.negated"].shape == (3,)


def test_quotients():
    graph = read(lambda x: R.divide(x, const(K)), (2, 3))
    assert nodes(graph) == [("y", "multiply", ("x0",))]
    inverse = (1.0 / K.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(graph["y"].params["const"], inverse)
    graph = read(R.divide, (2, 3), (3,))
    assert nodes(graph) == [
        ("y.reciprocal", "unary", ("x1",)),
        ("y", "multiply", ("x0", "y.reciprocal")),
    ]
    assert functions(graph) == [("reciprocal", ())]
    assert graph["y.reciprocal"].shape == (3,)


@pytest.mark.parametrize("bound", [0.5, np.full((2, 3), 0.5)])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize(
    ("op", "args"), [(R.maximum, (0.5, INFINITY)), (R.minimum, (-INFINITY, 0.5))]
)
def test_bounds(op, args, left, bound):
    write = (lambda x: op(const(bound), x)) if left else (lambda x: op(x, const(bound)))
    graph = read(write, (2, 3))
    assert nodes(graph) == [("y", "unary", ("x0",))]
    assert functions(graph) == [("clip", args)]


@pytest.mark.parametrize(
    ("op", "name"), [(R.maximum, "maximum"), (R.minimum, "minimum"), (R.power, "power")]
)
def test_second_operands_are_one_number(op, name):
    reason = f"relax.{name} at y: a second operand that is not one constant number"
    assert refusal(lambda x: op(x, const([1.0, 1.0, 2.0])), (2, 3)) == reason
    assert refusal(op, (2, 3), (2, 3)) == reason


def test_clip():
    graph = read(lambda x: R.clip(x, -1, 2.5), (2, 3))
    assert nodes(graph) == [("y", "unary", ("x0",))]
    assert functions(graph) == [("clip", (-1.0, 2.5))]


@pytest.mark.parametrize(
    ("exponent", "fn"), [(2.0, "square"), (0.5, "sqrt"), (-0.5, "rsqrt"), (-1.0, "reciprocal")]
)
def test_powers_with_names(exponent, fn):
    graph = read(lambda x: R.power(x, const(exponent)), (2, 3))
    assert nodes(graph) == [("y", "unary", ("x0",))]
    assert functions(graph) == [(fn, ())]


def test_other_powers():
    assert nodes(read(lambda x: R.power(x, const([1.0])), (2, 3))) == []
    graph = read(lambda x: R.power(x, const(3.0)), (2, 3))
    assert nodes(graph) == [("y.square", "unary", ("x0",)), ("y", "multiply", ("x0", "y.square"))]
    assert functions(graph) == [("square", ())]
    reason = refusal(lambda x: R.power(x, const(4.0)), (2, 3))
    assert reason == "relax.power at y: exponent 4.0"


def test_leaky_relu():
    graph = read(lambda x: R.nn.leakyrelu(x, 0.25), (2, 3))
    assert nodes(graph) == [("y", "unary", ("x0",))]
    assert functions(graph) == [("leaky_relu", (0.25,))]


def test_prelu_of_one_slope():
    graph = read(lambda x: R.nn.prelu(x, const([0.25]), axis=0), (1, 3))
    assert nodes(graph) == [("y", "unary", ("x0",))]
    assert functions(graph) == [("leaky_relu", (0.25,))]


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_prelu_of_a_slope_per_channel(axis):
    shape = (2, 3, 4)
    slope = random("slope", shape[axis])
    graph = read(lambda x: R.nn.prelu(x, const(slope), axis=axis), shape)
    assert nodes(graph) == [
        ("y.positive", "unary", ("x0",)),
        ("y.flipped", "unary", ("x0",)),
        ("y.negative", "unary", ("y.flipped",)),
        ("y.scaled", "multiply", ("y.negative",)),
        ("y", "add", ("y.positive", "y.scaled")),
    ]
    assert functions(graph) == [("relu", ()), ("neg", ()), ("relu", ())]
    x = random("x0", *shape)
    factor = slope[:, None] if axis == 1 else slope
    assert_computes(graph, np.where(x > 0, x, x * factor))


def test_slopes_are_constant():
    reason = refusal(lambda x, s: R.nn.prelu(x, s, axis=1), (2, 3), (3,))
    assert reason == "relax.nn.prelu at y: slopes that are not constant"


def test_casts():
    whole = R.astype(R.astype(const([1.75, -2.5, 3.0]), "int8"), "float32")
    graph = read(lambda x: R.add(x, whole), (2, 3))
    np.testing.assert_array_equal(graph["y"].params["const"], [1, -2, 3])
    assert nodes(read(lambda x: R.astype(x, "float32"), (2, 3))) == []
    reason = refusal(lambda x: R.astype(x, "float16"), (2, 3))
    assert reason == "relax.astype at y: a cast to float16"


def masked(x, test=R.equal, zero=0.0, rows=R.nn.softmax):
    """A softmax that puts ``zero`` where ``test`` finds infinity."""
    found = rows(x)
    return R.where(test(x, const(-INFINITY)), R.full_like(found, const(zero)), found)


CHOICE = "relax.where at y: a choice that depends on data"


def test_a_softmax_made_safe_is_the_softmax():
    graph = read(masked, (2, 3))
    assert [n.op for n in graph] == ["input", "softmax"]


def test_all_ways_to_find_masked_rows_may_be_combined():
    def write(x):
        rows = R.nn.softmax(x)
        some = R.max(R.astype(R.equal(x, const(-INFINITY)), "float32"), -1, keepdims=True)
        empty = R.logical_not(R.isnan(some))
        return R.where(empty, R.zeros_like(rows), rows)

    assert [n.op for n in read(write, (2, 3))] == ["input", "softmax"]


@pytest.mark.parametrize(
    "changes", [{"zero": 1.0}, {"rows": R.nn.relu}, {"rows": lambda x: const(K)}]
)
def test_other_choices_by_data_are_refused(changes):
    assert CHOICE in refusals(lambda x: masked(x, **changes), (2, 3))


def test_choices_by_other_tests_are_refused():
    reasons = refusals(lambda x: masked(x, R.greater), (2, 3))
    assert len(reasons) == 2
    assert CHOICE in reasons
    assert any(r.endswith("not supported on activations") for r in reasons)


def test_a_known_choice_between_tensors_is_refused():
    zeros = const(np.zeros((2, 3)))
    condition = relax.const(np.array([[True, False, True]] * 2))
    assert refusal(lambda x: R.where(condition, zeros, R.nn.softmax(x)), (2, 3)) == CHOICE
    assert refusal(lambda x: R.where(condition, zeros, x), (2, 3)) == CHOICE
    assert refusal(lambda x: R.where(condition, R.nn.relu(x), R.nn.softmax(x)), (2, 3)) == CHOICE


def test_choices_between_constants_are_made():
    condition = relax.const(np.array([[True, False, True]] * 2))
    graph = read(lambda x: R.add(x, R.where(condition, const(K), const(-K))), (2, 3))
    np.testing.assert_array_equal(graph["y"].params["const"], K * [1, -1, 1])


def test_arrays_of_a_given_shape():
    def write(x):
        parts = [R.zeros((2, 2), "float32"), R.ones((2, 3), "float32")]
        parts += [R.full((1, 2), const(2.5)), R.full_like(x, const(1.5))]
        parts += [R.zeros_like(x), R.ones_like(x)]
        return relax.Tuple([*parts, R.astype(R.arange(1, 7, 2, dtype="int64"), "float32")])

    graph = read(write, (2, 3))
    wanted = [np.zeros((2, 2)), np.ones((2, 3)), [[2.5, 2.5]], np.full((2, 3), 1.5)]
    wanted += [np.zeros((2, 3)), np.ones((2, 3)), [1, 3, 5]]
    assert {n.op for n in graph} == {"input", "constant"}
    for name, want in zip(graph.outputs, wanted, strict=True):
        np.testing.assert_array_equal(graph[name].params["value"], np.float32(want), strict=True)


def test_shapes_are_constants():
    def write(x):
        own = R.shape_to_tensor(R.shape_of(x))
        turned = R.take(own, relax.const(np.array([1, 0])))
        return relax.Tuple([R.astype(own, "float32"), R.tensor_to_shape(turned)])

    graph = read(write, (2, 3))
    assert [graph[name].params["value"].tolist() for name in graph.outputs] == [[2, 3], 3, 2]
