"""What mutation testing found that no other test would have noticed."""

import numpy as np
import pytest

from hyq_tvm.errors import AccumulatorOverflowError
from hyq_tvm.numerics.constants import quantize_bias
from hyq_tvm.numerics.qparams import quantize_weight
from hyq_tvm.numerics.reference.matmul import exact_matmul


def test_n4_a_sum_beyond_int32_is_refused_where_float_products_are_exact():
    ones = np.full((1, 140_000), 127, np.int8)  # 127 * 127 * 140,000 is above 2^31
    with pytest.raises(AccumulatorOverflowError):
        exact_matmul(ones, ones)
    assert int(exact_matmul(ones[:, :133_000], ones[:, :133_000])[0, 0]) == 127 * 127 * 133_000


def test_n3_zero_points_are_taken_off_the_bias():
    bias, scale, sums = np.array([1.0, -2.0]), np.array([0.5, 0.25]), np.array([10, -3])
    np.testing.assert_array_equal(quantize_bias(bias, scale, sums, 7), [2 - 70, -8 + 21])


def test_n1_a_channel_of_zeros_has_the_largest_scale_of_the_others():
    """Also where all weights are small."""
    weight = np.array([[0.0, 0.0], [0.25, -0.5], [0.125, 0.0]])
    _, scale = quantize_weight(weight, 8)
    np.testing.assert_array_equal(scale, np.array([0.5, 0.5, 0.125]) / 127)
    _, scale = quantize_weight(np.zeros((2, 3)), 8)
    np.testing.assert_array_equal(scale, np.ones(2) / 127)
