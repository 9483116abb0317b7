"""Views that readers or producers take over: no operator of their own, the same integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyq_tvm.numerics.softmax_tables import attention_constants
from hyq_tvm.vta.codegen.folding import Folded, fold_views, walk_written
from hyq_tvm.vta.codegen.layout import RowWalk, View, row_walk
from tests.vta.operations import (
    add,
    check,
    constant,
    evaluate,
    lookup,
    operation,
    random_array,
    requantize,
    stages,
    tensor,
)
from tests.vta.test_codegen_attention import norm_parts
from tests.vta.test_codegen_convolution import conv2d

SPLIT = {"shape": [2, 3, 20, 8], "strides": [480, 8, 24, 1], "offset": 0}
"""[40, 24] rows as two images of three heads."""

MERGE = {"shape": [2, 20, 3, 8], "strides": [480, 8, 160, 1], "offset": 0}
"""[6, 20, 8] heads back into rows."""

PATCHES = {"shape": [2, 2, 4, 6, 10], "strides": [120, 10, 240, 20, 1], "offset": 0}
"""[8 x 12, 10] positions grouped by their place in 2 x 2 patches."""


def dense(rng, values, source, shape, name, *more):
    """A product of the rows ``shape`` of a tensor."""
    rows = np.zeros(shape, np.int8)
    made, arguments = stages(requantize(rng, shape[1], zero_point=0), *more)
    weight = random_array(rng, (shape[1], shape[1]))
    parts = [tensor(source, rows), constant(weight), constant(np.zeros(shape[1], np.int32))]
    return named(values, operation("dense", [*parts, *arguments], {"epilogue": made}, values, name))


def view(values, source, params, name):
    """A view of a whole tensor, read flat."""
    flat = np.zeros(values[source].size, values[source].dtype)
    return named(values, operation("view", [tensor(source, flat)], params, values, name))


def attention(values, shape, name):
    """Of q, k and v, all of one shape."""
    constants = attention_constants(
        scale_q=0.05,
        scale_k=0.04,
        scale_v=0.02,
        softmax_scale=shape[2] ** -0.5,
        scale_out=0.01,
        head_dim=shape[2],
        tokens=shape[1],
        kind="linear_pot",
        weight_bits=8,
    )
    rescale = {key: constants[key] for key in ("rescale_multiplier", "rescale_shift")}
    params = {"kind": "linear_pot", "weight_bits": 8, "fraction_bits": 4, "has_bias": False}
    params.update(rescale, zero_point=6, low=-128, high=127, dtype="int8")
    parts = [tensor(part, values[part].reshape(shape)) for part in "qkv"]
    parts += [constant(np.array(constants[key])) for key in ("multiplier", "shift", "table")]
    return operation("attention", parts, params, values, name)


def named(values, made):
    values[made.name] = evaluate(made, values)
    return made


def test_attention_between_views():
    rng = np.random.default_rng(3)
    values = {"x": random_array(rng, (40, 24))}
    ops = []
    for part in "qkv":
        ops.append(dense(rng, values, "x", (40, 24), f"{part}.rows"))
        ops.append(view(values, f"{part}.rows", SPLIT, part))
    ops.append(named(values, attention(values, (6, 20, 8), "a")))
    ops.append(view(values, "a", MERGE, "merged"))
    ops.append(dense(rng, values, "merged", (40, 24), "y"))
    folded = fold_views(ops, ["y"])
    assert [o.op for o in folded] == ["dense", "dense", "dense", "attention", "dense"]
    check(ops, {"x": values["x"]}, outputs=["y"])
    check(ops, {"x": values["x"]}, outputs=["q", "merged", "y"])


@pytest.mark.parametrize("first", ["dense", "layer_norm", "pointwise"])
def test_producers_write_through_views(first):
    rng = np.random.default_rng(4)
    values = {"x": random_array(rng, (96, 10))}
    if first == "layer_norm":
        constants, params = norm_parts(rng, 10, 10)
        made = operation("layer_norm", [tensor("x", values["x"]), *constants], params, values, "n")
        ops = [named(values, made)]
    elif first == "dense":
        ops = [dense(rng, values, "x", (96, 10), "n")]
    else:
        values["x"] = values["x"].reshape(1, 8, 12, 10)
        ops = [pointwise(rng, values, "n")]
    ops.append(view(values, "n", PATCHES, "v"))
    ops.append(dense(rng, values, "v", (96, 10), "y"))
    assert [o.op for o in fold_views(ops, ["y"])].count("view") == 0
    check(ops, {"x": values["x"]}, outputs=["y"])


def pointwise(rng, values, name):
    made, arguments = stages(requantize(rng, 10))
    params = {"strides": [1, 1], "padding": [0] * 4, "dilation": [1, 1], "groups": 1}
    params.update(pad_value=0, epilogue=made)
    weight, bias = random_array(rng, (10, 1, 1, 10)), np.zeros(10, np.int32)
    parts = [tensor("x", values["x"]), constant(weight), constant(bias), *arguments]
    return named(values, operation("conv2d", parts, params, values, name))


def test_views_that_somebody_else_needs_stay():
    rng = np.random.default_rng(5)
    values = {"x": random_array(rng, (96, 10))}
    ops = [dense(rng, values, "x", (96, 10), "n"), view(values, "n", PATCHES, "v")]
    ops.append(dense(rng, values, "n", (96, 10), "y"))
    assert [o.op for o in fold_views(ops, ["v", "y"])] == ["dense", "view", "dense"]
    check(ops, {"x": values["x"]}, outputs=["v", "y"])


def test_a_producer_with_a_residual_keeps_its_view():
    rng = np.random.default_rng(6)
    values = {"x": random_array(rng, (96, 10)), "r": random_array(rng, (96, 10))}
    residual = add("r", values["r"], "int8", -128, 127)
    ops = [dense(rng, values, "x", (96, 10), "n", residual), view(values, "n", PATCHES, "v")]
    assert [o.op for o in fold_views(ops, ["v"])] == ["dense", "view"]
    check(ops, {"x": values["x"], "r": values["r"]}, outputs=["v"])


@given(st.permutations(range(4)), st.lists(st.integers(1, 5), min_size=4, max_size=4))
def test_walks_reach_every_row_where_the_view_wants_it(axes, sizes):
    """Rows of 3 elements, permuted: the walk's steps say where each one goes."""
    shape = [*(sizes[axis] for axis in axes), 3]
    dense_steps = np.cumprod([1, *[3, *sizes[:0:-1]]])[1:][::-1]
    made = View(tuple(shape), (*(int(dense_steps[axis]) for axis in axes), 1), 0)
    assert made.is_permutation()
    walk = row_walk(made, 3)
    assert isinstance(walk, RowWalk)
    grid = np.indices(walk.sizes).reshape(len(walk.sizes), -1)
    own, target = (np.array(steps) @ grid for steps in (walk.own, walk.target))
    assert sorted(own) == list(range(int(np.prod(sizes))))
    np.testing.assert_array_equal(made.positions().reshape(-1)[target], 3 * own)


