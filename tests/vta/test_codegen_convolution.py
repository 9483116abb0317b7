"""Convolutions on the accelerator, bit for bit."""

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


def conv2d(seed, shape, outputs, kernel, strides=(1, 1), padding=(0, 0, 0, 0), **options):
    rng = np.random.default_rng(seed)
    groups = options.get("groups", 1)
    x = random_array(rng, shape)
    values = {"x": x}
    weight = random_array(rng, (outputs, *kernel, shape[3] // groups))
    bias = rng.integers(-(2**16), 2**16, outputs).astype(np.int32)
    parts = [requantize(rng, outputs, fan_in=16)]
    if options.get("table"):
        parts.append(lookup(rng, -128, 127))
    params = {
        "strides": list(strides),
        "padding": list(padding),
        "dilation": list(options.get("dilation", (1, 1))),
        "groups": groups,
        "pad_value": options.get("pad_value", -7),
    }
    head = [tensor("x", x), constant(weight), constant(bias)]
    if options.get("residual"):
        bare = operation("conv2d", head, {**params, "epilogue": []}, values)
        values["r"] = random_array(rng, bare.shape, "int16")
        first = requantize(rng, outputs, "int16", zero_point=0)
        parts = [first, add("r", values["r"], "int16", -32767, 32767)]
    made, arguments = stages(*parts)
    op = operation("conv2d", [*head, *arguments], {**params, "epilogue": made}, values)
    return op, values


ONE = (1, 1, 1, 1)


@pytest.mark.parametrize(
    "case",
    [
        ((1, 5, 5, 3), 4, (3, 3), (1, 1), ONE, {}),
        ((2, 9, 7, 17), 21, (3, 3), (2, 2), ONE, {"table": True}),
        ((1, 8, 8, 20), 18, (1, 1), (1, 1), (0, 0, 0, 0), {"residual": True}),
        ((1, 8, 8, 20), 18, (1, 1), (2, 2), (0, 0, 0, 0), {}),
        ((1, 12, 10, 24), 24, (3, 3), (1, 1), ONE, {"groups": 24}),
        ((1, 12, 10, 19), 19, (3, 3), (2, 2), ONE, {"groups": 19, "table": True}),
        ((1, 9, 9, 12), 24, (3, 3), (1, 1), ONE, {"groups": 12}),
        ((1, 9, 9, 40), 20, (3, 3), (1, 1), ONE, {"groups": 4}),
        ((1, 11, 13, 6), 5, (3, 2), (1, 2), (2, 0, 1, 1), {"dilation": (2, 3)}),
        ((1, 6, 6, 16), 16, (3, 3), (1, 1), ONE, {"residual": True, "pad_value": 0}),
        ((1, 4, 4, 8), 8, (4, 4), (4, 4), (0, 0, 0, 0), {}),
        ((1, 1, 30, 8), 8, (1, 5), (1, 1), (0, 2, 0, 2), {}),
    ],
    ids=str,
)
def test_conv2d(case):
    *shape, options = case
    op, values = conv2d(sum(shape[0]), *shape, **options)
    check([op], values)


def test_a_convolution_larger_than_every_buffer():
    op, values = conv2d(1, (1, 32, 32, 192), 96, (3, 3), (1, 1), ONE, residual=True)
    check([op], values, [DEFAULT])
    op, values = conv2d(2, (1, 20, 20, 24), 12, (3, 3), (1, 1), ONE)
    check([op], values, [TINY])


def test_rows_are_reused_between_layers_while_the_first_still_runs():
    first, values = conv2d(3, (1, 64, 64, 16), 16, (3, 3), (1, 1), ONE)
    head = [tensor("y", np.zeros((1, 64, 64, 16), np.int8)), *first.arguments[1:]]
    values["y"] = np.zeros((1, 64, 64, 16), np.int8)
    second = operation("conv2d", head, first.params, values, "z")
    check([first, second], {"x": values["x"]}, outputs=["y", "z"])


def test_padding_beyond_the_fields_is_refused():
    op, _ = conv2d(4, (1, 20, 20, 4), 4, (3, 3), (1, 1), (16, 0, 0, 0))
    with pytest.raises(UnsupportedModelError, match="at most 15"):
        compile_operations([op], ["y"])
