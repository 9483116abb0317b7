"""Clauses S1, S2, R32, N2, N4: rounding and saturation."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyq_tvm.errors import AccumulatorOverflowError
from hyq_tvm.numerics import fixed_point as fp

INT32_EDGES = sorted(
    {
        sign * 2**i + d
        for i in range(32)
        for d in (-2, -1, 0, 1, 2)
        for sign in (-1, 1)
        if -(2**31) <= sign * 2**i + d < 2**31
    }
)
INT32 = st.one_of(st.sampled_from(INT32_EDGES), st.integers(-(2**31), 2**31 - 1))
MULTIPLIERS = [0, 1, 2, 3, 2**15, 2**30 - 1, 2**30, 2**30 + 1, 2**31 - 2, 2**31 - 1]


def nearest(value: Fraction) -> int:
    """The nearest integer, ties toward +infinity, in exact arithmetic."""
    return floor(value + Fraction(1, 2))


@pytest.mark.parametrize(
    ("halves", "expected"),
    # The worked tie table of docs/numerics.md: x / 2 to the nearest, ties toward +infinity.
    [(-7, -3), (-5, -2), (-3, -1), (-1, 0), (1, 1), (3, 2), (5, 3), (7, 4), (-4, -2), (4, 2)],
)
def test_s1_ties_go_toward_plus_infinity(halves, expected):
    assert int(fp.rounding_shift(np.array(halves), 1)) == expected
    scaled = fp.requantize(np.array([halves]), [2**30], [31], 0, -128, 127)
    np.testing.assert_array_equal(scaled, [expected])


def test_s1_shift_zero_is_the_identity():
    x = np.array([-(2**62), -1, 0, 1, 2**62])
    np.testing.assert_array_equal(fp.rounding_shift(x, 0), x)


def test_s1_every_16_bit_value_and_shift():
    x = np.arange(-(2**15), 2**15)
    for shift in range(1, 18):
        exact = np.floor_divide(2 * x + (1 << shift), 2 << shift)
        np.testing.assert_array_equal(fp.rounding_shift(x, shift), exact)


@pytest.mark.parametrize("shift", [-1, 63])
def test_s1_refuses_shifts_outside_0_to_62(shift):
    with pytest.raises(ValueError, match=r"outside 0\.\.62"):
        fp.rounding_shift(np.array([1]), shift)


def test_s2_saturates_every_16_bit_value_to_8_bits():
    x = np.arange(-(2**15), 2**15, dtype=np.int16)
    expected = [min(max(v, -128), 127) for v in x.tolist()]
    np.testing.assert_array_equal(fp.saturate(x, -128, 127), expected)


def test_s2_bounds_beyond_the_dtype_do_not_wrap():
    x = np.array([-128, 127], dtype=np.int8)
    np.testing.assert_array_equal(fp.saturate(x, -1000, 1000), x)
    np.testing.assert_array_equal(fp.saturate(x, 200, 300), [200, 200])


def test_s2_refuses_an_empty_range():
    with pytest.raises(ValueError, match="empty range"):
        fp.saturate(np.array([1]), 3, 2)


def test_r32_equals_exact_arithmetic_on_all_edges():
    acc = np.array(INT32_EDGES, dtype=np.int64)
    low, high = -(2**15), 2**15 - 1
    for multiplier in MULTIPLIERS:
        for shift in (1, 2, 15, 30, 31, 32, 33, 47, 61, 62):
            got = fp.requantize(acc, [multiplier], [shift], 7, low, high)
            exact = [nearest(Fraction(a * multiplier, 2**shift)) + 7 for a in INT32_EDGES]
            np.testing.assert_array_equal(got, np.clip(np.array(exact, dtype=object), low, high))


@given(
    acc=INT32,
    multiplier=st.one_of(st.sampled_from(MULTIPLIERS), st.integers(0, 2**31 - 1)),
    shift=st.integers(1, 62),
    zero_point=st.integers(-128, 127),
)
def test_r32_is_one_rounding_then_zero_point_then_saturation(acc, multiplier, shift, zero_point):
    exact = nearest(Fraction(acc * multiplier, 2**shift)) + zero_point
    got = fp.requantize(np.array([acc]), [multiplier], [shift], zero_point, -128, 127)
    assert int(got[0]) == min(max(exact, -128), 127)


def test_r32_broadcasts_multipliers_from_the_right():
    acc = np.arange(-12, 12).reshape(2, 3, 4) * 1000
    m = np.array([2**30, 2**30 + 1, 2**31 - 1, 3])
    s = np.array([31, 35, 40, 1])
    got = fp.requantize(acc, m, s, 0, -(2**31), 2**31 - 1)
    for channel in range(4):
        one = fp.requantize(acc[..., channel], m[channel], s[channel], 0, -(2**31), 2**31 - 1)
        np.testing.assert_array_equal(got[..., channel], one)


@pytest.mark.parametrize(
    ("multiplier", "shift", "message"),
    [([-1], [31], "multiplier"), ([2**31], [31], "multiplier"), ([1], [0], "shift"),
     ([1], [63], "shift"), ([1, 2], [3], "differ in shape")],
)  # fmt: skip
def test_r32_refuses_what_64_bits_do_not_hold(multiplier, shift, message):
    with pytest.raises(ValueError, match=message):
        fp.requantize(np.array([1, 1]), multiplier, shift, 0, -128, 127)


def test_n4_accumulators_beyond_int32_are_an_error_not_a_wrap():
    with pytest.raises(AccumulatorOverflowError, match="2147483648"):
        fp.requantize(np.array([2**31]), [1], [1], 0, -128, 127)
    with pytest.raises(AccumulatorOverflowError):
        fp.as_int32(np.array([2**31], dtype=np.uint32))
    assert fp.as_int32(np.array([-(2**31), 2**31 - 1])).tolist() == [-(2**31), 2**31 - 1]


def test_as_dtype_refuses_values_that_do_not_fit():
    with pytest.raises(ValueError, match="does not fit int8"):
        fp.as_dtype(np.array([0, 128]), "int8")
    assert fp.as_dtype(np.array([-128, 127]), "int8").dtype == np.int8


@given(
    st.floats(2.0**-32, 2.0**29.9, allow_nan=False),
    st.integers(2, 31),
)
def test_r32_multiplier_is_nearest(real, bits):
    if real >= 2.0 ** (bits - 1) * (1 - 2.0**-bits):
        with pytest.raises(ValueError, match="far too small"):
            fp.quantize_multiplier([real], bits)
        return
    (m,), (s,) = (a.tolist() for a in fp.quantize_multiplier([real], bits))
    assert 1 <= s <= 62
    assert 0 <= m < 2**bits
    assert m >= 2 ** (bits - 1) or s == 62
    assert abs(Fraction(m, 2**s) - Fraction(real)) <= Fraction(1, 2 ** (s + 1))


@pytest.mark.parametrize(
    ("real", "multiplier", "shift"),
    [
        (1.0, 2**30, 30),
        (0.5, 2**30, 31),
        (1 - 2**-31, 2**31 - 1, 31),
        (1 - 2**-33, 2**30, 30),  # rounds to 2^31, which becomes 2^30 and one shift less
        (2.0**29, 2**30, 1),
        (2.0**30 - 1, 2**31 - 2, 1),
        (2.0**-32, 2**30, 62),
        (2.0**-33, 2**29, 62),
        (2.0**-62, 1, 62),
        (5e-324, 0, 62),
    ],
)
def test_r32_multiplier_at_the_edges(real, multiplier, shift):
    m, s = fp.quantize_multiplier([real])
    assert (int(m[0]), int(s[0])) == (multiplier, shift)
    assert m.dtype == s.dtype == np.int32


@pytest.mark.parametrize("real", [2.0**30, 2.0**30 * (1 - 2**-40), 1e300])
def test_r32_multiplier_too_large_is_refused(real):
    with pytest.raises(ValueError, match="far too small"):
        fp.quantize_multiplier([0.5, real])


@pytest.mark.parametrize("real", [0.0, -1.0, np.nan, np.inf])
def test_r32_multiplier_must_be_positive_and_finite(real):
    with pytest.raises(ValueError, match="positive finite"):
        fp.quantize_multiplier([1.0, real])


def test_r32_multiplier_width_is_checked():
    with pytest.raises(ValueError, match="bits=32"):
        fp.quantize_multiplier([1.0], bits=32)


@given(st.lists(st.floats(1e-6, 100.0), min_size=2, max_size=4), st.sampled_from([14, 15, 31]))
def test_a1_multipliers_share_the_shift_of_the_largest(reals, bits):
    multipliers, shift = fp.quantize_multipliers(*([r] for r in reals), bits=bits)
    values = [int(m[0]) for m in multipliers]
    assert 2 ** (bits - 1) <= max(values) <= 2**bits - 1
    for value, real in zip(values, reals, strict=True):
        assert abs(Fraction(value, 2**shift) - Fraction(real)) <= Fraction(1, 2 ** (shift + 1))


def test_n2_quantize_rounds_half_to_even():
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.5000002], dtype=np.float32)
    np.testing.assert_array_equal(fp.quantize(x, 1.0, 0, -128, 127), [-2, -2, 0, 0, 2, 2, 3])
    np.testing.assert_array_equal(fp.quantize(x * 2, 2.0, 5, -128, 127), [3, 3, 5, 5, 7, 7, 8])


def test_n2_quantize_saturates_infinities_and_refuses_nan():
    x = np.array([-np.inf, -3e38, 3e38, np.inf], dtype=np.float32)
    got = fp.quantize(x, 1e-3, 3, -128, 127)
    np.testing.assert_array_equal(got, [-128, -128, 127, 127])
    with pytest.raises(ValueError, match="NaN"):
        fp.quantize(np.array([np.nan], dtype=np.float32), 1.0, 0, -128, 127)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf, 1e39, 1e-39])
def test_n2_scales_are_positive_normal_float32(scale):
    with pytest.raises(ValueError, match="scale"):
        fp.quantize(np.zeros(1, np.float32), scale, 0, -128, 127)
    with pytest.raises(ValueError, match="scale"):
        fp.dequantize(np.zeros(1, np.int8), scale, 0)


def test_n2_round_trip_of_every_8_bit_integer():
    q = np.arange(-128, 128, dtype=np.int8)
    for scale in (2.0**-20, 0.0123, 1.0, 7.7e5, 1e30):
        for zero_point in (-128, -3, 0, 127):
            real = fp.dequantize(q, scale, zero_point)
            assert real.dtype == np.float32
            np.testing.assert_array_equal(fp.quantize(real, scale, zero_point, -128, 127), q)


def test_n2_dequantize_per_channel_and_zero():
    q = np.array([[3, 4], [5, 6]], dtype=np.int16)
    got = fp.dequantize(q, [0.5, 0.25], 3)
    np.testing.assert_array_equal(got, np.array([[0, 0.25], [1, 0.75]], np.float32))
