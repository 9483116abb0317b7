"""Operators of random shapes, axes and epilogues: the accelerator against the golden model."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.numerics.exponential import GRID_KINDS
from hyq_tvm.numerics.softmax_tables import probability_rescale
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

SIDES = (1, 1, 2, 3, 5, 7, 15, 16, 17, 33)
LIMIT = 4000
"""Elements of a tensor, so that a case takes a moment."""


def shape_of(rng, rank):
    """Sides with ones, primes and blocks with their neighbours."""
    while True:
        shape = tuple(int(rng.choice(SIDES)) for _ in range(rank))
        if math.prod(shape) <= LIMIT:
            return shape


def draft(op, arguments, params, values):
    """What the operator makes without an epilogue: its shape and range."""
    bare = evaluate(operation(op, arguments, {**params, "epilogue": []}, values), values)
    return bare.shape, int(np.abs(bare.astype(np.int64)).max())


def finished(rng, op, arguments, params, values):
    """The operator with a random epilogue that uses most of its range."""
    shape, peak = draft(op, arguments, params, values)
    channels = int(rng.choice([1, shape[-1]]))
    dtype = str(rng.choice(["int8", "int16"]))
    gain = max(peak, 1) / 2 ** (6 if dtype == "int8" else 14)
    parts = [requantize(rng, channels, dtype, int(rng.integers(-5, 6)), fan_in=gain)]
    if dtype == "int8" and rng.random() < 0.4:
        parts.append(lookup(rng, -128, 127, str(rng.choice(["int8", "int16"]))))
    elif (dtype == "int16" and parts[0][0]["zero_point"] == 0) or rng.random() < 0.3:
        values["r"] = random_array(rng, shape, "int16")
        parts.append(add("r", values["r"], "int16", -32767, 32767))
    made, tensors = stages(*parts)
    return operation(op, [*arguments, *tensors], {**params, "epilogue": made}, values)


def reduce_sum(rng):
    """Over neighbouring axes anywhere."""
    x = random_array(
        rng, shape_of(rng, int(rng.integers(1, 5))), str(rng.choice(["int8", "int16"]))
    )
    first = int(rng.integers(0, x.ndim))
    last = int(rng.integers(first, x.ndim))
    params = {
        "axes": list(range(first, last + 1)),
        "keepdims": last - first == x.ndim - 1 or bool(rng.random() < 0.5),
        "zero_point": int(rng.integers(-9, 10)),
    }
    return "reduce_sum", [tensor("x", x)], params, {"x": x}


def identity(rng):
    """Of any rank."""
    x = random_array(
        rng, shape_of(rng, int(rng.integers(1, 5))), str(rng.choice(["int8", "int16"]))
    )
    return "identity", [tensor("x", x)], {"zero_point": int(rng.integers(-9, 10))}, {"x": x}


def multiply(rng):
    """Of two tensors, either of which is repeated along some axes."""
    shape = shape_of(rng, int(rng.integers(1, 5)))
    sides = [tuple(1 if rng.random() < 0.25 else n for n in shape) for _ in range(2)]
    values = {n: random_array(rng, s) for n, s in zip("ab", sides, strict=True)}
    params = {"zero_point_a": int(rng.integers(-9, 10)), "zero_point_b": int(rng.integers(-9, 10))}
    return "multiply", [tensor(n, values[n]) for n in "ab"], params, values


def avg_pool2d(rng):
    """Any window that a side holds, any stride."""
    n, h, w, c = shape_of(rng, 4)
    kernel = [int(rng.integers(1, side + 1)) for side in (h, w)]
    x = random_array(rng, (n, h, w, c))
    params = {
        "kernel": kernel,
        "strides": [int(rng.integers(1, 4)) for _ in range(2)],
        "padding": [int(rng.integers(0, k)) for k in kernel * 2],
        "zero_point": int(rng.integers(-9, 10)),
    }
    return "avg_pool2d", [tensor("x", x)], params, {"x": x}


def dense(rng):
    """Any sizes; the bias shows which channel is which."""
    rows, k, n = shape_of(rng, 3)
    x, weight = random_array(rng, (rows, k)), random_array(rng, (n, k))
    bias = rng.integers(-(2**12), 2**12, n).astype(np.int32)
    return "dense", [tensor("x", x), constant(weight), constant(bias)], {}, {"x": x}


def conv2d(rng):
    """Any kernel, stride, dilation, padding and number of groups that leave a pixel."""
    n, h, w, _ = shape_of(rng, 4)
    groups, inner, outer = (int(rng.choice([1, 1, 2, 3, 5, 16])) for _ in range(3))
    if rng.random() < 0.3:
        inner = 1
    kernel, dilation = rng.integers(1, 4, 2), rng.integers(1, 3, 2)
    padding = [int(rng.integers(0, k)) for k in (*kernel, *kernel)]
    reach = (kernel - 1) * dilation + 1
    h, w = (max(side, int(r)) for side, r in zip((h, w), reach, strict=True))
    x = random_array(rng, (min(n, 3), min(h, 9), min(w, 9), groups * inner))
    weight = random_array(rng, (groups * outer, *kernel.tolist(), inner))
    bias = rng.integers(-(2**12), 2**12, groups * outer).astype(np.int32)
    params = {
        "strides": rng.integers(1, 4, 2).tolist(),
        "padding": padding,
        "dilation": dilation.tolist(),
        "groups": groups,
        "pad_value": int(rng.integers(-128, 128)),
    }
    return "conv2d", [tensor("x", x), constant(weight), constant(bias)], params, {"x": x}


def softmax(rng):
    """Every kind and output, on the grid that models have."""
    rows, tokens = shape_of(rng, 2)
    x = random_array(rng, (rows, tokens), str(rng.choice(["int8", "int16"])))
    kind = str(rng.choice(["linear_pot", "table", "linear", "poly2"]))
    params = {"kind": kind, "output": str(rng.choice(["uint8", "grid", "grid"]))}
    params["fraction_bits"] = 4 if kind in GRID_KINDS else 8
    if params["output"] == "grid":
        dtype = str(rng.choice(["uint8", "int8", "int16"]))
        info = np.iinfo(dtype)
        multiplier, shift = probability_rescale(float(2.0 ** -rng.uniform(2, 14)))
        params |= {
            "rescale_multiplier": multiplier,
            "rescale_shift": shift,
            "zero_point": int(info.min if rng.random() < 0.5 else 0),
            "low": int(info.min),
            "high": int(info.max),
            "dtype": dtype,
        }
    return "softmax", [tensor("x", x)], params, {"x": x}


MAKERS = (reduce_sum, identity, multiply, avg_pool2d, dense, conv2d, softmax)
COMPLETE = frozenset({"softmax"})
"""Operators without an epilogue."""


def case(maker, seed):
    """One operator; the accelerator has it right or says that it cannot."""
    rng = np.random.default_rng(seed)
    op, arguments, params, values = maker(rng)
    whole = operation if op in COMPLETE else partial(finished, rng)
    made = whole(op, arguments, params, values)
    try:
        check([made], values)
    except UnsupportedModelError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_operators(maker, seed):
    case(maker, seed)


@pytest.mark.slow
@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_thousands_of_operators(maker, record_property):
    refused = [text for text in (case(maker, seed) for seed in range(1000)) if text]
    record_property("refused", len(refused))
    assert len(refused) < 300, refused[:3]
