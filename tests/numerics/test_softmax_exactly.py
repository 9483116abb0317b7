"""Clauses SM1 to SM9: every kind and output of the integer softmax, digit by digit."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from hyq_tvm.errors import ConfigError
from hyq_tvm.numerics import OPERATORS
from hyq_tvm.numerics.exponential import LN2, exponent_bits, hyq_constants
from hyq_tvm.numerics.reference.softmax import hyq_codes, hyq_weights, log2_codes, probabilities
from hyq_tvm.numerics.softmax_tables import probability_rescale

softmax = OPERATORS["softmax"]
RNG = np.random.default_rng(77)
LINE = 0.12121466 / 0.08947606
SLOPE, CONSTANT = 0.96963238 / 0.35815147, 1.0 / 0.35815147


def weight_sm5_sm6(d, kind, scale, bits):
    """Unbounded integers: nothing is clipped, because far octaves shift everything out."""
    shift = 0
    finest = 2.0**-10 if kind == "linear" else 2.0**-7
    while scale / 2.0**shift > finest:
        shift += 1
    while scale / 2.0**shift <= finest / 2:
        shift -= 1
    step = scale / 2.0**shift
    period = round(LN2 / step)
    fine = d << shift if shift >= 0 else (d + (1 << (-shift - 1))) >> -shift
    octave, r = divmod(fine, period)
    if kind == "linear":
        top = round(LINE / step)
        z = top - r
    else:
        top = round(CONSTANT / step**2)
        z = top - r * (round(SLOPE / step) - r)
    spare = bits - top.bit_length()
    return (z << max(spare, 0)) >> (octave + max(-spare, 0))


def uint8_sm8(e, bits):
    total = sum(e)
    h = total.bit_length()
    m = ((255 << (h + 22 - bits)) + (total >> 1)) // total
    return [(((w * m) >> 16) + (1 << (h + 5 - bits))) >> (h + 6 - bits) for w in e]


def code_sm9(w, total):
    """``floor(log2(4/3 * total / w))``, at most 15."""
    if w == 0:
        return 15
    ratio, code = Fraction(4 * total, 3 * w), 0
    while ratio >= 2 ** (code + 1):
        code += 1
    return min(code, 15)


def code_sm7(w, total):
    """Of the published repository: the quotient rounds half to even, its logarithm at 3/2."""
    if w == 0:
        return 16
    ratio = round(Fraction(total, w))
    floor = ratio.bit_length() - 1
    return min(floor + (2 * ratio >= 3 << floor), 16)


def rescaled_at5(w, total, multiplier, shift):
    h = total.bit_length()
    reciprocal = ((multiplier << h) + (total >> 1)) // total
    return (w * reciprocal + (1 << (h + shift - 1))) >> (h + shift)


def logits(scale, tokens):
    """``[2, 3, tokens]``: more than two axes, small and far differences."""
    spread = np.array([0.5, 3.0, 20.0]).reshape(1, 3, 1)
    x = np.rint(RNG.normal(size=(2, 3, tokens)) * spread / scale)
    return np.clip(x, -(2**30), 2**30).astype(np.int32)


@pytest.mark.parametrize("tokens", [1, 5, 256, 600, 2048])
@pytest.mark.parametrize("scale", [3e-6, 2.0**-10, 2.0**-7, 0.0009, 0.011, 0.2, 3.0])
@pytest.mark.parametrize("kind", ["linear", "poly2"])
def test_sm5_sm6_equal_python_integers(kind, scale, tokens):
    x = logits(scale, tokens)
    bits = exponent_bits(tokens)
    pair = probability_rescale(1 / 300)
    got = softmax(x, kind=kind, scale=scale)
    codes = softmax(x, kind=kind, scale=scale, output="log2_4bit")
    grid = softmax(
        x, kind=kind, scale=scale, output="grid",
        rescale_multiplier=pair[0], rescale_shift=pair[1], high=290, dtype="int16",
    )  # fmt: skip
    for place in np.ndindex(2, 3):
        row = x[place].tolist()
        e = [weight_sm5_sm6(max(row) - v, kind, scale, bits) for v in row]
        assert got[place].tolist() == uint8_sm8(e, bits)
        assert codes[place].tolist() == [code_sm9(w, sum(e)) for w in e]
        assert grid[place].tolist() == [min(rescaled_at5(w, sum(e), *pair), 290) for w in e]


@pytest.mark.parametrize("kind", ["linear_pot", "table"])
def test_sm3_sm4_rows_are_along_the_last_of_any_axes(kind):
    x = logits(LN2 / 16, 700)
    rows = softmax(x.reshape(6, 700), kind=kind)
    np.testing.assert_array_equal(softmax(x, kind=kind), rows.reshape(x.shape))


@pytest.mark.parametrize("kind", ["linear", "poly2", "hyq"])
def test_sm1_a_scale_left_out_is_that_of_the_grid(kind):
    x = logits(LN2 / 32, 9)
    wanted = softmax(x, kind=kind, scale=LN2 / 32)
    np.testing.assert_array_equal(softmax(x, kind=kind, fraction_bits=5), wanted)


@pytest.mark.parametrize("scale", [0.004, 0.09, 0.7, 1.0])
def test_sm7_equals_python_integers(scale):
    x = logits(scale, 7)
    period, offset = -math.floor(-0.6931 / scale), math.floor(LINE / scale)
    codes = softmax(x, kind="hyq", scale=scale, output="log2_4bit")
    got = softmax(x, kind="hyq", scale=scale)
    for place in np.ndindex(2, 3):
        row = x[place].tolist()
        pairs = [divmod(min(max(row) - v, 30 * period), period) for v in row]
        e = [max(offset - r, 0) << (30 - q) for q, r in pairs]
        difference = np.array([max(row) - v for v in row])
        assert hyq_weights(difference, scale).tolist() == e
        total = sum(e)
        assert codes[place].tolist() == [code_sm7(w, total) for w in e]
        assert got[place].tolist() == [(255 * w + (total >> 1)) // total for w in e]


def test_sm7_codes_of_all_small_rows():
    rows = list(itertools.product(range(8), repeat=3))
    wanted = [[code_sm7(w, sum(row)) for w in row] for row in rows]
    np.testing.assert_array_equal(hyq_codes(np.array(rows)), wanted)
    np.testing.assert_array_equal(
        hyq_codes(np.array(rows).reshape(8, 64, 3)).reshape(-1, 3), wanted
    )


def test_sm9_codes_of_all_small_rows():
    rows = [row for row in itertools.product(range(8), repeat=3) if any(row)]
    e = np.array(rows)
    wanted = [[code_sm9(w, sum(row)) for w in row] for row in rows]
    np.testing.assert_array_equal(log2_codes(e, e.sum(axis=-1, keepdims=True)), wanted)


def test_sm3_widths_at_every_power_of_two():
    widths = {1: 15, 256: 15, 257: 16, 512: 16, 1024: 17, 2048: 18, 4096: 19, 4097: 18, 8192: 18}
    assert {tokens: exponent_bits(tokens) for tokens in widths} == widths


def test_sm7_weights_that_would_leave_int64_are_refused():
    widest = LINE / 1.5 / 2**23  # an offset of 24 bits
    assert hyq_constants(widest, 128).offset.bit_length() == 24
    for scale, tokens in [(widest, 129), (widest / 2, 128), (widest / 2, 1)]:
        with pytest.raises(ConfigError, match="64 bits"):
            hyq_constants(scale, tokens)
    assert hyq_constants(widest * 2, 256).offset.bit_length() == 23


def test_sm9_what_codes_stand_for():
    codes = np.array([0, 1, 15, 16])
    np.testing.assert_array_equal(
        probabilities(codes, "hyq", "log2_4bit"), [1.0, 0.5, 2.0**-15, 0.0]
    )
    np.testing.assert_array_equal(
        probabilities(codes[:3] - [0, 0, 1], "table", "log2_4bit"), [1.0, 0.5, 2.0**-14]
    )
    np.testing.assert_array_equal(probabilities(np.array([15]), "table", "log2_4bit"), [0.0])


def test_sm8_limits_of_the_grids_scale():
    assert probability_rescale(2.0**-29)[1] >= 0
    assert math.ldexp(probability_rescale(1.0)[0], -probability_rescale(1.0)[1]) == 1.0
    for scale in (2.0**-30, 1.01):
        with pytest.raises(ConfigError, match="probability scale"):
            probability_rescale(scale)


def test_sm8_without_a_zero_point_nothing_is_added():
    pair = probability_rescale(2.0**-8)
    settings = {"output": "grid", "rescale_multiplier": pair[0], "rescale_shift": pair[1]}
    assert softmax(np.zeros((1, 4), np.int32), **settings).tolist() == [[64, 64, 64, 64]]