@pytest.mark.parametrize(
    "params",
    [
        {"shape": [4, 10], "strides": [20, 1], "offset": 0},
        {"shape": [4, 10], "strides": [10, 1], "offset": 10},
        {"shape": [4, 10], "strides": [0, 1], "offset": 0},
    ],
)
def test_slices_and_repetitions_are_no_permutations(params):
    made = View(tuple(params["shape"]), tuple(params["strides"]), params["offset"])
    assert not made.is_permutation()
    assert row_walk(made, 10) is None


def test_an_operation_without_a_view_walks_its_rows_in_order():
    rng = np.random.default_rng(7)
    values = {"x": random_array(rng, (6, 4))}
    made = dense(rng, values, "x", (6, 4), "y")
    assert walk_written(made, 4) == RowWalk((6,), (1,), (4,))
    assert walk_written(Folded.of(made), 4) == RowWalk((6,), (1,), (4,))


def second_grid(rng, values, source, channels, name, *more, zero_point=0):
    """An identity that brings a tensor onto another grid."""
    made, arguments = stages(requantize(rng, channels, fan_in=1), *more)
    params = {"zero_point": zero_point, "epilogue": made}
    parts = [tensor(source, values[source]), *arguments]
    return named(values, operation("identity", parts, params, values, name))


@pytest.mark.parametrize("kind", ["dense", "pointwise", "packed", "window"])
@pytest.mark.parametrize("table", [True, False])
def test_a_second_grid_is_made_with_the_first(kind, table):
    rng = np.random.default_rng(8)
    if kind == "dense":
        values = {"x": random_array(rng, (70, 24))}
        ops = [dense(rng, values, "x", (70, 24), "n")]
        channels = 24
    else:
        shapes = {"pointwise": (12, (1, 1)), "packed": (3, (3, 3)), "window": (18, (3, 3))}
        depth, kernel = shapes[kind]
        padding = (kernel[0] // 2,) * 4
        made, values = conv2d(2, (1, 9, 7, depth), 21, kernel, (1, 1), padding, residual=True)
        values["y"] = evaluate(made, values)
        ops, channels = [replace(made, name="n")], 21
        values["n"] = values.pop("y")
    more = [lookup(rng, -128, 127, "int16")] if table else []
    ops.append(second_grid(rng, values, "n", channels, "narrow", *more, zero_point=3))
    fed = {name: values[name] for name in ("x", "r") if name in values}
    assert [o.op for o in fold_views(ops, ["n", "narrow"])] == [ops[0].op]
    check(ops, fed, outputs=["n", "narrow"])
    check(ops, fed, outputs=["narrow"])


def test_a_third_grid_and_grids_of_inputs_keep_their_operator():
    rng = np.random.default_rng(9)
    values = {"x": random_array(rng, (70, 24))}
    ops = [second_grid(rng, values, "x", 24, "a"), dense(rng, values, "a", (70, 24), "n")]
    ops += [second_grid(rng, values, "n", 24, "b"), second_grid(rng, values, "n", 1, "c")]
    folded = fold_views(ops, ["b", "c"])
    assert [o.op for o in folded] == ["identity", "dense", "identity"]
    check(ops, {"x": values["x"]}, outputs=["b", "c"])
