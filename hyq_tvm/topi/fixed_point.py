"""Rounding and saturation of TE expressions: the twin of ``hyq_tvm.numerics.fixed_point``.

Every function takes and returns scalar expressions and computes what the function of the same
name there computes, bit for bit. Range checks are the golden model's; here ranges are promises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx

from hyq_tvm.numerics.fixed_point import MAX_SHIFT, positive_float32

Expr = Any


def saturate(x: Expr, low: int, high: int) -> Expr:
    """S2: ``x`` clipped to ``[low, high]``, in the dtype of ``x``."""
    if low > high:
        raise ValueError(f"saturation to an empty range: low={low}, high={high}")
    dtype = dtype_of(x)
    return tirx.max(tirx.min(x, tirx.const(high, dtype)), tirx.const(low, dtype))


def rounding_shift(x: Expr, shift: int) -> Expr:
    """S1: ``x / 2^shift`` to nearest, ties toward +infinity, for a known shift; dtype of ``x``.

    Raises ``ValueError`` when ``shift`` is outside [0, 62].
    """
    if not 0 <= shift <= MAX_SHIFT:
        raise ValueError(f"shift {shift} is outside 0..{MAX_SHIFT}")
    if shift == 0:
        return x
    dtype = dtype_of(x)
    return (x + tirx.const(1 << (shift - 1), dtype)) >> tirx.const(shift, dtype)


def rounding_shift_by(x: Expr, shift: Expr) -> Expr:
    """S1 for a ``shift >= 1`` that is data: ``x`` and the result are int64."""
    wide = shift.astype("int64")
    one = tirx.const(1, "int64")
    return (x + tirx.shift_left(one, wide - one)) >> wide


def rounding_divide(numerator: Expr, denominator: Expr) -> Expr:
    """S3: ``(n + (d >> 1)) div d`` of natural numbers, in int64."""
    n, d = numerator.astype("int64"), denominator.astype("int64")
    return tirx.truncdiv(n + (d >> tirx.const(1, "int64")), d)


def requantize(
    acc: Expr, multiplier: Expr, shift: Expr, zero_point: int, low: int, high: int
) -> Expr:
    """R32: ``saturate(((acc * m + 2^(s-1)) >> s) + zero_point, low, high)`` as int64."""
    product = acc.astype("int64") * multiplier.astype("int64")
    scaled = rounding_shift_by(product, shift)
    if zero_point:
        scaled = scaled + tirx.const(zero_point, "int64")
    return saturate(scaled, low, high)


def quantize(x: Expr, scale: Expr, zero_point: int, low: int, high: int) -> Expr:
    """N2: float32 ``x`` onto its grid, as int32; ``scale`` is float32. Needs true division: a
    target that permits reciprocals (``fast-math-arcp``) breaks it.
    """
    rounded = tirx.nearbyint(x / scale) + tirx.const(float(zero_point), "float32")
    return saturate(rounded, low, high).astype("int32")


def dequantize(q: Expr, scale: Expr, zero_point: int) -> Expr:
    """N2: ``scale * float32(q - zero_point)`` with a float32 ``scale``."""
    centred = q.astype("int32") - tirx.const(zero_point, "int32")
    return scale * centred.astype("float32")


def float32_scale(scales: Sequence[float], channel: Expr) -> Expr:
    """The float32 scale of a channel: a constant, or a choice among constants by bisection."""
    if len(set(scales)) == 1:
        return tirx.const(float(positive_float32(scales[0])), "float32")
    middle = len(scales) // 2
    return tirx.Select(
        channel < middle,
        float32_scale(scales[:middle], channel),
        float32_scale(scales[middle:], channel - middle),
    )


def dtype_of(x: Expr) -> str:
    """The dtype of a tensor, an element of one, or any scalar expression."""
    return str(x.dtype if hasattr(x, "dtype") else x.ty)


def bounds(dtype: str) -> tuple[int, int]:
    """Lowest and highest value of an integer type."""
    if dtype.startswith("uint"):
        return 0, (1 << int(dtype.removeprefix("uint"))) - 1
    bits = int(dtype.removeprefix("int"))
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def width_for(*extremes: int) -> str:
    """``"int32"`` when that holds all values given (wrap-free arithmetic), else ``"int64"``."""
    low, high = bounds("int32")
    return "int32" if all(low <= value <= high for value in extremes) else "int64"
