"""Pooling over channels-last images in TE (clauses P1, P2)."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te, tirx

from hyq_tvm.numerics.windows import output_plane
from hyq_tvm.topi.conv2d import pad_plane
from hyq_tvm.topi.epilogue import Stage, finish
from hyq_tvm.topi.fixed_point import Expr, bounds, dtype_of
from hyq_tvm.topi.registry import operator


@operator("avg_pool2d")
def avg_pool2d(
    x: te.Tensor,
    *tensors: te.Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[int],
    zero_point: int,
    epilogue: Sequence[Stage],
) -> te.Tensor:
    """P1: int32 window sums of ``x - zero_point``. Blocks: pad, window_sum, epilogue."""
    plane = output_plane(x.shape, kernel, strides, padding)
    padded = pad_plane(x, padding, zero_point)
    rh, rw = te.reduce_axis((0, kernel[0]), "rh"), te.reduce_axis((0, kernel[1]), "rw")

    def total(b: Expr, h: Expr, w: Expr, c: Expr) -> Expr:
        value = padded[b, h * strides[0] + rh, w * strides[1] + rw, c].astype("int32")
        return te.sum(value - tirx.const(zero_point, "int32"), axis=[rh, rw])

    acc = te.compute((x.shape[0], *plane, x.shape[3]), total, name="window_sum")
    return finish(acc, epilogue, tensors)


@operator("max_pool2d")
def max_pool2d(
    x: te.Tensor, *, kernel: Sequence[int], strides: Sequence[int], padding: Sequence[int]
) -> te.Tensor:
    """P2: window maxima in the dtype of ``x``. Blocks: pad, window_max."""
    plane = output_plane(x.shape, kernel, strides, padding)
    padded = pad_plane(x, padding, bounds(dtype_of(x))[0])
    rh, rw = te.reduce_axis((0, kernel[0]), "rh"), te.reduce_axis((0, kernel[1]), "rw")

    def largest(b: Expr, h: Expr, w: Expr, c: Expr) -> Expr:
        return te.max(padded[b, h * strides[0] + rh, w * strides[1] + rw, c], axis=[rh, rw])

    return te.compute((x.shape[0], *plane, x.shape[3]), largest, name="window_max")
