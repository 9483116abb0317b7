"""Clauses SM1 to SM9: the integer softmax against Python integers and the published rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyq_tvm.errors import ConfigError
from hyq_tvm.numerics import OPERATORS
from hyq_tvm.numerics.exponential import (
    INTEGER_KINDS,
    LN2,
    exponent_bits,
    grid_requantizer,
    hyq_constants,
    line_offset,
    linear_constants,
    mantissa_table,
    poly2_constants,
)
from hyq_tvm.numerics.reference.softmax import (
    hyq_codes,
    log2_codes,
    normalized_uint8,
    probabilities,
    row_rescale,
)
from hyq_tvm.numerics.softmax_tables import probability_rescale

softmax = OPERATORS["softmax"]
RNG = np.random.default_rng(31)
OWN_KINDS = tuple(kind for kind in INTEGER_KINDS if kind != "hyq")


def rows(length, scale=0.05, count=6, dtype=np.int32):
    x = np.rint(RNG.normal(size=(count, length)) * 3 / scale).astype(dtype)
    x[0], x[1, 0], x[1, 1:] = 0, 1000, -1000
    return x


def weight_sm3(d, fraction_bits, bits):
    """The unbounded integers of SM3: a shift by more than the width leaves nothing."""
    offset = round(1.9544632 * 2**fraction_bits)
    mantissa = (offset - d % 2**fraction_bits) << (bits - offset.bit_length())
    return mantissa >> (d >> fraction_bits)


def uint8_sm8(e, bits):
    total = sum(e)
    h = total.bit_length()
    m = ((255 << (h + 22 - bits)) + (total >> 1)) // total
    z = h + 6 - bits
    assert 0 < m < 1 << (31 - bits) or bits > 31
    assert z >= 1
    assert max(e) * m < 2**31
    return [(((w * m) >> 16) + (1 << (z - 1))) >> z for w in e]


@pytest.mark.parametrize("length", [1, 2, 15, 17, 197, 256, 257, 1024, 4096])
@pytest.mark.parametrize("fraction_bits", [1, 4, 6, 8])
def test_sm3_linear_pot_equals_python_integers(length, fraction_bits):
    x = rows(length, LN2 / 2**fraction_bits, 3).tolist()
    bits = exponent_bits(length)
    result = softmax(np.array(x), fraction_bits=fraction_bits)
    for row, got in zip(x, result.tolist(), strict=True):
        e = [weight_sm3(max(row) - v, fraction_bits, bits) for v in row]
        assert sum(e) < 2**31
        assert got == uint8_sm8(e, bits)


@pytest.mark.parametrize("tokens", [1, 2, 256, 257, 512, 1024, 4096, 4097, 8192, 65536])
def test_sm3_the_sum_of_a_row_fits_int32(tokens):
    bits = exponent_bits(tokens)
    assert bits >= 15
    assert tokens * (2**bits - 1) < 2**31


@pytest.mark.parametrize("tokens", [0, -1, 65537])
def test_sm3_refuses_lengths(tokens):
    with pytest.raises(ConfigError, match="rows have"):
        exponent_bits(tokens)


def test_sm3_the_line_at_four_fraction_bits():
    assert line_offset(4) == 31
    assert [weight_sm3(d, 4, 15) for d in (0, 15, 16, 239, 240)] == [31744, 16384, 15872, 1, 0]


def test_sm4_mantissas_are_powers_of_two():
    table = mantissa_table(4, 15)
    assert table[0] == 32767
    assert table[8] == math.floor(32767 * 2**-0.5 + 0.5)
    assert np.all(np.diff(table) < 0)
    assert table[-1] > 32767 // 2


@pytest.mark.parametrize("scale", [1e-7, 3e-4, 0.0433, 0.3, 1.0, 4.0, 1000.0])
def test_sm2_grid_requantizer_is_within_half_a_step(scale):
    requantizer = grid_requantizer(scale, 4, 197)
    multiplier, pre_shift, shift = (int(t[0]) for t in requantizer.tensors)
    assert 2**14 <= multiplier < 2**15
    top = min(2**31 - 1, int(16 * LN2 / scale))
    for d in sorted({0, 1, top // 3, top // 2, max(top - 1, 0), top}):
        narrow = min((d + (1 << pre_shift >> 1)) >> pre_shift, 2**15 - 1)
        step = (narrow * multiplier + (1 << (shift - 1))) >> shift
        exact = d * scale * 16 / LN2
        assert step >= 256 or abs(step - exact) <= 0.5 + exact * 2**-14 + 2**-7


def test_sm2_a_saturated_difference_weighs_nothing():
    for scale in (6e-9, 1e-4, 1.0, 1e6):
        tensors = grid_requantizer(scale, 4, 2).tensors
        x = np.array([[2**31 - 1, -(2**31)]], dtype=np.int32)
        assert softmax(x, *tensors).tolist() == [[255, 0]]


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf, 1e-10])
def test_sm2_refuses_scales(scale):
    with pytest.raises(ConfigError, match="scale"):
        grid_requantizer(scale, 4, 16)


@pytest.mark.parametrize("exponent", range(-23, 21))
def test_sm5_sm6_steps_are_fine_at_every_scale(exponent):
    for scale in (2.0**exponent * 0.9999, 2.0**exponent):
        line, polynomial = linear_constants(scale), poly2_constants(scale)
        step = scale * 2.0**-line.logit_shift
        assert 2**-11 < step <= 2**-10
        assert (line.period, line.offset) == (round(LN2 / step), round(1.35471645 / step))
        step = scale * 2.0**-polynomial.logit_shift
        assert 2**-8 < step <= 2**-7
        assert polynomial.constant == round(2.79211445 / step**2)
        assert polynomial.offset > polynomial.period


@pytest.mark.parametrize("scale", [2.0**-27, 2.0**21, 0.0])
def test_sm5_refuses_scales(scale):
    with pytest.raises(ConfigError, match="scale"):
        linear_constants(scale)


def published(x, scale):
    """The published arithmetic in Python integers, and fractions rounded half to even."""
    x0, b = math.floor(-0.6931 / scale), math.floor(0.12121466 / 0.08947606 / scale)
    shifted = [max(v - max(x), 30 * x0) for v in x]
    q = [v // x0 for v in shifted]
    e = [max((v - x0 * k + b) * 2 ** (30 - k), 0) for v, k in zip(shifted, q, strict=True)]
    codes = []
    for weight in e:
        if weight == 0:
            codes.append(16)
            continue
        whole, rest = divmod(sum(e), weight)
        ratio = whole + (2 * rest > weight or (2 * rest == weight and whole % 2 == 1))
        big = ratio.bit_length() - 1
        codes.append(min(big + (2 * (ratio - 2**big) >= 2**big), 16))
    return e, codes


@pytest.mark.parametrize(
    "scale", [0.01, 0.0433, 0.1, 0.2, 0.3, 0.5, 0.69, 0.7, 1.0, 1.35, 1.4, 3.0]
)
def test_sm7_hyq_to_the_letter(scale):
    x = np.clip(rows(64, scale), -128, 127).astype(np.int8)
    result = softmax(x, kind="hyq", output="log2_4bit", scale=scale)
    expected = [published(row, scale)[1] for row in x.astype(int).tolist()]
    np.testing.assert_array_equal(result, np.array(expected, dtype=np.uint8))
    shares = softmax(x, kind="hyq", scale=scale)
    for row, got in zip(x.astype(int).tolist(), shares.tolist(), strict=True):
        e = published(row, scale)[0]
        total = max(sum(e), 1)
        assert got == [(255 * w + (total >> 1)) // total for w in e]


def test_sm7_zero_by_zero_is_nothing_and_never_nan():
    x = np.zeros((1, 4), dtype=np.int8)
    assert hyq_constants(1.4, 4).offset == 0
    codes = softmax(x, kind="hyq", output="log2_4bit", scale=1.4)
    assert codes.tolist() == [[16] * 4]
    assert probabilities(codes, "hyq", "log2_4bit").tolist() == [[0.0] * 4]
    assert softmax(x, kind="hyq", scale=1.4).tolist() == [[0] * 4]


def test_sm7_codes_round_half_even_then_at_three_halves():
    e = np.array([[2, 5, 93]], dtype=np.int64)
    assert hyq_codes(e).tolist() == [[6, 4, 0]]
    thirds = np.array([[1, 1, 1]], dtype=np.int64)
    assert hyq_codes(thirds).tolist() == [[2, 2, 2]]
    halves = np.array([[2, 3]], dtype=np.int64)
    assert hyq_codes(halves).tolist() == [[1, 1]]
    dust = np.array([[1, 2**20, 0]], dtype=np.int64)
    assert hyq_codes(dust).tolist() == [[16, 0, 16]]


def test_sm7_refuses_widths_beyond_64_bits():
    with pytest.raises(ConfigError, match="64 bits"):
        hyq_constants(1e-7, 197)


@pytest.mark.parametrize("bits", [15, 16, 17, 19])
def test_sm8_uint8_is_within_an_lsb_of_exact(bits):
    e = RNG.integers(0, 2**bits, (200, 12))
    e[:, 0] = RNG.integers(2 ** (bits - 1), 2**bits, 200)
    e[0, 1:], e[1] = 0, 2**bits - 1
    total = e.sum(axis=-1, keepdims=True)
    result = normalized_uint8(e, total, bits)
    assert result.tolist() == [uint8_sm8(row, bits) for row in e.tolist()]
    assert np.abs(result - 255 * e / total).max() <= 0.5 + 1 / 16 + 255 * 2.0 ** (bits - 31)
    assert result[0].tolist() == [255] + [0] * 11


def test_sm9_codes_round_the_ratio_at_three_halves():
    e = RNG.integers(0, 2**15, (300, 9))
    e[:, 0] = 2**15 - 1
    e[0] = [2**14, *([2**13] * 2), *([0] * 6)]
    codes = log2_codes(e, e.sum(axis=-1, keepdims=True))
    for row, got in zip(e.tolist(), codes.tolist(), strict=True):
        total = sum(row)
        for weight, code in zip(row, got, strict=True):
            # code = floor(log2(4/3 * total / weight)), in integers
            exact = 15
            while exact > 0 and (weight == 0 or 3 * weight << exact > 4 * total):
                exact -= 1
            assert code == (15 if weight == 0 else exact)


def test_sm9_only_four_bits_are_used():
    for kind in OWN_KINDS:
        codes = softmax(rows(300, LN2 / 16), kind=kind, output="log2_4bit")
        assert codes.max() == 15
        assert probabilities(np.array([0, 1, 14, 15]), kind, "log2_4bit").tolist() == [
            1.0,
            0.5,
            2.0**-14,
            0.0,
        ]


@given(
    a=st.integers(-(2**27), 2**27), total=st.integers(1, 2**20), ratio=st.floats(2.0**-20, 2.0**20)
)
def test_at5_one_division_a_row_is_exact_division(a, total, ratio):
    mantissa, exponent = math.frexp(ratio)
    multiplier, shift = int(mantissa * 2**31), 31 - exponent
    got = row_rescale(np.array([[a]]), np.array([[total]]), multiplier, shift)[0, 0]
    exact = a * multiplier / total * 2.0**-shift
    assert abs(got - exact) <= 0.5 + abs(exact) * 2.0**-29


def test_grid_output_holds_small_probabilities():
    x = np.zeros((1, 1000), dtype=np.int16)
    multiplier, shift = probability_rescale(1e-5)
    params = {"rescale_multiplier": multiplier, "rescale_shift": shift, "zero_point": -120}
    result = softmax(x, output="grid", low=-128, high=127, dtype="int8", **params)
    np.testing.assert_array_equal(result, np.full((1, 1000), -20, dtype=np.int8))


@pytest.mark.parametrize("kind", OWN_KINDS)
def test_saturation_ends_and_equal_rows(kind):
    for dtype in (np.int8, np.int16, np.int32):
        info = np.iinfo(dtype)
        for value in (info.min, 0, info.max):
            x = np.full((1, 51), value, dtype=dtype)
            assert softmax(x, kind=kind).tolist() == [[5] * 51]
        x = np.full((1, 30), info.min, dtype=dtype)
        x[0, 7] = info.max
        assert softmax(x, kind=kind)[0, 7] == 255
        assert softmax(x, kind=kind).sum() == 255
    assert softmax(np.array([[-5]]), kind=kind).tolist() == [[255]]


@pytest.mark.parametrize("kind", OWN_KINDS)
def test_more_is_never_less_within_a_row(kind):
    x = np.arange(-400, 1)[np.newaxis]
    result = softmax(x, kind=kind, fraction_bits=5).astype(int)
    assert np.all(np.diff(result) >= 0)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"kind": "quadratic"}, ConfigError, "quadratic"),
        ({"output": "uint4"}, ConfigError, "uint4"),
        ({"kind": "hyq", "output": "grid"}, ConfigError, "hyq"),
        ({"fraction_bits": 0}, ConfigError, "fraction_bits"),
        ({"fraction_bits": 9}, ConfigError, "fraction_bits"),
        ({"kind": "linear", "scale": -1.0}, ConfigError, "scale"),
    ],
)
def test_softmax_refuses(arguments, error, match):
    with pytest.raises(error, match=match):
        softmax(np.zeros((1, 3), dtype=np.int8), **arguments)


@pytest.mark.parametrize(("kind", "count"), [("linear_pot", 1), ("table", 2), ("linear", 3)])
def test_softmax_refuses_the_wrong_number_of_tensors(kind, count):
    one = np.ones(1, dtype=np.int32)
    with pytest.raises(ValueError, match="tensors"):
        softmax(np.zeros((1, 3), dtype=np.int8), *[one] * count, kind=kind)


def test_probability_rescale_and_probabilities_refuse():
    for scale in (0.0, 2.0, 2.0**-30):
        with pytest.raises(ConfigError, match="probability scale"):
            probability_rescale(scale)
    with pytest.raises(ConfigError, match="caller"):
        probabilities(np.zeros(1, dtype=np.uint8), "table", "grid")
