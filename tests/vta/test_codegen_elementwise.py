"""Identity, add, multiply, sums, pooling, and moves on the accelerator, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.vta.arch import DEFAULT, TINY
from hyq_tvm.vta.codegen import compile_operations
from tests.vta.operations import (
    add,
    check,
    constant,
    lookup,
    operation,
    random_array,
    requantize,
    stages,
    tensor,
)


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 3, 4, 21), (1, 30, 30, 24)])
def test_identity(shape, dtype):
    rng = np.random.default_rng(sum(shape))
    values = {"x": random_array(rng, shape, dtype)}
    for channels in {1, shape[-1]}:
        made, arguments = stages(requantize(rng, channels, fan_in=1 / 16))
        op = operation(
            "identity",
            [tensor("x", values["x"]), *arguments],
            {"zero_point": -3, "epilogue": made},
            values,
        )
        check([op], values)


def test_identity_with_a_table_and_an_add():
    rng = np.random.default_rng(0)
    values = {"x": random_array(rng, (40, 18)), "r": random_array(rng, (40, 18), "int16")}
    table = lookup(rng, -133, 122, "int16")
    made, arguments = stages(table, add("r", values["r"], "int16", -32767, 32767))
    params = {"zero_point": 5, "epilogue": made}
    op = operation("identity", [tensor("x", values["x"]), *arguments], params, values)
    check([op], values)


@pytest.mark.parametrize("size", [1, 15, 4096, 70000])
def test_long_vectors(size):
    rng = np.random.default_rng(size)
    values = {"x": random_array(rng, (size,))}
    made, arguments = stages(lookup(rng, -128, 127))
    params = {"zero_point": 0, "epilogue": made}
    op = operation("identity", [tensor("x", values["x"]), *arguments], params, values)
    check([op], values, [DEFAULT])


SHAPES = [
    ((4, 6), (4, 6)),
    ((1,), (1,)),
    ((2, 5, 5, 18), (18,)),
    ((2, 5, 5, 18), (2, 1, 1, 18)),
    ((2, 6, 3), (6, 3)),
    ((2, 6, 33), (2, 6, 1)),
    ((1, 33), (6, 1)),
    ((3, 40), (1,)),
    ((1, 33, 40, 20), (1, 33, 40, 20)),
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("channelwise", [False, True])
def test_add(shapes, channelwise):
    rng = np.random.default_rng(sum(shapes[0]))
    values = {
        "a": random_array(rng, shapes[0], "int16"),
        "b": random_array(rng, shapes[1], "int8"),
    }
    last = max(shapes[0][-1], shapes[1][-1]) if channelwise else 1
    multipliers = [rng.integers(0, 2**22, n).astype(np.int32) for n in (last, 1)]
    params = {
        "zero_point_a": 0,
        "zero_point_b": -9,
        "shift": 21,
        "zero_point": 4,
        "low": -32767,
        "high": 32767,
        "dtype": "int16",
    }
    arguments = [tensor(n, values[n]) for n in "ab"] + [constant(m) for m in multipliers]
    check([operation("add", arguments, params, values)], values)


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_multiply(shapes):
    rng = np.random.default_rng(sum(shapes[0]))
    values = {"a": random_array(rng, shapes[0]), "b": random_array(rng, shapes[1], "uint8")}
    made, arguments = stages(requantize(rng, 1, fan_in=64))
    params = {"zero_point_a": 7, "zero_point_b": 100, "epilogue": made}
    head = [tensor(n, values[n]) for n in "ab"]
    check([operation("multiply", [*head, *arguments], params, values)], values)


def test_multiply_by_a_constant():
    rng = np.random.default_rng(1)
    values = {"a": random_array(rng, (5, 20))}
    factor = random_array(rng, (20,), "int16")
    made, arguments = stages(requantize(rng, 20, fan_in=2**14))
    params = {"zero_point_a": 7, "zero_point_b": 0, "epilogue": made}
    head = [tensor("a", values["a"]), constant(factor)]
    check([operation("multiply", [*head, *arguments], params, values)], values)


@pytest.mark.parametrize(
    ("shape", "axes", "keepdims"),
    [
        ((1, 8, 8, 40), [1, 2], False),
        ((2, 3, 3, 18), [-3, -2], True),
        ((2, 7, 5), [1], False),
        ((5, 33), [1], False),
        ((70, 5), [-1], True),
        ((2, 3, 4), [0, 1, 2], True),
        ((3, 1), [1], False),
    ],
)
def test_reduce_sum(shape, axes, keepdims):
    rng = np.random.default_rng(sum(shape))
    values = {"x": random_array(rng, shape, "int16")}
    made, arguments = stages(requantize(rng, 1, fan_in=2**12))
    params = {"axes": axes, "keepdims": keepdims, "zero_point": -2, "epilogue": made}
    op = operation("reduce_sum", [tensor("x", values["x"]), *arguments], params, values)
    check([op], values)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((2, 7, 5, 12), [1]), ((2, 3, 2, 2, 40), [1, 2]), ((2, 5, 33), [1]), ((3, 2, 2, 16), [0])],
)
def test_sums_whose_channels_have_a_scale_each(shape, axes):
    rng = np.random.default_rng(sum(shape))
    values = {"x": random_array(rng, shape)}
    made, arguments = stages(requantize(rng, shape[-1], fan_in=2**5))
    params = {"axes": axes, "keepdims": False, "zero_point": 3, "epilogue": made}
    check([operation("reduce_sum", [tensor("x", values["x"]), *arguments], params, values)], values)


def test_a_sum_over_separate_axes_is_refused():
    values = {"x": np.zeros((2, 3, 4), np.int8)}
    params = {"axes": [0, 2], "keepdims": False, "zero_point": 0, "epilogue": []}
    op = operation("reduce_sum", [tensor("x", values["x"])], params, values)
    with pytest.raises(UnsupportedModelError, match="separate axes"):
        compile_operations([op], ["y"])


POOLS = [
    ((1, 4, 4, 3), [2, 2], [2, 2], [0, 0, 0, 0]),
    ((2, 9, 8, 20), [3, 3], [2, 2], [1, 1, 1, 1]),
    ((1, 7, 7, 17), [7, 7], [1, 1], [0, 0, 0, 0]),
    ((1, 40, 30, 33), [3, 2], [1, 2], [1, 0, 1, 1]),
]


@pytest.mark.parametrize("case", POOLS, ids=str)
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_pools(case, dtype):
    shape, kernel, strides, padding = case
    rng = np.random.default_rng(sum(shape))
    values = {"x": random_array(rng, shape, dtype)}
    params = {"kernel": kernel, "strides": strides, "padding": padding}
    check([operation("max_pool2d", [tensor("x", values["x"])], params, values)], values)
    made, arguments = stages(requantize(rng, shape[-1], fan_in=64))
    params = {**params, "zero_point": 11, "epilogue": made}
    op = operation("avg_pool2d", [tensor("x", values["x"]), *arguments], params, values)
    check([op], values)


def test_multipliers_by_position_are_refused():
    values = {"x": np.zeros((1, 3, 3, 2), np.int8)}
    stage = {"kind": "requantize", "zero_point": 0, "low": -128, "high": 127, "dtype": "int8"}
    multiplier = constant(np.full((2, 2, 1), 2**30, np.int32))
    params = {"kernel": [2, 2], "strides": [1, 1], "padding": [0] * 4, "zero_point": 0}
    arguments = [tensor("x", values["x"]), multiplier, constant(np.full((2, 2, 1), 31, np.int32))]
    op = operation("avg_pool2d", arguments, {**params, "epilogue": [stage]}, values)
    with pytest.raises(UnsupportedModelError, match="vary with the position"):
        compile_operations([op], ["y"])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32"])
@pytest.mark.parametrize(
    ("size", "shape", "strides", "offset"),
    [
        (120, (2, 3, 4, 5), (60, 20, 5, 1), 0),
        (120, (4, 5, 2, 3), (5, 1, 60, 20), 0),
        (120, (3, 4, 2, 5), (20, 5, 60, 1), 0),
        (120, (5,), (24,), 3),
        (6, (4, 6), (0, 1), 0),
        (1, (1, 1), (1, 1), 0),
        (4096, (8, 2, 8, 32), (512, 32, 64, 1), 0),
    ],
)
def test_view(size, shape, strides, offset, dtype):
    rng = np.random.default_rng(size)
    values = {"x": random_array(rng, (size,), dtype)}
    params = {"shape": list(shape), "strides": list(strides), "offset": offset}
    check([operation("view", [tensor("x", values["x"])], params, values)], values)


def test_a_large_transposition():
    rng = np.random.default_rng(3)
    values = {"x": random_array(rng, (32, 32, 144))}
    params = {"shape": [4, 144, 256], "strides": [36864, 1, 144], "offset": 0}
    check([operation("view", [tensor("x", values["x"])], params, values)], values, [DEFAULT])


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_concat(axis, dtype):
    rng = np.random.default_rng(2)
    shapes = [[3, 4, 20], [3, 4, 20], [3, 4, 20]]
    for count, shape in enumerate(shapes, start=1):
        shape[axis] = 7 * count
    values = {n: random_array(rng, s, dtype) for n, s in zip("abc", shapes, strict=True)}
    arguments = [tensor(n, v) for n, v in values.items()]
    check([operation("concat", arguments, {"axis": axis}, values)], values)


def test_pad():
    rng = np.random.default_rng(2)
    values = {"x": random_array(rng, (2, 5, 18))}
    params = {"pads": [[0, 1], [2, 0], [3, 4]], "value": -7}
    check([operation("pad", [tensor("x", values["x"])], params, values)], values)


def test_dead_tensors_give_their_memory_back():
    rng = np.random.default_rng(5)
    values = {"x0": random_array(rng, (100, 40))}
    made, arguments = stages(lookup(rng, -128, 127))
    ops = []
    for index in range(6):
        source = tensor(f"x{index}", np.zeros((100, 40), np.int8))
        params = {"zero_point": 0, "epilogue": made}
        draft = {**values, source.value: np.zeros((100, 40), np.int8)}
        ops.append(operation("identity", [source, *arguments], params, draft, f"x{index + 1}"))
    for program in check(ops, values, [TINY, DEFAULT]):
        assert program.image_address < 4 * 4096
