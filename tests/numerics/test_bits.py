"""Bit lengths, and S3: division rounded to nearest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyq_tvm.numerics.bits import bit_length
from hyq_tvm.numerics.fixed_point import rounding_divide


@pytest.mark.parametrize("value", [1 << i for i in range(63)])
def test_bit_length_at_powers_of_two(value):
    around = [v for v in (value - 2, value - 1, value, value + 1, value + 2) if 0 <= v < 2**63]
    expected = [v.bit_length() for v in around]
    np.testing.assert_array_equal(bit_length(np.array(around, dtype=np.int64)), expected)


def test_bit_length_refuses_negative_numbers():
    with pytest.raises(ValueError, match="-3"):
        bit_length(np.array([4, -3]))


@pytest.mark.parametrize(
    ("n", "d", "expected"),
    [(0, 1, 0), (1, 2, 1), (2, 4, 1), (1, 3, 0), (2, 3, 1), (3, 2, 2), (5, 2, 3), (7, 7, 1)],
)
def test_s3_ties_go_up(n, d, expected):
    assert int(rounding_divide(np.array(n), np.array(d))) == expected


@given(n=st.integers(0, 2**62), d=st.integers(1, 2**31))
def test_s3_is_the_nearest_integer(n, d):
    quotient = int(rounding_divide(np.array(n), np.array(d)))
    assert abs(2 * (quotient * d - n)) <= d


@pytest.mark.parametrize(("n", "d"), [(-1, 3), (4, 0), (4, -2)])
def test_s3_refuses(n, d):
    with pytest.raises(ValueError, match="natural"):
        rounding_divide(np.array([n]), np.array([d]))
