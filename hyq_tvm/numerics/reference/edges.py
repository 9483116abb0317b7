"""The two ends of an integer program: float32 to integers and back (clause N2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hyq_tvm.numerics import fixed_point
from hyq_tvm.numerics.fixed_point import IntArray, as_dtype
from hyq_tvm.numerics.registry import operator


@operator("quantize")
def quantize(
    x: NDArray[np.float32], *, scale: ArrayLike, zero_point: int, low: int, high: int, dtype: str
) -> NDArray[Any]:
    """N2: float32 of any shape onto a grid; ``scale`` is one number or one per channel."""
    return as_dtype(fixed_point.quantize(x, scale, zero_point, low, high), dtype)


@operator("dequantize")
def dequantize(x: IntArray, *, scale: ArrayLike, zero_point: int) -> NDArray[np.float32]:
    """N2: integers of any shape as float32; ``scale`` is one number or one per channel."""
    return fixed_point.dequantize(x, scale, zero_point)
