"""Bit lengths of TE expressions; the twin of ``hyq_tvm.numerics.bits``."""

from __future__ import annotations

from tvm import tirx

from hyq_tvm.topi.fixed_point import Expr, dtype_of


def leading_zeros(x: Expr) -> Expr:
    """Zero bits above the highest one of ``x > 0`` (32 or 64 bits wide), as int32.

    Undefined for 0, as on the processors: guard with ``max(x, 1)``.
    """
    return tirx.clz(x).astype("int32")


def bit_length(x: Expr) -> Expr:
    """The number of bits of ``x > 0`` (int32, uint32 or int64), as int32; undefined for 0."""
    width = 64 if dtype_of(x) == "int64" else 32
    return tirx.const(width, "int32") - leading_zeros(x)
