"""The integer softmax over rows of logits (clauses SM1 to SM9 of docs/numerics.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import ConfigError
from hyq_tvm.numerics.bits import bit_length
from hyq_tvm.numerics.exponential import (
    DIFFERENCE_LIMIT,
    GRID_KINDS,
    HYQ_SHIFT,
    LN2,
    NARROW_LIMIT,
    OUTPUTS,
    check_kind,
    exponent_bits,
    hyq_constants,
    line_offset,
    linear_constants,
    mantissa_table,
    poly2_constants,
)
from hyq_tvm.numerics.fixed_point import (
    IntArray,
    as_dtype,
    rounding_divide,
    rounding_shift,
    saturate,
)
from hyq_tvm.numerics.registry import operator
from hyq_tvm.numerics.softmax_tables import LOG2_CODES, LOG2_ONE

Int64 = NDArray[np.int64]


@operator("softmax")
def softmax(
    x: IntArray,
    *tensors: IntArray,
    kind: str = "linear_pot",
    output: str = "uint8",
    fraction_bits: int = 4,
    scale: float | None = None,
    rescale_multiplier: int = 0,
    rescale_shift: int = 0,
    zero_point: int = 0,
    low: int = 0,
    high: int = 255,
    dtype: str = "uint8",
) -> NDArray[Any]:
    """SM1 to SM9: softmax over the last axis of int8, int16 or int32 logits ``x [..,N]``, N >= 1.

    tensors: for ``linear_pot`` and ``table`` either none, when x lies on the grid
    ``ln2 / 2^fraction_bits``, or multiplier, pre-shift and shift (int32 ``[1]`` each, SM2) when it
    does not. scale: real scale of x for the other kinds; left out, x lies on that grid.

    output: ``"uint8"``: probabilities times 255. ``"log2_4bit"``: uint8 codes 0 .. 14 for
    ``2^-code`` and 15 for zero; those of ``hyq`` go to 15 and 16 is zero. ``"grid"``:
    ``clip(round(p * rescale_multiplier * 2^-rescale_shift) + zero_point, low, high)`` as
    ``dtype``. Nothing divides by 0: the maximum of a row weighs most (for ``hyq``: SM7).
    Raises ``ConfigError`` on unknown choices, ``ValueError`` on the wrong number of tensors.
    """
    check_choices(kind, output, len(tensors))
    real = LN2 / 2**fraction_bits if scale is None else scale
    values = x.astype(np.int64)
    difference = np.minimum(values.max(axis=-1, keepdims=True) - values, DIFFERENCE_LIMIT)
    if kind == "hyq":
        e = hyq_weights(difference, real)
        return _hyq_log2(e) if output == "log2_4bit" else _hyq_uint8(e)
    e = weights(difference, *tensors, kind=kind, fraction_bits=fraction_bits, scale=real)
    total = e.sum(axis=-1, keepdims=True)
    if output == "uint8":
        return normalized_uint8(e, total, exponent_bits(x.shape[-1]))
    if output == "log2_4bit":
        return log2_codes(e, total)
    scaled = row_rescale(e, total, rescale_multiplier, rescale_shift)
    return as_dtype(saturate(scaled + np.int64(zero_point), low, high), dtype)


def weights(
    difference: Int64, *tensors: IntArray, kind: str, fraction_bits: int, scale: float
) -> Int64:
    """SM2 to SM6: weights of differences to the maximum, ``[..,N]``, for every kind but ``hyq``."""
    if kind in GRID_KINDS:
        return _grid_weights(_on_grid(difference, tensors), kind, fraction_bits)
    return _stepped_weights(difference, kind, scale)


def check_choices(kind: str, output: str, tensors: int) -> None:
    """Raises ``ConfigError`` on unknown or unsupported choices, ``ValueError`` on tensors amiss."""
    check_kind(kind)
    if output not in OUTPUTS:
        raise ConfigError(f"softmax output {output!r}: choose one of {list(OUTPUTS)}")
    if kind == "hyq" and output == "grid":
        raise ConfigError("softmax kind 'hyq' has the outputs 'uint8' and 'log2_4bit' only")
    allowed = (0, 3) if kind in GRID_KINDS else (0,)
    if tensors not in allowed:
        raise ValueError(
            f"softmax of kind {kind!r} takes {allowed} tensors beside x, not {tensors}"
        )


def _on_grid(difference: Int64, tensors: tuple[IntArray, ...]) -> Int64:
    """SM2: differences in steps of the grid."""
    if not tensors:
        return difference
    multiplier, pre_shift, shift = (int(tensor[0]) for tensor in tensors)
    narrow = np.minimum(rounding_shift(difference, pre_shift), NARROW_LIMIT)
    return rounding_shift(narrow * multiplier, shift)


def _grid_weights(d: Int64, kind: str, fraction_bits: int) -> Int64:
    """SM3, SM4: a mantissa for the fraction of an octave, shifted right once an octave."""
    bits = exponent_bits(d.shape[-1])
    d = np.minimum(d, ((bits + 1) << fraction_bits) - 1)
    octave, f = d >> fraction_bits, d & (2**fraction_bits - 1)
    if kind == "table":
        mantissa = mantissa_table(fraction_bits, bits)[f].astype(np.int64)
    else:
        offset = line_offset(fraction_bits)
        mantissa = (offset - f) << (bits - offset.bit_length())
    return np.asarray(mantissa >> octave, dtype=np.int64)


def _stepped_weights(d: Int64, kind: str, scale: float) -> Int64:
    """SM5, SM6: the line and the polynomial on a fine step that is no power of two of ln2."""
    bits = exponent_bits(d.shape[-1])
    constants = linear_constants(scale) if kind == "linear" else poly2_constants(scale)
    limit = (bits + 1) * constants.period - 1
    if constants.logit_shift < 0:
        d = rounding_shift(d, -constants.logit_shift)
    else:
        d = np.minimum(d, (limit >> constants.logit_shift) + 1) << constants.logit_shift
    d = np.minimum(d, limit)
    octave, r = d // constants.period, d % constants.period
    z = constants.offset - r
    if constants.constant:
        z = constants.constant - r * z
    spare = bits - constants.top.bit_length()
    return (z << max(spare, 0)) >> (octave + max(-spare, 0))


def normalized_uint8(e: Int64, total: Int64, bits: int) -> NDArray[np.uint8]:
    """SM8: ``255 * e / total`` with one division a row and 32-bit products, as uint8."""
    h = bit_length(total)
    multiplier = rounding_divide(np.int64(255) << (h + (22 - bits)), total)
    return rounding_shift((e * multiplier) >> 16, h + (6 - bits)).astype(np.uint8)


def log2_codes(e: Int64, total: Int64) -> NDArray[np.uint8]:
    """SM9: ``floor(log2(4/3 * total / e))``, at most 15; 15 also where e is 0."""
    limit = total + total // 3
    positive = np.maximum(e, 1)
    code = bit_length(limit) - bit_length(positive)
    code -= (positive << code) > limit
    return np.where(e > 0, np.minimum(code, LOG2_ONE), LOG2_ONE).astype(np.uint8)


def row_rescale(a: Int64, total: Int64, multiplier: int, shift: int) -> Int64:
    """AT5: ``a / total * (multiplier * 2^-shift)`` with one division a row.

    ``total``: broadcasts against ``a``; a row whose total is 0 must have ``a = 0`` and gives 0.
    """
    row = np.maximum(total, 1)
    h = bit_length(row)
    reciprocal = rounding_divide(np.int64(multiplier) << h, row)
    return rounding_shift(a * reciprocal, h + shift)


def hyq_weights(difference: Int64, scale: float) -> Int64:
    """SM7: the published weights, ``(b - r) * 2^(30 - q)`` and never below 0."""
    constants = hyq_constants(scale, difference.shape[-1])
    d = np.minimum(difference, HYQ_SHIFT * constants.period)
    octave, r = d // constants.period, d % constants.period
    mantissa = np.maximum(constants.offset - r, 0)
    return np.asarray(mantissa << (HYQ_SHIFT - octave), dtype=np.int64)


def hyq_codes(e: Int64) -> Int64:
    """SM7: the published codes 0 .. 15, and 16 for nothing, also where the whole row is 0."""
    positive = np.maximum(e, 1)
    total = e.sum(axis=-1, keepdims=True)
    whole, rest = total // positive, total % positive
    ratio = whole + ((2 * rest > positive) | ((2 * rest == positive) & (whole & 1 == 1)))
    floor = bit_length(np.maximum(ratio, 1)) - 1
    code = floor + (2 * ratio >= 3 << floor)
    return np.where(e > 0, np.minimum(code, LOG2_CODES - 1), LOG2_CODES - 1)


def _hyq_log2(e: Int64) -> NDArray[np.uint8]:
    return hyq_codes(e).astype(np.uint8)


def _hyq_uint8(e: Int64) -> NDArray[np.uint8]:
    total = np.maximum(e.sum(axis=-1, keepdims=True), 1)
    return rounding_divide(e * 255, total).astype(np.uint8)


def probabilities(codes: IntArray, kind: str, output: str) -> NDArray[np.float64]:
    """The real probabilities that ``"uint8"`` or ``"log2_4bit"`` results of a kind stand for."""
    check_choices(kind, output, 0)
    if output == "uint8":
        return codes / 255.0
    if output == "grid":
        raise ConfigError("the grid of output 'grid' is the caller's")
    nothing = LOG2_CODES - 1 if kind == "hyq" else LOG2_ONE
    return np.where(codes < nothing, np.ldexp(1.0, -codes.astype(np.int64)), 0.0)
