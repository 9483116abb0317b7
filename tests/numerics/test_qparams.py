"""Clause N1: grids from ranges and weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyq_tvm.numerics.qparams import choose_qparams, integer_range, quantize_weight

REAL = st.floats(-1e6, 1e6, allow_nan=False)


@pytest.mark.parametrize(
    ("bits", "symmetric", "expected"),
    [
        (8, False, (-128, 127)),
        (8, True, (-127, 127)),
        (4, False, (-8, 7)),
        (16, True, (-32767, 32767)),
    ],
)
def test_n1_integer_ranges(bits, symmetric, expected):
    assert integer_range(bits, symmetric) == expected


@given(REAL, REAL, st.sampled_from([4, 6, 8, 12, 16]), st.booleans())
def test_n1_grid_covers_the_range_and_holds_zero(a, b, bits, symmetric):
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    qmin, qmax = integer_range(bits, symmetric)
    scale, zero_point = choose_qparams(min(a, b), max(a, b), bits, symmetric)
    assert scale > 0
    assert qmin <= zero_point <= qmax
    assert not (symmetric and zero_point)
    # The rounded zero point moves the ends by at most half a step.
    assert scale * (qmin - zero_point) <= low + 0.5001 * scale
    assert scale * (qmax - zero_point) >= high - 0.5001 * scale


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 255.0, (1.0, -128)),
        (-255.0, 0.0, (1.0, 127)),
        (3.0, 255.0, (1.0, -128)),  # 0 is always included
        (-255.0, -3.0, (1.0, 127)),
        (-1.0, 254.0, (1.0, -127)),
        (0.0, 0.0, (1 / 127, 0)),
    ],
)
def test_n1_asymmetric_grids_worked(low, high, expected):
    assert choose_qparams(low, high, 8, symmetric=False) == expected


def test_n1_symmetric_grids_worked():
    assert choose_qparams(-127.0, 3.0, 8, symmetric=True) == (1.0, 0)
    assert choose_qparams(0.0, 0.0, 8, symmetric=True) == (1 / 127, 0)


def test_n1_a_tiny_range_keeps_a_scale_that_float32_holds():
    scale, _ = choose_qparams(-1e-44, 1e-44, 8, symmetric=False)
    assert np.float32(scale) >= np.finfo(np.float32).tiny


@pytest.mark.parametrize(
    ("low", "high"), [(1.0, 0.0), (np.nan, 1.0), (0.0, np.inf), (-1e308, 1e308)]
)
def test_n1_refuses_what_is_no_range(low, high):
    with pytest.raises(ValueError, match=r"range|scale"):
        choose_qparams(low, high, 8, symmetric=False)


@pytest.mark.parametrize("bits", [1, 17])
def test_n1_refuses_widths_without_a_grid(bits):
    with pytest.raises(ValueError, match=f"bits={bits}"):
        integer_range(bits, symmetric=False)


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_n1_weights_use_the_whole_symmetric_range_of_each_channel(bits):
    w = (
        np.random.default_rng(bits).normal(size=(5, 3, 3, 2))
        * np.logspace(-3, 3, 5)[:, None, None, None]
    )
    q, scale = quantize_weight(w, bits)
    top = 2 ** (bits - 1) - 1
    assert q.dtype == np.int8
    assert scale.dtype == np.float64
    np.testing.assert_array_equal(np.abs(q.astype(int)).max(axis=(1, 2, 3)), [top] * 5)
    assert (np.abs(q * scale[:, None, None, None] - w).max(axis=(1, 2, 3)) <= 0.5001 * scale).all()


def test_n1_weights_along_another_axis():
    w = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    q, scale = quantize_weight(w, 8, axis=-1)
    transposed, same = quantize_weight(w.T, 8, axis=0)
    np.testing.assert_array_equal(q, transposed.T)
    np.testing.assert_array_equal(scale, same)


def test_n1_a_channel_of_zeros_borrows_the_largest_scale():
    w = np.array([[0.0, 0.0], [127.0, 1.0], [-12.7, 0.0]])
    q, scale = quantize_weight(w, 8)
    np.testing.assert_allclose(scale, [1.0, 1.0, 0.1])
    np.testing.assert_array_equal(q, [[0, 0], [127, 1], [-127, 0]])
    q, scale = quantize_weight(np.zeros((2, 2)), 8)
    np.testing.assert_array_equal(q, 0)
    np.testing.assert_array_equal(scale, 1 / 127)


def test_n1_a_floor_under_the_scales():
    w = np.array([[1e-30, 0.0], [127.0, 1.0]])
    q, scale = quantize_weight(w, 8, minimum_scale=[1e-3, 0.0])
    np.testing.assert_array_equal(scale, [1e-3, 1.0])
    np.testing.assert_array_equal(q[0], 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_n1_weights_must_be_finite(bad):
    with pytest.raises(ValueError, match="NaN or infinity"):
        quantize_weight(np.array([[1.0, bad]]), 8)


@pytest.mark.parametrize("bits", [1, 9])
def test_n1_weights_are_at_most_8_bits(bits):
    with pytest.raises(ValueError, match=f"bits={bits}"):
        quantize_weight(np.ones((1, 1)), bits)
