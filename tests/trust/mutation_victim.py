"""What the tests of the mutation runner let it run: fast, and sensitive to every shift."""

import numpy as np

from hyq_tvm.numerics.fixed_point import rounding_shift


def test_a_rounding_shift():
    np.testing.assert_array_equal(rounding_shift(np.array([5, -5, 8]), 2), [1, -1, 2])
    np.testing.assert_array_equal(rounding_shift(np.array([5, -5]), 0), [5, -5])
