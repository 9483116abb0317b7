"""LayerNorm and GroupNorm in integers (clauses LN1 to LN5 of docs/numerics.md)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hyq_tvm.errors import AccumulatorOverflowError
from hyq_tvm.numerics.bits import bit_length
from hyq_tvm.numerics.fixed_point import IntArray, as_dtype, rounding_shift, saturate
from hyq_tvm.numerics.registry import operator

NARROW_COUNT = 2**15
"""Up to so many elements that share one mean, the moments are exact in int32 and int64."""

MAX_COUNT = 2**20
"""Elements that share one mean: beyond it V is too coarse."""

NORMALIZED_BITS = 15
GAMMA_LIMIT = 2**15 - 1
BETA_LIMIT = 2.0**61
EPSILON_LIMIT = 2**61
MAX_SHIFT = 46


def layer_norm_constants(
    gamma: ArrayLike,
    beta: ArrayLike,
    eps: float,
    scale_in: float,
    scale_out: ArrayLike,
    channels: int,
) -> tuple[NDArray[np.int32], NDArray[np.int64], int, int]:
    """LN4: the integers of a norm, ``(g int32 [C], b int64 [C], E, T)``.

    gamma, beta: real, ``[C]``. eps: real, >= 0. scale_in: one real scale for the whole input
    (its zero point drops out). scale_out: real, one number or ``[C]``. channels: how many
    elements share one mean: C of a LayerNorm, ``S * C / groups`` of a GroupNorm.
    ``|g| < 2^15``, ``|b| < 2^61``, ``0 <= E < 2^61``, ``1 <= T <= 46``.
    Raises ``ValueError`` on values that are not finite, on scales that are not positive and where
    no T exists; ``AccumulatorOverflowError`` where the integers would not fit.
    """
    check_count(channels)
    gain = _finite("gamma", gamma)
    scales = _finite("scale_out", scale_out)
    if not (scales > 0).all() or not 0 < scale_in < math.inf:
        raise ValueError(f"scales of a norm must be positive: {scale_in!r} in, {scale_out!r} out")
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps={eps!r} of a norm is not a number >= 0")
    gain = gain / scales
    offset = np.broadcast_to(_finite("beta", beta) / scales, gain.shape)
    shift = _shift(float(np.abs(gain).max()), float(np.abs(offset).max()))
    g = np.rint(np.ldexp(gain, shift - NORMALIZED_BITS)).astype(np.int32)
    b = np.rint(np.ldexp(offset, shift)).astype(np.int64)
    return g, b, _epsilon(eps, scale_in, channels), shift


def check_count(count: int) -> None:
    """LN1: raises ``AccumulatorOverflowError`` unless 1 to 2^20 elements share one mean."""
    if not 1 <= count <= MAX_COUNT:
        raise AccumulatorOverflowError(
            f"a norm over {count} elements: 1 to {MAX_COUNT} fit its sums; exclude the layer"
        )


def count_shift(count: int) -> int:
    """LN1: K, how many bits the moments of ``count`` elements lose: 0 up to 32768 of them."""
    check_count(count)
    return max(0, (count - 1).bit_length() - NARROW_COUNT.bit_length() + 1)


def _finite(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{name} of a norm is empty or holds NaN or infinity")
    return array


def _shift(gain: float, offset: float) -> int:
    """The largest T that keeps g in int16 and b below 2^61."""
    shift = MAX_SHIFT
    if gain:
        shift = min(shift, NORMALIZED_BITS + math.floor(math.log2(GAMMA_LIMIT / gain)))
    if offset:
        shift = min(shift, math.floor(math.log2(BETA_LIMIT / offset)))
    if shift < 1:
        raise ValueError(
            f"gamma or beta is up to {max(gain, offset):.3g} times the output scale of a norm: "
            "the scale is far too small"
        )
    return shift


def _epsilon(eps: float, scale_in: float, count: int) -> int:
    real = math.ldexp(count**2 * eps / scale_in / scale_in, -2 * count_shift(count))
    value = math.floor(real + 0.5)
    if value >= EPSILON_LIMIT:
        raise AccumulatorOverflowError(
            f"eps={eps!r} is {value:.3g} at the norm's input scale {scale_in!r}: at most 2^61 fit; "
            "the input's scale is far too small"
        )
    return value


@operator("layer_norm")
def layer_norm(
    x: IntArray,
    gamma: IntArray,
    beta: IntArray,
    *,
    epsilon: int,
    shift: int,
    zero_point: int,
    low: int,
    high: int,
    dtype: str,
) -> NDArray[Any]:
    """LN1 to LN5 over the rows of int8 or int16 ``x [M,C]``; the result has x's shape.

    gamma: int32 ``[C]``, beta: int64 ``[C]``, epsilon (E), shift (T): of ``layer_norm_constants``.
    """
    centred, variance = _moments(x, (x.ndim - 1,), epsilon)
    normalized = _normalized(centred, variance)
    return _affine(normalized, gamma, beta, shift, zero_point, low, high, dtype)


@operator("group_norm")
def group_norm(
    x: IntArray,
    gamma: IntArray,
    beta: IntArray,
    *,
    groups: int,
    epsilon: int,
    shift: int,
    zero_point: int,
    low: int,
    high: int,
    dtype: str,
) -> NDArray[Any]:
    """LN1 to LN5 over int8 or int16 ``x [B,S,C]``: S x C / groups elements share a mean.

    gamma: int32 ``[C]``, beta: int64 ``[C]``. Raises ``ValueError`` unless groups divides C.
    """
    batch, positions, channels = x.shape
    if groups < 1 or channels % groups:
        raise ValueError(f"{groups} groups do not divide {channels} channels")
    grouped = x.reshape(batch, positions, groups, channels // groups)
    centred, variance = _moments(grouped, (1, 3), epsilon)
    normalized = _normalized(centred, variance).reshape(x.shape)
    return _affine(normalized, gamma, beta, shift, zero_point, low, high, dtype)


def _moments(
    x: IntArray, axes: tuple[int, ...], epsilon: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """LN2: D and V, axes kept; refuses more elements than one mean has (LN1)."""
    values = x.astype(np.int64)
    count = math.prod(x.shape[axis] for axis in axes)
    total = values.sum(axis=axes, keepdims=True)
    squares = (values * values).sum(axis=axes, keepdims=True)
    spread, shift = count * squares - total * total, count_shift(count)
    if shift:
        mean = (total + (count >> 1)) // count
        spread = count * ((squares - 2 * mean * total + count * mean * mean) >> (2 * shift))
    variance = np.maximum(spread + epsilon, 1)
    if variance.size and variance.max() >= 1 << 62:
        raise AccumulatorOverflowError(f"V of a norm reaches {variance.max()}: 2^62 is the limit")
    return rounding_shift(count * values - total, shift), variance


def _normalized(centred: NDArray[np.int64], variance: NDArray[np.int64]) -> NDArray[np.int64]:
    """LN3: ``D / sqrt(V)`` with 15 fraction bits."""
    zeros = (64 - bit_length(variance)) & ~1
    # V << lz needs 64 unsigned bits; only its upper half is wanted.
    v = (variance << np.maximum(zeros - 32, 0)) >> np.maximum(32 - zeros, 0)
    return rounding_shift(centred * inverse_root(v), 32 - (zeros >> 1))


def inverse_root(v: NDArray[np.int64]) -> NDArray[np.int64]:
    """LN3: the largest ``R`` with ``R^2 * v <= 2^62``, for ``2^30 <= v < 2^32``."""
    square = (1 << 62) // v
    root = np.zeros_like(v)
    for bit in range(16, -1, -1):
        candidate = root + (1 << bit)
        root = np.where(candidate * candidate <= square, candidate, root)
    return root


def _affine(
    normalized: NDArray[np.int64],
    gamma: IntArray,
    beta: IntArray,
    shift: int,
    zero_point: int,
    low: int,
    high: int,
    dtype: str,
) -> NDArray[Any]:
    """LN5: ``clip(((n * g + b + 2^(T-1)) >> T) + zero_point, low, high)``."""
    total = normalized * gamma.astype(np.int64) + beta.astype(np.int64)
    scaled = rounding_shift(total, shift)
    return as_dtype(saturate(scaled + np.int64(zero_point), low, high), dtype)
