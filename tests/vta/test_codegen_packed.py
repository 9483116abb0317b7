"""Few channels: planes interleaved by products, and windows' rows as one entry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.vta.arch import DEFAULT
from hyq_tvm.vta.codegen import compile_operations
from hyq_tvm.vta.codegen.interleave import MOST_CHANNELS, Planes, planes_of
from hyq_tvm.vta.timing import time_program
from tests.vta.operations import check, lookup, operation, random_array, requantize, stages, tensor
from tests.vta.operations import constant as const
from tests.vta.test_codegen_convolution import conv2d


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("channels", [2, 3, 4, 5])
@pytest.mark.parametrize("positions", [1, 15, 16, 33, 400])
def test_planes_are_interleaved(positions, channels, dtype):
    rng = np.random.default_rng(positions)
    values = {"x": random_array(rng, (channels, positions), dtype)}
    params = {"shape": [positions, channels], "strides": [1, positions], "offset": 0}
    view = operation("view", [tensor("x", values["x"])], params, values)
    default, _ = check([view], values)
    products = default.count("GEMM")
    assert (products > 0) == (channels <= MOST_CHANNELS and positions > 1)


def test_images_from_the_framework_are_interleaved():
    rng = np.random.default_rng(1)
    values = {"x": random_array(rng, (3 * 96 * 96,))}
    params = {"shape": [96 * 96, 3], "strides": [1, 96 * 96], "offset": 0}
    view = operation("view", [tensor("x", values["x"])], params, values)
    (program,) = check([view], values, [DEFAULT])
    assert program.count("GEMM") == 3 * program.count("STORE")


def test_other_walks_are_no_planes():
    assert planes_of([20, 3], [[1, 20], [3, 1]], "int8") == Planes(3, 20, 20)
    assert planes_of([20, 3], [[1, 20], [3, 1]], "int16") is None
    assert planes_of([20, 3], [[2, 40], [3, 1]], "int8") is None
    assert planes_of([20, 3], [[1, 20], [4, 1]], "int8") is None
    assert planes_of([20, 5], [[1, 20], [5, 1]], "int8") is None
    assert planes_of([20], [[2], [1]], "int8") is None


@pytest.mark.parametrize(
    "case",
    [
        ((1, 9, 9, 3), 16, (3, 3), (2, 2), (1, 1, 1, 1), {}),
        ((2, 9, 8, 1), 5, (3, 3), (1, 1), (1, 1, 1, 1), {"table": True}),
        ((1, 6, 7, 3), 20, (5, 5), (1, 1), (2, 2, 2, 2), {"residual": True}),
        ((1, 12, 5, 2), 7, (2, 7), (1, 3), (1, 3, 0, 3), {"dilation": (2, 1)}),
        ((1, 4, 4, 4), 33, (4, 4), (4, 4), (0, 0, 0, 0), {"pad_value": 0}),
        ((1, 40, 40, 3), 16, (3, 3), (2, 2), (0, 0, 1, 1), {}),
    ],
    ids=str,
)
def test_windows_over_few_channels(case):
    *shape, options = case
    op, values = conv2d(sum(shape[0]), *shape, **options)
    check([op], values)


@pytest.mark.parametrize("padding", [(3, 0, 0, 0), (0, 0, 3, 0)])
def test_rows_of_windows_of_padding_alone(padding):
    op, values = conv2d(0, (1, 3, 3, 2), 6, (2, 2), (1, 1), padding)
    check([op], values)


@pytest.mark.parametrize("padding", [(0, 3, 0, 0), (0, 0, 0, 3)])
def test_columns_of_windows_of_padding_alone_are_refused(padding):
    op, _ = conv2d(0, (1, 3, 3, 2), 6, (2, 2), (1, 1), padding)
    with pytest.raises(UnsupportedModelError, match="wholly in the padding"):
        compile_operations([op], ["y"])


@given(
    st.integers(1, 4),
    st.tuples(st.integers(1, 4), st.integers(2, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(*(st.integers(0, 2) for _ in range(4))),
    st.integers(0, 1000),
)
@settings(max_examples=25)
def test_any_window_over_few_channels(channels, kernel, strides, padding, seed):
    padding = tuple(min(p, k - 1) for p, k in zip(padding, (*kernel, *kernel), strict=True))
    op, values = conv2d(seed, (1, 7, 9, channels), 6, kernel, strides, padding, pad_value=-3)
    check([op], values, [DEFAULT])


def test_a_row_of_a_window_takes_one_product():
    op, _ = conv2d(1, (1, 16, 16, 3), 16, (3, 3), (2, 2), (1, 1, 1, 1))
    packed = compile_operations([op], ["y"], DEFAULT)
    wide, _ = conv2d(1, (1, 16, 16, 8), 16, (3, 3), (2, 2), (1, 1, 1, 1))
    plain = compile_operations([wide], ["y"], DEFAULT)
    assert 3 * steps(packed) == steps(plain)


def steps(program):
    return time_program(program).products


@pytest.mark.parametrize("scalar", [True, False])
def test_a_table_takes_a_requantize_behind_it_along(scalar):
    rng = np.random.default_rng(2)
    values = {"x": random_array(rng, (30, 20))}
    last = requantize(rng, 1 if scalar else 20, "int8", fan_in=1)
    parts = [requantize(rng, 20), lookup(rng, -128, 127, "int16"), last]
    made, arguments = stages(*parts)
    weight, bias = random_array(rng, (20, 20)), np.zeros(20, np.int32)
    op = operation(
        "dense",
        [tensor("x", values["x"]), const(weight), const(bias), *arguments],
        {"epilogue": made},
        values,
    )
    default, _ = check([op], values)
    assert default.count("VECTOR") == (1 if scalar else 2) * default.count("STORE")
