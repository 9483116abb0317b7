"""The first values that integers hold and the first that they do not, clause by clause."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hyq_tvm.errors import AccumulatorOverflowError, ConfigError
from hyq_tvm.numerics import OPERATORS
from hyq_tvm.numerics.constants import (
    MASKED,
    quantize_attention_bias,
    quantize_bias,
    quantize_constant,
)
from hyq_tvm.numerics.exponential import exponent_bits, grid_requantizer
from hyq_tvm.numerics.fixed_point import as_int32, saturate
from hyq_tvm.numerics.qparams import integer_range, quantize_weight
from hyq_tvm.numerics.reference.attention import check_attention
from hyq_tvm.numerics.reference.matmul import exact_matmul
from hyq_tvm.numerics.reference.norm import layer_norm_constants
from hyq_tvm.numerics.softmax_tables import attention_constants, rescale_constants, weight_table
from hyq_tvm.numerics.windows import output_size

RNG = np.random.default_rng(91)
NORM = {"zero_point": 0, "low": -128, "high": 127, "dtype": "int8"}


def test_n1_constants_are_divided_by_their_scale():
    values = [[1.0, -3.0], [0.26, 100.0]]
    got = quantize_constant(values, [0.5, 0.25], 3, -128, 127, "int8")
    np.testing.assert_array_equal(got, [[5, -9], [4, 127]])
    assert got.dtype == np.int8
    with pytest.raises(ValueError, match="NaN"):
        quantize_constant([math.nan], 1.0, 0, -128, 127, "int8")


def test_n1_grids_have_2_to_16_bits():
    assert integer_range(2, True) == (-1, 1)
    assert integer_range(16, False) == (-(2**15), 2**15 - 1)
    for bits in (1, 17):
        with pytest.raises(ValueError, match="2 to 16"):
            integer_range(bits, False)


@pytest.mark.parametrize(
    ("outside", "inside"), [(-(2.0**31) - 1, -(2.0**31)), (2.0**31, 2**31 - 1)]
)
def test_n3_n4_int32_ends_where_it_ends(outside, inside):
    assert quantize_bias([inside], [1.0], [0], 0).tolist() == [inside]
    with pytest.raises(AccumulatorOverflowError, match="channel 1"):
        quantize_bias([0.0, outside], [1.0, 1.0], [0, 0], 0)
    assert as_int32(np.array([int(inside)])).tolist() == [inside]
    with pytest.raises(AccumulatorOverflowError):
        as_int32(np.array([int(outside)]))


def test_at1_biases_saturate_at_the_mask_on_either_side():
    bias = [-np.inf, -3e9, -1.0, 3e9, np.inf]
    wanted = [MASKED, MASKED, -2, -MASKED, -MASKED]
    np.testing.assert_array_equal(quantize_attention_bias(bias, 0.5), wanted)


def test_s2_bounds_of_the_dtype_itself_keep_the_dtype():
    assert saturate(np.array([5], np.int8), -128, 127).dtype == np.int8
    assert saturate(np.array([5], np.int8), -129, 127).dtype == np.int64
    assert saturate(np.array([5], np.int8), -128, 128).dtype == np.int64


def test_n4_long_sums_of_batches_are_exact():
    a = RNG.integers(-127, 128, (2, 3, 6000)).astype(np.int8)
    b = np.abs(RNG.integers(-127, 128, (2, 1, 6000))).astype(np.int8)
    a[0, 0] = 127
    wanted = np.einsum("bmk,bnk->bmn", a.astype(np.int64), b.astype(np.int64))
    assert wanted[0, 0, 0] % 2 == 1 or wanted[0, 0, 0] > 2**24
    np.testing.assert_array_equal(exact_matmul(a, b), wanted)


def test_n4_sums_beyond_doubles_are_exact():
    a = np.array([[[2**40, -(2**40)]], [[2**40 + 1, -(2**40)]]])
    b = np.array([[[2**20, 2**20], [1, 1], [3, 3]]] * 2)
    np.testing.assert_array_equal(exact_matmul(a, b), [[[0, 0, 0]], [[2**20, 1, 3]]])


def test_c1_a_channel_may_make_several():
    x = RNG.integers(-128, 128, (2, 6, 3, 3)).astype(np.int8)
    weight = RNG.integers(-127, 128, (6, 2, 2, 1)).astype(np.int8)
    got = OPERATORS["conv2d"](
        x, weight, np.zeros(6, np.int32),
        strides=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=3, pad_value=0, epilogue=[],
    )  # fmt: skip
    for b, i, j, o in np.ndindex(2, 5, 2, 6):
        patch = x[b, i : i + 2, j : j + 2, o // 2].astype(int)
        assert got[b, i, j, o] == (patch * weight[o, :, :, 0].astype(int)).sum()


def test_c1_padding_counts_where_a_window_is_larger_than_the_image():
    assert output_size(1, 1, 1, kernel=3, stride=1) == 1
    assert output_size(1, 2, 0, kernel=3, stride=1) == 1
    assert output_size(1, 0, 2, kernel=3, stride=1) == 1
    with pytest.raises(ValueError, match="window of 3"):
        output_size(1, 1, 0, kernel=3, stride=1)


def test_a1_a_multiplier_may_be_zero_but_not_negative():
    a, b, one = np.array([[5]], np.int8), np.array([[9]], np.int8), np.array([1 << 20], np.int32)
    settings = {
        "zero_point_a": 0, "zero_point_b": 0, "shift": 20, "zero_point": 0,
        "low": -128, "high": 127, "dtype": "int8",
    }  # fmt: skip
    add = OPERATORS["add"]
    assert add(a, b, one * 0, one, **settings).tolist() == [[9]]
    with pytest.raises(ValueError, match="multiplier"):
        add(a, b, -one, one, **settings)
    with pytest.raises(ValueError, match="multiplier"):
        add(a, b, one, one, multiplier_bits=20, **settings)
    assert add(a, b, one - 1, one - 1, multiplier_bits=20, **settings).tolist() == [[14]]


def test_ln4_scales_are_positive_and_shifts_begin_at_one():
    with pytest.raises(ValueError, match="positive"):
        layer_norm_constants([1.0], [0.0], 0.0, 1.0, [0.0], 1)
    with pytest.raises(ValueError, match="positive"):
        layer_norm_constants([1.0], [0.0], 0.0, 0.0, [1.0], 1)
    largest = 2.0**60  # of an offset with T = 1: it stays below 2^61
    assert layer_norm_constants([1.0], [largest], 0.0, 1.0, [1.0], 1)[3] == 1
    with pytest.raises(ValueError, match="far too small"):
        layer_norm_constants([1.0], [2 * largest], 0.0, 1.0, [1.0], 1)


def test_ln4_epsilon_stays_below_two_to_the_61():
    assert layer_norm_constants([1.0], [0.0], 2.0**60, 1.0, [1.0], 1)[2] == 2**60
    with pytest.raises(AccumulatorOverflowError, match="eps"):
        layer_norm_constants([1.0], [0.0], 2.0**61, 1.0, [1.0], 1)


def test_ln1_counts_end_at_two_to_the_20():
    gamma, beta = np.ones(1, np.int32), np.zeros(1, np.int64)
    settings = {"groups": 1, "epsilon": 0, "shift": 1, **NORM}
    assert (
        OPERATORS["group_norm"](np.zeros((1, 2**20, 1), np.int8), gamma, beta, **settings).any()
        == 0
    )
    with pytest.raises(AccumulatorOverflowError, match="elements"):
        OPERATORS["group_norm"](np.zeros((1, 2**20 + 1, 1), np.int8), gamma, beta, **settings)
    long = np.zeros((1, 2**20 + 1), np.int8)
    with pytest.raises(AccumulatorOverflowError, match="elements"):
        OPERATORS["layer_norm"](
            long, np.ones(long.shape[1], np.int32), beta, epsilon=0, shift=1, **NORM
        )


def test_ln2_variances_stay_below_two_to_the_62():
    x, gamma, beta = np.zeros((1, 2), np.int8), np.ones(2, np.int32), np.zeros(2, np.int64)
    OPERATORS["layer_norm"](x, gamma, beta, epsilon=2**62 - 1, shift=1, **NORM)
    with pytest.raises(AccumulatorOverflowError, match="V of a norm"):
        OPERATORS["layer_norm"](x, gamma, beta, epsilon=2**62, shift=1, **NORM)


def test_ln2_the_mean_of_many_rounds_to_the_nearest():
    """65,536 elements lose one bit, and 40,000 ones among them have the mean 1, not 0."""
    count, ones, gain = 2**16, 40_000, 3
    x = np.zeros((1, count, 1), np.int8)
    x[0, :ones] = 1
    settings = {"groups": 1, "epsilon": 0, "shift": 1, **NORM, "low": -(2**30), "high": 2**30}
    got = OPERATORS["group_norm"](
        x, np.array([gain], np.int32), np.zeros(1, np.int64), **{**settings, "dtype": "int32"}
    )
    squares = ones - 2 * ones + count
    variance = count * (squares >> 2)
    for value, place in ((1, 0), (0, count - 1)):
        centred = (count * value - ones + 1) >> 1
        lead = (64 - variance.bit_length()) & ~1
        root = math.isqrt((1 << 62) // ((variance << lead) >> 32))
        normalized = (centred * root + (1 << (31 - lead // 2))) >> (32 - lead // 2)
        assert got[0, place, 0] == (normalized * gain + 1) >> 1


def test_at6_heads_of_up_to_66572_products():
    scales = (0.1, 0.1, 0.1, 1.0, 0.1)
    attention_constants(*scales, head_dim=66_572, tokens=4)
    for head_dim in (0, 66_573):
        with pytest.raises(ConfigError, match="66,572"):
            attention_constants(*scales, head_dim=head_dim, tokens=4)


def test_at7_published_attention_has_the_ratios_of_its_scales():
    c = attention_constants(0.5, 0.25, 2.0, 0.5, 8.0, 4, 9, "hyq", logit_scale=0.125)
    assert math.ldexp(int(c["multiplier"][0]), -int(c["shift"][0])) == 0.5
    assert math.ldexp(c["rescale_multiplier"], -c["rescale_shift"]) == 0.25 / 2**15


@pytest.mark.parametrize("tokens", [1, 2, 3, 128, 129, 257, 258, 16384])
@pytest.mark.parametrize("weight_bits", [8, 16])
def test_at5_multipliers_are_as_long_as_62_bits_allow(weight_bits, tokens):
    bits = 31 if weight_bits == 8 else 23
    for exponent in range(2, 32):
        ratio = 1.37 * 2.0**-exponent
        multiplier, shift = rescale_constants(ratio, weight_bits, tokens)
        full = bits + exponent - 1
        room = 62 - (tokens * (2**weight_bits - 1)).bit_length()
        assert shift == min(full, room)
        assert abs(multiplier - ratio * 2.0**shift) <= 1
    with pytest.raises(ConfigError, match="too large"):
        rescale_constants(2.0**-70, weight_bits, tokens)


def attend(bias, **changes):
    """One query of zeros over keys of zeros: the bias is the logit, values are 0, 1, 2..."""
    tokens = len(bias)
    settings = {
        "kind": "table", "rescale_multiplier": 1 << 30, "rescale_shift": 20,
        "zero_point": 0, "low": -(2**15), "high": 2**15 - 1, "dtype": "int16", "has_bias": True,
    }  # fmt: skip
    table = changes.pop("table", weight_table("table", 4))
    values = np.arange(tokens, dtype=np.int8).reshape(1, tokens, 1)
    zeros = np.zeros((1, tokens, 1), np.int8)
    one = np.array([1 << 30], np.int32), np.array([30], np.int32)
    logits = np.array(bias, np.int32).reshape(1, 1, tokens)
    got = OPERATORS["attention"](
        zeros[:, :1], zeros, values, *one, table, logits, **{**settings, **changes}
    )
    return int(got[0, 0, 0])


def test_at2_logits_saturate_below_two_to_the_30():
    table = weight_table("table", 4).astype(int)
    top = 2**30 - 1
    even = attend([top, top])
    assert attend([top, top + 2]) == even
    weights = table[[0, 1]]
    ratio = 1024 * weights[1] / weights.sum()
    assert abs(attend([top, top - 1]) - ratio) <= 1
    assert attend([top, top - 1]) < even


def test_at7_published_logits_saturate_at_minus_128():
    from hyq_tvm.numerics.softmax_tables import log2_weights

    published = {"kind": "hyq", "table": log2_weights(), "logit_scale": 1.0, "rescale_shift": 30}
    assert attend([-128, -129], **published) == attend([-128, -128], **published)
    assert attend([128, 127], **published) == attend([127, 127], **published)
    assert attend([127, 126], **published) < attend([127, 127], **published)


def test_at1_a_bias_of_no_batch_is_refused():
    with pytest.raises(ValueError, match="attention bias"):
        check_attention((2, 3, 4), (2, 5, 4), (2, 5, 1), (0, 3, 5), True)
    check_attention((2, 3, 4), (2, 5, 4), (2, 5, 1), (2, 3, 5), True)
    check_attention((2, 3, 4), (2, 5, 4), (2, 5, 1), (1, 3, 5), True)


@pytest.mark.parametrize("tokens", [197, 1024, 65536])
def test_sm2_the_least_shift_that_keeps_the_whole_row_in_16_bits(tokens):
    steps = (exponent_bits(tokens) + 1) * 16
    for exponent in range(-24, 4):
        for factor in np.linspace(1.0, 2.0, 40):
            scale = factor * 2.0**exponent
            reach = steps * math.log(2) / 16 / scale
            shift = grid_requantizer(scale, 4, tokens).pre_shift
            assert reach / 2**shift <= 2**15 - 1
            assert shift == 0 or reach / 2 ** (shift - 1) > 2**15 - 1


def test_ln4_epsilon_counts_the_square_of_what_shares_a_mean():
    assert layer_norm_constants([1.0], [0.0], 0.5, 0.25, [1.0], 6)[2] == 36 * 8
    assert layer_norm_constants([1.0], [0.0], 0.5, 0.25, [1.0], 2**16)[2] == 2**32 * 8 >> 2


def test_ln4_gains_reach_the_largest_int16():
    gain, _, _, shift = layer_norm_constants([2.0**15 - 1, 1.0], [0.0, 0.0], 0.0, 1.0, [1.0], 2)
    assert (gain.tolist(), shift) == ([2**15 - 1, 1], 15)
    gain, _, _, shift = layer_norm_constants([2.0**15], [0.0], 0.0, 1.0, [1.0], 2)
    assert (gain.tolist(), shift) == ([2**14], 14)


def test_n1_weights_have_2_to_8_bits():
    weight = np.array([[1.0, -1.0, 0.2], [127.0, 4.0, -3.0]])
    got, scale = quantize_weight(weight, 2)
    assert got.tolist() == [[1, -1, 0], [1, 0, 0]]
    assert scale.tolist() == [1.0, 127.0]
    got, scale = quantize_weight(weight, 8)
    assert (got[1].tolist(), scale[1]) == ([127, 4, -3], 1.0)
    for bits in (1, 9):
        with pytest.raises(ValueError, match="2 to 8"):
            quantize_weight(weight, bits)


def test_at2_an_excluded_pair_is_below_every_logit():
    for logit in (0, -61, -100_000, MASKED + 1):
        assert abs(attend([MASKED, logit]) - 1024) <= 1
    assert attend([MASKED, MASKED]) == 0
