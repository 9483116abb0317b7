"""Convolution over channels-last images (clause C1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from hyq_tvm.numerics.epilogue import Stage, apply
from hyq_tvm.numerics.fixed_point import IntArray, as_int32
from hyq_tvm.numerics.reference.matmul import exact_matmul, with_bias
from hyq_tvm.numerics.registry import operator
from hyq_tvm.numerics.windows import output_plane

PATCH_ELEMENTS = 1 << 24
"""Patches gathered at once; bounds the memory of large batches."""


@operator("conv2d")
def conv2d(
    x: IntArray,
    weight: IntArray,
    bias: IntArray,
    *tensors: NDArray[Any],
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    pad_value: int,
    epilogue: Sequence[Stage],
) -> NDArray[Any]:
    """C1: cross-correlation, bias, then the epilogue on the int32 ``[B,OH,OW,O]``.

    x: int8 ``[B,H,W,I]``, padded by (top, left, bottom, right) with ``pad_value``, its zero point.
    weight: int8 ``[O,KH,KW,I/groups]``. bias: int32 ``[O]``, zero points folded into it (N3).
    Raises ``ValueError`` when channels and groups do not match.
    """
    check_groups(x.shape, weight.shape, groups)
    kernel = weight.shape[1:3]
    plane = output_plane(x.shape, kernel, strides, padding, dilation)
    padded = pad_plane(x, padding, pad_value)
    views = windows(padded, kernel, strides, dilation)
    if weight.shape[3] == 1:
        acc = _one_channel_each(views, weight)
    else:
        acc = _grouped(views, weight, groups)
    return apply(with_bias(acc.reshape(x.shape[0], *plane, -1), bias), epilogue, tensors)


def check_groups(x_shape: Sequence[int], weight_shape: Sequence[int], groups: int) -> None:
    """Raises ``ValueError`` unless ``groups`` divides both channel counts as the weight says."""
    channels, outputs = int(x_shape[3]), int(weight_shape[0])
    if channels != int(weight_shape[3]) * groups or outputs % groups:
        raise ValueError(
            f"{channels} channels in {groups} groups do not match a weight of {weight_shape}"
        )


def pad_plane(x: IntArray, padding: Sequence[int], value: int) -> IntArray:
    """``x [B,H,W,C]`` padded by (top, left, bottom, right)."""
    top, left, bottom, right = padding
    pads = ((0, 0), (top, bottom), (left, right), (0, 0))
    return np.pad(x, pads, constant_values=value) if any(padding) else x


def windows(
    x: NDArray[Any], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int] = (1, 1)
) -> NDArray[Any]:
    """All windows of ``x [B,H,W,C]`` as a read-only view ``[B,OH,OW,KH,KW,C]``."""
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    views = sliding_window_view(x, spans, axis=(1, 2))
    views = views[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]]
    return views.transpose(0, 1, 2, 4, 5, 3)


def _one_channel_each(views: IntArray, weight: IntArray) -> NDArray[np.int32]:
    """Every output channel reads one input channel: a few long multiply-adds, one a tap."""
    outputs, height, width, _ = weight.shape
    repeat = outputs // views.shape[-1]
    acc = np.zeros((*views.shape[:3], outputs), dtype=np.int64)
    for i in range(height):
        for j in range(width):
            tap = (
                np.repeat(views[:, :, :, i, j], repeat, axis=-1)
                if repeat > 1
                else views[..., i, j, :]
            )
            acc += np.multiply(tap, weight[:, i, j, 0], dtype=np.int32)
    return as_int32(acc)


def _grouped(views: IntArray, weight: IntArray, groups: int) -> NDArray[np.int32]:
    inputs, outputs = views.shape[-1] // groups, weight.shape[0] // groups
    matrix = weight.reshape(weight.shape[0], -1)
    images = max(1, PATCH_ELEMENTS // max(1, views[0, ..., :inputs].size))
    parts = []
    for start in range(0, len(views), images):
        batch = views[start : start + images]
        products = [
            exact_matmul(
                batch[..., g * inputs : (g + 1) * inputs].reshape(-1, matrix.shape[1]),
                matrix[g * outputs : (g + 1) * outputs],
            )
            for g in range(groups)
        ]
        parts.append(np.concatenate(products, axis=-1))
    return np.concatenate(parts)
