"""From real ranges and real weights to integer grids (clause N1 of docs/numerics.md)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hyq_tvm.numerics.fixed_point import positive_float32, saturate

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
SCALE_OF_ZEROS = 1 / 127


def integer_range(bits: int, symmetric: bool) -> tuple[int, int]:
    """Lowest and highest integer of a grid: ``[-2^(b-1), 2^(b-1)-1]``, one less below if symmetric.

    Raises ``ValueError`` unless ``2 <= bits <= 16``.
    """
    if not 2 <= bits <= 16:
        raise ValueError(f"bits={bits}: a grid has 2 to 16")
    high = 2 ** (bits - 1) - 1
    return (-high if symmetric else -high - 1), high


def choose_qparams(low: float, high: float, bits: int, symmetric: bool) -> tuple[float, int]:
    """N1: scale and zero point of the grid that covers ``[low, high]`` and 0.

    Real 0 is always exactly ``zero_point``. A range that is only 0 gets scale 1/127; no scale
    is below the smallest normal float32. Raises ``ValueError`` on bounds that are not finite, in
    the wrong order, or too large for float32.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"[{low}, {high}] is not a range")
    qmin, qmax = integer_range(bits, symmetric)
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return SCALE_OF_ZEROS, 0
    steps = qmax - qmin
    span = max(-low, high) / qmax if symmetric else high / steps - low / steps
    scale = max(span, SMALLEST_SCALE)
    positive_float32(scale)
    if symmetric:
        return scale, 0
    zero_point = round(qmin - low / scale)
    return scale, min(max(zero_point, qmin), qmax)


def quantize_weight(
    w: NDArray[np.floating], bits: int, axis: int = 0, minimum_scale: ArrayLike = 0.0
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """N1: symmetric weights per output channel: int8 of ``w``'s shape, and the scales ``[O]``.

    ``w``: finite floats with O channels along ``axis``; ``2 <= bits <= 8``; integers lie in
    ``[-(2^(bits-1)-1), 2^(bits-1)-1]`` and round half to even. A channel of zeros gets the largest
    scale of the others (1/127 if there is none). ``minimum_scale``: one number or ``[O]``,
    a floor under the scales, for channels whose bias would not fit int32 otherwise.
    Raises ``ValueError`` on NaN, infinities or bits outside 2..8.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"bits={bits}: weights have 2 to 8")
    weights = np.asarray(w, dtype=np.float64)
    if not np.isfinite(weights).all():
        raise ValueError("weights hold NaN or infinity")
    _, qmax = integer_range(bits, symmetric=True)
    others = tuple(i for i in range(weights.ndim) if i != axis % weights.ndim)
    peak = np.abs(weights).max(axis=others, initial=0.0)
    scale = np.where(peak > 0, peak, peak.max(initial=0.0)) / qmax
    scale = scale if peak.any() else np.full_like(scale, SCALE_OF_ZEROS)
    scale = np.maximum(scale, np.maximum(np.asarray(minimum_scale, np.float64), SMALLEST_SCALE))
    integers = np.rint(weights / np.expand_dims(scale, others)).astype(np.int64)
    return saturate(integers, -qmax, qmax).astype(np.int8), scale
