"""The two ends of an integer program in TE: float32 to integers and back (clause N2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import te

from hyq_tvm.topi import fixed_point
from hyq_tvm.topi.fixed_point import Expr, float32_scale
from hyq_tvm.topi.registry import operator


@operator("quantize")
def quantize(
    x: te.Tensor,
    *,
    scale: float | Sequence[float],
    zero_point: int,
    low: int,
    high: int,
    dtype: str,
) -> te.Tensor:
    """N2: float32 onto a grid; ``scale``: one number or one per channel. Block: quantize."""
    scales = np.ravel(scale).tolist()

    def element(*index: Expr) -> Expr:
        step = float32_scale(scales, index[-1])
        return fixed_point.quantize(x[index], step, zero_point, low, high).astype(dtype)

    return te.compute(x.shape, element, name="quantize")


@operator("dequantize")
def dequantize(x: te.Tensor, *, scale: float | Sequence[float], zero_point: int) -> te.Tensor:
    """N2: integers as float32; ``scale``: one number or one per channel. Block: dequantize."""
    scales = np.ravel(scale).tolist()

    def element(*index: Expr) -> Expr:
        return fixed_point.dequantize(x[index], float32_scale(scales, index[-1]), zero_point)

    return te.compute(x.shape, element, name="dequantize")
