import math

import numpy as np
import pytest

from hyq_tvm.report.significance import mcnemar, paired_difference, sqnr_db, wilson


def right(pattern):
    return np.array([c == "1" for c in pattern])


@pytest.mark.parametrize(
    ("lost", "won", "p"),
    [
        (0, 0, 1.0),
        (1, 1, 1.0),  # more than the whole distribution: capped
        (0, 1, 1.0),
        (0, 5, 2 / 32),
        (5, 0, 2 / 32),
        (1, 8, 2 * (1 + 9) / 512),
        (0, 2000, 2.0**-1999),
    ],
)
def test_mcnemar_is_the_exact_binomial(lost, won, p):
    first = np.array([True] * lost + [False] * won + [True, False])
    second = np.array([False] * lost + [True] * won + [True, False])
    assert mcnemar(first, second) == p


def test_wilson_interval_of_a_known_case():
    low, high = wilson(8, 10)
    assert (low, high) == pytest.approx((0.490162, 0.943318), abs=1e-6)


@pytest.mark.parametrize("count", [1, 10, 5000])
def test_wilson_stays_within_zero_and_one(count):
    assert wilson(0, count)[0] == pytest.approx(0)
    assert 1 - 1e-12 <= wilson(count, count)[1] <= 1
    assert wilson(0, count)[1] > 0
    assert wilson(count, count)[0] < 1


def test_paired_difference():
    mean, low, high = paired_difference(right("1111"), right("1101"))
    assert mean == -0.25
    assert (low + high) / 2 == pytest.approx(-0.25)
    assert high - low == pytest.approx(2 * 1.959963984540054 * math.sqrt(0.1875 / 4))


def test_no_difference_has_no_width():
    assert paired_difference(right("1010"), right("1010")) == (0, 0, 0)


def test_sqnr():
    signal = np.array([[3.0, 4.0]], dtype=np.float32)
    assert sqnr_db(signal, signal) == math.inf
    assert sqnr_db(signal, signal + np.float32([[0.5, 0]])) == pytest.approx(20)
