"""Pooling over channels-last images (clauses P1, P2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.numerics.epilogue import Stage, apply
from hyq_tvm.numerics.fixed_point import IntArray, as_int32
from hyq_tvm.numerics.reference.conv import pad_plane, windows
from hyq_tvm.numerics.registry import operator
from hyq_tvm.numerics.windows import output_plane


@operator("avg_pool2d")
def avg_pool2d(
    x: IntArray,
    *tensors: NDArray[Any],
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[int],
    zero_point: int,
    epilogue: Sequence[Stage],
) -> NDArray[Any]:
    """P1: the int32 sum of ``x - zero_point`` over each window, then the epilogue.

    x ``[B,H,W,C]``; padding (t, l, b, r) adds 0. The divisor is in the epilogue's multiplier,
    which has the shape ``[OH,OW,1]`` where windows at the edge count fewer elements.
    """
    output_plane(x.shape, kernel, strides, padding)
    padded = pad_plane(x, padding, zero_point)
    total = windows(padded, kernel, strides).sum(axis=(3, 4), dtype=np.int64)
    total -= kernel[0] * kernel[1] * zero_point
    return apply(as_int32(total), epilogue, tensors)


@operator("max_pool2d")
def max_pool2d(
    x: IntArray, *, kernel: Sequence[int], strides: Sequence[int], padding: Sequence[int]
) -> NDArray[Any]:
    """P2: the maximum of each window, in the dtype of ``x [B,H,W,C]``; the grid is unchanged.

    Padding (t, l, b, r) is the lowest value of the dtype, so that it is never the maximum.
    """
    output_plane(x.shape, kernel, strides, padding)
    padded = pad_plane(x, padding, int(np.iinfo(x.dtype).min))
    result: NDArray[Any] = windows(padded, kernel, strides).max(axis=(3, 4))
    return result
