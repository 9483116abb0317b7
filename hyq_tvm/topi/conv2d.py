"""Convolution over channels-last images in TE (clause C1)."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te, tirx

from hyq_tvm.numerics.reference.conv import check_groups
from hyq_tvm.numerics.windows import output_plane
from hyq_tvm.topi.epilogue import Stage, finish
from hyq_tvm.topi.fixed_point import Expr, dtype_of
from hyq_tvm.topi.registry import operator


@operator("conv2d")
def conv2d(
    x: te.Tensor,
    weight: te.Tensor,
    bias: te.Tensor,
    *tensors: te.Tensor,
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    pad_value: int,
    epilogue: Sequence[Stage],
) -> te.Tensor:
    """C1: int8 ``x [B,H,W,I]`` and ``weight [O,KH,KW,I/groups]``, int32 ``bias [O]``.

    Blocks: ``pad`` (where padding is not zero), ``conv`` or, with one input channel a group,
    ``depthwise`` (int32, no bias), ``epilogue``.
    """
    check_groups(x.shape, weight.shape, groups)
    kernel = (int(weight.shape[1]), int(weight.shape[2]))
    plane = output_plane(x.shape, kernel, strides, padding, dilation)
    shape = (x.shape[0], *plane, weight.shape[0])
    padded = pad_plane(x, padding, pad_value)
    rh, rw = te.reduce_axis((0, kernel[0]), "rh"), te.reduce_axis((0, kernel[1]), "rw")

    def pixel(b: Expr, h: Expr, w: Expr, channel: Expr) -> Expr:
        row, column = h * strides[0] + rh * dilation[0], w * strides[1] + rw * dilation[1]
        return padded[b, row, column, channel].astype("int32")

    inputs, outputs = int(weight.shape[3]), int(weight.shape[0]) // groups
    if inputs == 1:

        def depthwise(b: Expr, h: Expr, w: Expr, o: Expr) -> Expr:
            factor = weight[o, rh, rw, 0].astype("int32")
            return te.sum(pixel(b, h, w, tirx.indexdiv(o, outputs)) * factor, axis=[rh, rw])

        return finish(te.compute(shape, depthwise, name="depthwise"), epilogue, tensors, bias)

    ri = te.reduce_axis((0, inputs), "ri")

    def conv(b: Expr, h: Expr, w: Expr, o: Expr) -> Expr:
        channel = ri if groups == 1 else tirx.indexdiv(o, outputs) * inputs + ri
        factor = weight[o, rh, rw, ri].astype("int32")
        return te.sum(pixel(b, h, w, channel) * factor, axis=[rh, rw, ri])

    return finish(te.compute(shape, conv, name="conv"), epilogue, tensors, bias)


def pad_plane(x: te.Tensor, padding: Sequence[int], value: int) -> te.Tensor:
    """``x [B,H,W,C]`` padded by (top, left, bottom, right), in a block ``pad``; ``x`` if by 0."""
    if not any(padding):
        return x
    top, left, bottom, right = padding
    height, width = int(x.shape[1]), int(x.shape[2])
    shape = (x.shape[0], height + top + bottom, width + left + right, x.shape[3])

    def padded(b: Expr, h: Expr, w: Expr, c: Expr) -> Expr:
        inside = tirx.all(h >= top, h < top + height, w >= left, w < left + width)
        outside = tirx.const(value, dtype_of(x))
        return tirx.if_then_else(inside, x[b, h - top, w - left, c], outside)

    return te.compute(shape, padded, name="pad")
