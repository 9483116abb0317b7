"""The stages of an epilogue on one register of int32 lanes, by the clauses of docs/numerics.md."""

from __future__ import annotations

from schedules.llvm import vector
from schedules.llvm.vector import Expr, constant


def multiply_high(a: Expr, b: Expr, lanes: int) -> Expr:
    """The upper halves of the 64-bit products of int32 lanes.

    Even and odd lanes apart: each product then stands where x86 multiplies, without widening.
    """
    half = lanes // 2
    shift = constant(32, "int64", half)
    a64, b64 = (vector.reinterpret(v, "int64", half) for v in (a, b))
    even = ((a64 << shift) >> shift) * ((b64 << shift) >> shift)
    odd = (a64 >> shift) * (b64 >> shift)
    order = [i for pair in range(half) for i in (2 * pair + 1, lanes + 2 * pair + 1)]
    return vector.shuffle([vector.reinterpret(p, "int32", lanes) for p in (even, odd)], order)


def requantize_narrow(
    value: Expr, multiplier: Expr, rounding: Expr, shift: Expr, pre_shift: int, lanes: int
) -> Expr:
    """R32 without its saturation, in the 32-bit form of ``schedules.llvm.stages``."""
    if pre_shift:
        value = value << constant(pre_shift, "int32", lanes)
    return (multiply_high(value, multiplier, lanes) + rounding) >> shift


def requantize_wide(
    value: Expr, multiplier: Expr, shift: Expr, zero_point: int, low: int, high: int, lanes: int
) -> Expr:
    """R32 to the letter: 64-bit product, sum and shift, then saturation to int32's part of it."""
    wide = [vector.cast(v, "int64", lanes) for v in (value, multiplier, shift)]
    one = constant(1, "int64", lanes)
    rounded = (wide[0] * wide[1] + (one << (wide[2] - one))) >> wide[2]
    moved = rounded + constant(zero_point, "int64", lanes)
    return vector.cast(vector.clip(moved, low, high, "int64", lanes), "int32", lanes)


def scaled(
    value: Expr, multiplier: Expr, rounding: Expr, shift: Expr, wide: bool, lanes: int
) -> Expr:
    """The scaled operand of E4, ``(v * m + r) >> s``, in int32; ``wide``: by 64-bit arithmetic."""
    if not wide:
        return (value * multiplier + rounding) >> shift
    v, m, r, s = (
        vector.cast(part, "int64", lanes) for part in (value, multiplier, rounding, shift)
    )
    return vector.cast((v * m + r) >> s, "int32", lanes)


def permuted(index: Expr, table: list[Expr], permute: str) -> Expr:
    """Entry ``index`` (64 bytes, read without sign) of a table of 256 bytes in four registers."""
    lower = vector.intrinsic(permute, "int8", 64, table[0], index, table[1])
    upper = vector.intrinsic(permute, "int8", 64, table[2], index, table[3])
    return vector.select(index < constant(0, "int8", 64), upper, lower)
