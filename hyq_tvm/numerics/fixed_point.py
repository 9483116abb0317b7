"""Rounding and saturation: the only place of the golden model where either happens.

Clauses of docs/numerics.md: N2 (``quantize``, ``dequantize``), R32 (``requantize``,
``quantize_multiplier``), S1 (``rounding_shift``), S2 (``saturate``), S3 (``rounding_divide``).
The TE twin with the same names is ``hyq_tvm.topi.fixed_point``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hyq_tvm.errors import AccumulatorOverflowError

IntArray = NDArray[np.integer[Any]]

MULTIPLIER_BITS = 31
MAX_SHIFT = 62
INT32_LOW, INT32_HIGH = -(2**31), 2**31 - 1


def saturate(x: IntArray, low: int, high: int) -> IntArray:
    """S2: ``x`` clipped to ``[low, high]``; same dtype, or int64 where the bounds do not fit it.

    Raises ``ValueError`` when ``low > high``.
    """
    if low > high:
        raise ValueError(f"saturation to an empty range: low={low}, high={high}")
    values = np.asarray(x)
    info = np.iinfo(values.dtype)
    if low < info.min or high > info.max:
        values = values.astype(np.int64)
    return np.clip(values, low, high)


def rounding_shift(x: IntArray, shift: ArrayLike) -> NDArray[np.int64]:
    """S1: ``x / 2^shift`` to the nearest integer, ties toward +infinity; shift 0 is the identity.

    ``x + 2^(shift-1)`` must fit int64. ``shift`` broadcasts against ``x``, each in [0, 62];
    raises ``ValueError`` outside it.
    """
    shifts = np.asarray(shift, dtype=np.int64)
    if shifts.size and (shifts.min() < 0 or shifts.max() > MAX_SHIFT):
        raise ValueError(f"shift {shifts.min()}..{shifts.max()} is outside 0..{MAX_SHIFT}")
    half = (np.int64(1) << shifts) >> np.int64(1)
    result = np.add(x, half, dtype=np.int64)
    return np.asarray(np.right_shift(result, shifts), dtype=np.int64)


def rounding_divide(numerator: IntArray, denominator: IntArray) -> NDArray[np.int64]:
    """S3: ``(n + (d >> 1)) div d`` of natural numbers: nearest, ties upward where d is even.

    ``n + d / 2`` must fit int64. Raises ``ValueError`` on a negative n or where ``d < 1``.
    """
    n, d = np.asarray(numerator, dtype=np.int64), np.asarray(denominator, dtype=np.int64)
    if (n.size and n.min() < 0) or (d.size and d.min() < 1):
        raise ValueError(f"division of {n.min()} by {d.min()}: natural numbers are needed")
    return np.asarray((n + (d >> 1)) // d, dtype=np.int64)


def in_range(x: IntArray, low: int, high: int) -> bool:
    """Whether every value of a non-empty ``x`` lies in ``[low, high]``."""
    return bool(low <= x.min() and x.max() <= high)


def as_int32(x: IntArray, what: str = "accumulator") -> NDArray[np.int32]:
    """N4: ``x`` as int32; raises ``AccumulatorOverflowError`` rather than wrap around."""
    values = np.asarray(x)
    narrow = np.can_cast(values.dtype, np.int32)
    if not narrow and values.size and not in_range(values, INT32_LOW, INT32_HIGH):
        raise AccumulatorOverflowError(
            f"{what} reaches {values.min()}..{values.max()}, which int32 does not hold; "
            "split the reduction or use fewer bits"
        )
    return values.astype(np.int32, copy=False)


def as_dtype(x: IntArray, dtype: str) -> IntArray:
    """``x`` in its storage type; raises ``ValueError`` where that type cannot hold the values."""
    values = np.asarray(x)
    info = np.iinfo(dtype)
    if values.size and not in_range(values, info.min, info.max):
        raise ValueError(f"{values.min()}..{values.max()} does not fit {dtype}")
    return values.astype(dtype)


def requantize(
    acc: IntArray, multiplier: ArrayLike, shift: ArrayLike, zero_point: int, low: int, high: int
) -> NDArray[np.int64]:
    """R32: ``saturate(((acc * m + 2^(s-1)) >> s) + zero_point, low, high)`` with int64 inside.

    ``acc``: any integer dtype, values within int32. ``multiplier``, ``shift``: integers of equal
    shape that broadcasts against ``acc`` from the right; ``0 <= m < 2^31``, ``1 <= s <= 62``.
    Raises ``ValueError`` on multipliers or shifts outside those, ``AccumulatorOverflowError`` on
    values outside int32.
    """
    m = np.asarray(multiplier, dtype=np.int64)
    s = np.asarray(shift, dtype=np.int64)
    if m.shape != s.shape:
        raise ValueError(f"multiplier {m.shape} and shift {s.shape} differ in shape")
    if m.size and (m.min() < 0 or m.max() >= 1 << MULTIPLIER_BITS):
        raise ValueError(f"multiplier {m.min()}..{m.max()} is outside 0..2^31-1")
    if s.size and (s.min() < 1 or s.max() > MAX_SHIFT):
        raise ValueError(f"shift {s.min()}..{s.max()} is outside 1..{MAX_SHIFT}")
    product = np.multiply(as_int32(acc), m, dtype=np.int64)
    scaled = rounding_shift(product, s)
    return np.asarray(saturate(scaled + np.int64(zero_point), low, high), dtype=np.int64)


def quantize_multiplier(
    real: ArrayLike, bits: int = MULTIPLIER_BITS
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """R32: the ``(multiplier, shift)`` pairs with ``multiplier * 2^-shift`` nearest to ``real``.

    ``real``: positive factors below ``2^(bits-1)``, any shape; the results have that shape.
    ``2^(bits-1) <= multiplier < 2^bits`` and ``1 <= shift <= 62``; only a factor under
    ``2^(bits-63)`` gets a smaller multiplier, with shift 62 (its error on an int32 value stays
    below 2^-31). Raises ``ValueError`` naming the factor that has no representation.
    """
    if not 2 <= bits <= MULTIPLIER_BITS:
        raise ValueError(f"bits={bits}: a multiplier has 2 to {MULTIPLIER_BITS}")
    factors = np.asarray(real, dtype=np.float64)
    bad = ~(np.isfinite(factors) & (factors > 0))
    if bad.any():
        raise ValueError(f"factor {factors[bad][0]!r} is not a positive finite number")
    fraction, exponent = np.frexp(factors)
    shift = np.minimum(bits - exponent.astype(np.int64), MAX_SHIFT)
    # ldexp by a power of two is exact, so the only rounding is rint's.
    multiplier = np.rint(np.ldexp(fraction, exponent + shift)).astype(np.int64)
    carried = multiplier == 1 << bits
    multiplier = np.where(carried, multiplier >> 1, multiplier)
    shift = np.where(carried, shift - 1, shift)
    if shift.size and shift.min() < 1:
        raise ValueError(
            f"factor {factors.max()!r} needs a multiplier of more than {bits} bits: "
            "the output's scale is far too small for its input"
        )
    return multiplier.astype(np.int32), shift.astype(np.int32)


def quantize_multipliers(
    *reals: ArrayLike, bits: int = MULTIPLIER_BITS
) -> tuple[list[NDArray[np.int32]], int]:
    """A1: multipliers with one common shift for the operands of an add, nearest to ``reals``.

    The largest factor gets ``bits`` bits, the others what is left of them. ``reals``: positive
    factors of any shapes. Raises ``ValueError`` as ``quantize_multiplier`` does.
    """
    factors = [np.asarray(real, dtype=np.float64) for real in reals]
    _, shifts = quantize_multiplier(np.concatenate([f.ravel() for f in factors]), bits)
    shift = int(shifts.min())
    multipliers = [np.rint(np.ldexp(f, shift)).astype(np.int32) for f in factors]
    return multipliers, shift


def quantize(
    x: NDArray[np.float32], scale: ArrayLike, zero_point: int, low: int, high: int
) -> NDArray[np.int64]:
    """N2: ``clip(round_half_even(x / scale) + zero_point, low, high)`` in float32 arithmetic.

    ``x``: float32, any shape; infinities saturate, NaN raises ``ValueError``. The division is a
    true float32 division by ``float32(scale)``, one number or one per channel (last axis);
    ``low``, ``high`` and ``zero_point`` lie within int16, so that float32 holds them.
    """
    values = np.asarray(x, dtype=np.float32)
    if np.isnan(values).any():
        raise ValueError("NaN cannot be quantized")
    with np.errstate(over="ignore"):
        rounded = np.rint(values / _float32_scales(scale)) + np.float32(zero_point)
    clipped: NDArray[np.int64] = np.clip(rounded, low, high).astype(np.int64)
    return clipped


def dequantize(q: IntArray, scale: ArrayLike, zero_point: int) -> NDArray[np.float32]:
    """N2: ``float32(scale) * float32(q - zero_point)``.

    ``q``: int8, int16 or int32, any shape; ``q - zero_point`` within int32. ``scale``: one number
    or one per channel (last axis).
    """
    centred = as_int32(np.subtract(q, zero_point, dtype=np.int64))
    return np.asarray(_float32_scales(scale) * centred.astype(np.float32), dtype=np.float32)


def _float32_scales(scale: ArrayLike) -> NDArray[np.float32]:
    return np.asarray([positive_float32(s) for s in np.ravel(scale)], dtype=np.float32)


def positive_float32(scale: Any) -> np.float32:
    """The float32 nearest to a scale; raises ``ValueError`` unless it is a positive normal number.

    Subnormal scales are refused because some processors flush them to zero.
    """
    with np.errstate(over="ignore"):
        value = np.float32(scale)
    if not np.isfinite(value) or value < np.finfo(np.float32).tiny:
        raise ValueError(f"scale {scale!r} is not a positive normal float32")
    return value
