"""Compile-time constants of the integer program: biases, tables and constant tensors (N1, N3).

Rounding is half to even in float64; it happens once, here, and never at run time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hyq_tvm.errors import AccumulatorOverflowError
from hyq_tvm.numerics.fixed_point import INT32_HIGH, INT32_LOW

MASKED = -(2**30)
"""Attention bias at or below this excludes the pair (docs/numerics.md, attention)."""


def quantize_constant(
    values: ArrayLike, scale: ArrayLike, zero_point: int, low: int, high: int, dtype: str
) -> NDArray[Any]:
    """``clip(round(values / scale) + zero_point, low, high)`` in float64, for constant tensors.

    ``scale``: one number or one per channel (last axis). Raises ``ValueError`` on NaN.
    """
    real = np.asarray(values, dtype=np.float64)
    if np.isnan(real).any():
        raise ValueError("a constant tensor holds NaN")
    grid = np.rint(real / np.asarray(scale, dtype=np.float64)) + zero_point
    return np.asarray(np.clip(grid, low, high), dtype=dtype)


def quantize_bias(
    bias: ArrayLike, accumulator_scale: ArrayLike, weight_sums: ArrayLike, zero_point: int
) -> NDArray[np.int32]:
    """N3: ``round(bias / accumulator_scale) - zero_point * weight_sums`` as int32.

    ``bias``, ``accumulator_scale``, ``weight_sums``: ``[O]``. Raises
    ``AccumulatorOverflowError`` naming the channel whose bias int32 cannot hold.
    """
    scaled = np.rint(np.asarray(bias, np.float64) / np.asarray(accumulator_scale, np.float64))
    total = scaled - float(zero_point) * np.asarray(weight_sums, dtype=np.float64)
    outside = (total < INT32_LOW) | (total > INT32_HIGH)
    if outside.any():
        channel = int(np.argmax(outside))
        raise AccumulatorOverflowError(
            f"the bias of output channel {channel} is {total[channel]:.0f} accumulator steps, "
            "which int32 does not hold"
        )
    return total.astype(np.int32)


def quantize_attention_bias(bias: ArrayLike, accumulator_scale: float) -> NDArray[np.int32]:
    """Relative positions and masks at the accumulator's scale; minus infinity becomes ``MASKED``.

    Values beyond the int32 accumulator's safe range saturate at ``MASKED`` and ``-MASKED``.
    """
    steps = np.rint(np.asarray(bias, dtype=np.float64) / accumulator_scale)
    safe = np.clip(np.nan_to_num(steps, neginf=MASKED), MASKED, -MASKED)
    return np.asarray(safe, dtype=np.int32)
