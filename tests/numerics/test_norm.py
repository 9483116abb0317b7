"""Clauses LN1 to LN5: integer LayerNorm and GroupNorm against exact and float arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyq_tvm.errors import AccumulatorOverflowError
from hyq_tvm.numerics import OPERATORS
from hyq_tvm.numerics.reference.norm import count_shift, inverse_root, layer_norm_constants

RNG = np.random.default_rng(20)
WIDTHS = (1, 2, 3, 5, 16, 17, 63, 64, 144, 192, 240, 384, 1000, 1023, 1024)


def exact_row(x, g, b, epsilon, shift, zero_point, low, high):
    """LN2 to LN5 for one row in Python integers, which have no width."""
    x, count = [int(v) for v in x], len(x)
    total = sum(x)
    variance = max(1, count * sum(v * v for v in x) - total * total + epsilon)
    zeros = (64 - variance.bit_length()) & ~1
    v = (variance << zeros) >> 32
    root = math.isqrt((1 << 62) // v)
    sh = 32 - zeros // 2
    out = []
    for value, gain, offset in zip(x, g, b, strict=True):
        n = ((count * value - total) * root + (1 << (sh - 1))) >> sh
        scaled = (n * int(gain) + int(offset) + (1 << (shift - 1))) >> shift
        out.append(min(max(scaled + zero_point, low), high))
    return out


def real_norm(x, scale, gamma, beta, eps, axes=-1):
    real = x.astype(np.float64) * scale
    centred = real - real.mean(axis=axes, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=axes, keepdims=True) + eps)
    return centred / deviation * gamma + beta


def params(constants, **changes):
    _, _, epsilon, shift = constants
    base = {"epsilon": epsilon, "shift": shift, "zero_point": 0, "low": -128, "high": 127}
    return {**base, "dtype": "int8", **changes}


def test_ln3_inverse_root_is_the_largest_that_fits():
    edges = [1 << 30, (1 << 32) - 1, (1 << 31) - 1, 1 << 31]
    squares = [(1 << 62) // r**2 + d for r in range(32768, 65536, 999) for d in (-1, 0, 1)]
    v = np.array([x for x in edges + squares if 1 << 30 <= x < 1 << 32], dtype=np.int64)
    for value, root in zip(v.tolist(), inverse_root(v).tolist(), strict=True):
        assert root**2 * value <= 2**62 < (root + 1) ** 2 * value


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("width", WIDTHS)
def test_ln_equals_python_integers(width, dtype):
    info = np.iinfo(dtype)
    x = RNG.integers(info.min, info.max + 1, (8, width)).astype(dtype)
    x[0], x[1], x[2] = info.max, info.min, 0
    x[3], x[3, 0] = info.min, info.max
    x[4, ::2], x[4, 1::2] = -info.max, info.max
    x[5] = RNG.integers(-1, 2, width)
    constants = layer_norm_constants(
        RNG.normal(size=width) * 3, RNG.normal(size=width), 1e-5, 0.01, 0.02, width
    )
    g, b, epsilon, shift = constants
    result = OPERATORS["layer_norm"](x, g, b, **params(constants, zero_point=-9))
    expected = [exact_row(row, g, b, epsilon, shift, -9, -128, 127) for row in x]
    np.testing.assert_array_equal(result, np.array(expected, dtype=np.int8))


@given(st.data())
def test_ln_equals_python_integers_anywhere(data):
    width = data.draw(st.integers(1, 40))
    x = np.array([data.draw(st.lists(st.integers(-32768, 32767), min_size=width, max_size=width))])
    g = np.array(data.draw(st.lists(st.integers(-32767, 32767), min_size=width, max_size=width)))
    b = np.array(data.draw(st.lists(st.integers(-(2**61), 2**61), min_size=width, max_size=width)))
    epsilon, shift = data.draw(st.integers(0, 2**61)), data.draw(st.integers(1, 46))
    chosen = {"epsilon": epsilon, "shift": shift, "zero_point": 0, "low": -32767, "high": 32767}
    result = OPERATORS["layer_norm"](x.astype(np.int16), g, b, **chosen, dtype="int16")
    assert result[0].tolist() == exact_row(x[0], g, b, epsilon, shift, 0, -32767, 32767)


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("width", WIDTHS[1:])
def test_ln_is_within_one_lsb_of_float(width, dtype):
    scale = {"int8": 0.05, "int16": 0.0004}[dtype]
    spread = RNG.choice([3, 30, 100], size=(64, 1)) * (1 if dtype == "int8" else 80)
    x = np.clip(np.rint(RNG.normal(size=(64, width)) * spread), -127, 127 * 258).astype(dtype)
    gamma, beta = RNG.uniform(-2, 2, width), RNG.normal(size=width)
    real = real_norm(x, scale, gamma, beta, 1e-5)
    scale_out = np.abs(real).max() / 127
    constants = layer_norm_constants(gamma, beta, 1e-5, scale, scale_out, width)
    result = OPERATORS["layer_norm"](x, *constants[:2], **params(constants))
    error = np.abs(result - np.clip(real / scale_out, -128, 127))
    # Over a handful of int8 values the integer E is a coarse eps.
    assert error.max() <= (0.52 if width >= 16 or dtype == "int16" else 0.8)
    rounded = np.clip(np.rint(real / scale_out), -128, 127)
    assert np.abs(result - rounded).max() <= 1


def test_ln_with_an_output_scale_per_channel():
    x = RNG.integers(-3000, 3000, (50, 96)).astype(np.int16)
    gamma, beta = RNG.uniform(0.1, 8, 96), RNG.normal(size=96)
    real = real_norm(x, 0.001, gamma, beta, 1e-6)
    scale_out = np.abs(real).max(axis=0) / 127
    constants = layer_norm_constants(gamma, beta, 1e-6, 0.001, scale_out, 96)
    result = OPERATORS["layer_norm"](x, *constants[:2], **params(constants))
    assert np.abs(result - real / scale_out).max() <= 0.52


def test_ln_int16_output():
    x = RNG.integers(-32767, 32768, (40, 192)).astype(np.int16)
    gamma, beta = RNG.uniform(0.5, 2, 192), RNG.normal(size=192)
    real = real_norm(x, 0.001, gamma, beta, 1e-6)
    scale_out = np.abs(real).max() / 32767
    constants = layer_norm_constants(gamma, beta, 1e-6, 0.001, scale_out, 192)
    wide = params(constants, low=-32767, high=32767, dtype="int16")
    result = OPERATORS["layer_norm"](x, *constants[:2], **wide)
    assert np.abs(result - real / scale_out).max() <= 3


def test_ln_rows_without_variance_give_beta():
    x = np.full((2, 8), 77, dtype=np.int8)
    for eps in (0.0, 1e-5):
        constants = layer_norm_constants(np.ones(8), np.full(8, 0.5), eps, 0.1, 0.05, 8)
        result = OPERATORS["layer_norm"](x, *constants[:2], **params(constants, zero_point=3))
        np.testing.assert_array_equal(result, np.full((2, 8), 13, dtype=np.int8))


def test_ln_eps_counts_where_the_variance_is_small():
    x = np.array([[1, -1, 1, -1]], dtype=np.int8)
    constants = layer_norm_constants(np.ones(4), np.zeros(4), 3e-4, 0.01, 1 / 100, 4)
    result = OPERATORS["layer_norm"](x, *constants[:2], **params(constants))
    np.testing.assert_array_equal(result, [[50, -50, 50, -50]])


@pytest.mark.parametrize(
    ("shape", "groups"), [((1, 1, 1), 1), ((2, 5, 6), 3), ((2, 49, 64), 1), ((1, 256, 128), 1)]
)
def test_group_norm_is_layer_norm_over_each_group(shape, groups):
    batch, positions, channels = shape
    x = RNG.integers(-32767, 32768, shape).astype(np.int16)
    gamma, beta = RNG.uniform(0.5, 2, channels), RNG.normal(size=channels)
    width = channels // groups
    constants = layer_norm_constants(gamma, beta, 1e-5, 0.001, 0.03, positions * width)
    g, b, epsilon, shift = constants
    result = OPERATORS["group_norm"](x, g, b, groups=groups, **params(constants))
    for sample in range(batch):
        for group in range(groups):
            part = slice(group * width, (group + 1) * width)
            row = x[sample, :, part].ravel()
            gain, offset = np.tile(g[part], positions), np.tile(b[part], positions)
            expected = exact_row(row, gain, offset, epsilon, shift, 0, -128, 127)
            np.testing.assert_array_equal(result[sample, :, part].ravel(), expected)


@pytest.mark.parametrize("positions", [256, 257, 512, 1024, 8192])
def test_group_norm_at_the_largest_counts(positions):
    extremes = RNG.choice([-32768, 32767], size=(1, positions, 128))
    spread = RNG.normal(9000, 20, size=(1, positions, 128)).round()
    for values in (extremes, spread):
        x = values.astype(np.int16)
        x[0, 0, 0] = 0
        count = positions * 128
        constants = layer_norm_constants(np.ones(128), np.zeros(128), 1e-5, 0.01, 0.01, count)
        result = OPERATORS["group_norm"](x, *constants[:2], groups=1, **params(constants))
        real = real_norm(x, 0.01, 1.0, 0.0, 1e-5, axes=(1, 2)) / 0.01
        assert np.abs(result - np.clip(real, -128, 127)).max() <= 0.52


@pytest.mark.parametrize(
    ("count", "shift"),
    [(1, 0), (2**15 - 1, 0), (2**15, 0), (2**15 + 1, 1), (2**16, 1), (2**16 + 1, 2), (2**20, 5)],
)
def test_ln1_moments_lose_bits_beyond_32768_elements(count, shift):
    assert count_shift(count) == shift


def test_ln2_large_groups_in_python_integers():
    """LN2 and LN3 with K = 1, written out without any width."""
    x = RNG.integers(-32768, 32768, (1, 257, 128)).astype(np.int16)
    constants = layer_norm_constants(np.ones(128), np.zeros(128), 1e-5, 0.001, 0.02, 257 * 128)
    g, b, epsilon, shift = constants
    result = OPERATORS["group_norm"](x, g, b, groups=1, **params(constants))
    values, count = [int(v) for v in x.ravel()], 257 * 128
    total, squares = sum(values), sum(v * v for v in values)
    mean = (total + count // 2) // count
    v = max(1, count * ((squares - 2 * mean * total + count * mean * mean) >> 2) + epsilon)
    zeros = (64 - v.bit_length()) & ~1
    root = math.isqrt((1 << 62) // ((v << zeros) >> 32))
    bits = 32 - zeros // 2
    for place in (0, 1, 4711, count - 1):
        d = (count * values[place] - total + 1) >> 1
        n = (d * root + (1 << (bits - 1))) >> bits
        out = (n * int(g[place % 128]) + int(b[place % 128]) + (1 << (shift - 1))) >> shift
        assert result.ravel()[place] == min(max(out, -128), 127)


@pytest.mark.parametrize("count", [0, 2**20 + 1])
def test_ln1_refuses_counts_that_do_not_fit(count):
    with pytest.raises(AccumulatorOverflowError, match=str(count)):
        layer_norm_constants(np.ones(1), np.zeros(1), 1e-5, 1.0, 1.0, count)


def test_ln1_refuses_an_operator_over_too_many_elements():
    x = np.zeros((1, 8193, 128), dtype=np.int8)
    ones = np.ones(128, dtype=np.int64)
    with pytest.raises(AccumulatorOverflowError, match="1048704"):
        OPERATORS["group_norm"](x, ones, ones, groups=1, **params((0, 0, 0, 1)))


def test_group_norm_refuses_groups_that_do_not_divide():
    x, ones = np.zeros((1, 4, 6), dtype=np.int8), np.ones(6, dtype=np.int64)
    with pytest.raises(ValueError, match="4 groups"):
        OPERATORS["group_norm"](x, ones, ones, groups=4, **params((0, 0, 0, 1)))


@pytest.mark.parametrize("epsilon", [2**62 - 1, 2**62])
def test_ln2_refuses_a_variance_beyond_62_bits(epsilon):
    x = np.array([[1, -1]], dtype=np.int8)
    one = np.ones(2, dtype=np.int64)
    with pytest.raises(AccumulatorOverflowError, match="2\\^62"):
        OPERATORS["layer_norm"](x, one, one, **params((0, 0, epsilon, 1)))


def test_ln4_constants_use_their_bits():
    g, b, epsilon, shift = layer_norm_constants([0.5, -2.0], [1.0, 0.0], 1e-5, 0.01, 0.1, 4)
    assert (shift, epsilon) == (15 + 10, 2)
    assert g.tolist() == [5 * 2**10, -20 * 2**10]
    assert b.tolist() == [10 * 2**25, 0]
    assert (g.dtype, b.dtype) == (np.int32, np.int64)


@pytest.mark.parametrize("gain", [32767.0, 32767.4, 32768.0, 1e-9, 1.0])
def test_ln4_gamma_fits_int16(gain):
    g, _, _, shift = layer_norm_constants([gain], [0.0], 0.0, 1.0, 1.0, 4)
    assert abs(int(g[0])) <= 32767
    assert shift == 46 or abs(int(g[0])) >= 2**14 - 1


def test_ln4_zero_gamma_and_large_beta():
    g, b, _, shift = layer_norm_constants([0.0], [2.0**40], 0.0, 1.0, 1.0, 4)
    assert (int(g[0]), int(b[0]), shift) == (0, 2**61, 21)
    assert layer_norm_constants([0.0], [0.0], 0.0, 1.0, 1.0, 4)[3] == 46


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"gamma": [np.nan]}, ValueError, "gamma"),
        ({"beta": [np.inf]}, ValueError, "beta"),
        ({"gamma": []}, ValueError, "gamma"),
        ({"eps": -1.0}, ValueError, "eps"),
        ({"eps": np.nan}, ValueError, "eps"),
        ({"scale_in": 0.0}, ValueError, "scales"),
        ({"scale_out": -1.0}, ValueError, "scales"),
        ({"scale_out": 1e-12}, ValueError, "too small"),
        ({"scale_in": 1e-12, "eps": 1.0}, AccumulatorOverflowError, "eps"),
    ],
)
def test_ln4_refuses_what_has_no_integers(changes, error, match):
    base = {"gamma": [1.0], "beta": [0.0], "eps": 1e-5, "scale_in": 0.1, "scale_out": 0.1}
    with pytest.raises(error, match=match):
        layer_norm_constants(**{**base, "channels": 64, **changes})
