"""Convolution, dense and matmul: weights absorb the input's per-channel scales (QADS)."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.numerics.constants import quantize_bias
from hyq_tvm.numerics.qparams import quantize_weight
from hyq_tvm.quantization.graph import Node
from hyq_tvm.quantization.integer_program import Argument
from hyq_tvm.quantization.lowering.builder import ProgramBuilder
from hyq_tvm.quantization.lowering.grid import Grid
from hyq_tvm.quantization.lowering.pending import Pending

BIAS_LIMIT = 2.0**29
"""Weight scales are floored so that no bias exceeds this many accumulator steps."""

BIAS_ALONE = 2.0**23
"""Accumulator steps of the bias of a channel that has no weights."""


def lower_dense(builder: ProgramBuilder, node: Node) -> Pending:
    """X [..,K] . weight [N,K] + bias, int32."""
    x = builder.operand(node.inputs[0])
    k = x.shape[-1]
    arguments, factor = _weights(builder, node, x.grid, np.broadcast_to(x.grid.scale, k))
    rows = prod(x.shape[:-1])
    return Pending(
        layer=node.name,
        op="dense",
        arguments=(x.argument((rows, k)), *arguments),
        params={},
        raw_shape=(rows, node.channels),
        shape=node.shape,
        factor=factor,
    )


def lower_conv2d(builder: ProgramBuilder, node: Node) -> Pending:
    """X [B,H,W,I] * weight [O,KH,KW,I/g] + bias, int32; padding is the real zero."""
    x = builder.operand(node.inputs[0])
    groups = int(node.attrs["groups"])
    scales = np.broadcast_to(x.grid.scale, x.shape[-1])
    per_output = np.repeat(scales.reshape(groups, 1, 1, -1), node.channels // groups, axis=0)
    arguments, factor = _weights(builder, node, x.grid, per_output)
    return Pending(
        layer=node.name,
        op="conv2d",
        arguments=(x.argument(), *arguments),
        params={
            "strides": list(node.attrs["strides"]),
            "padding": list(node.attrs["padding"]),
            "dilation": list(node.attrs["dilation"]),
            "groups": groups,
            "pad_value": x.grid.zero_point,
        },
        raw_shape=node.shape,
        shape=node.shape,
        factor=factor,
    )


def lower_matmul(builder: ProgramBuilder, node: Node) -> Pending:
    """A [..,M,K] x b [..,N,K] -> [..,M,N], both symmetric."""
    a, b = (builder.symmetric(name) for name in node.inputs)
    batch = prod(a.shape[:-2])
    (m, k), n = a.shape[-2:], b.shape[-2]
    return Pending(
        layer=node.name,
        op="matmul",
        arguments=(a.argument((batch, m, k)), b.argument((batch, n, k))),
        params={},
        raw_shape=(batch, m, n),
        shape=node.shape,
        factor=a.grid.scale * b.grid.scale * float(node.attrs["scale"]),
    )


def _weights(
    builder: ProgramBuilder, node: Node, grid: Grid, scales: NDArray[np.float64]
) -> tuple[tuple[Argument, Argument], NDArray[np.float64]]:
    """Quantized weight and bias, and the real value of an accumulator step per output channel.

    scales: the input's scale per weight column (broadcasts against ``weight``).
    """
    step = float(grid.scale.max())
    weight = node.params["weight"].astype(np.float64) * (scales / step)
    bias = builder.bias(node)
    floor = np.abs(bias) / (step * BIAS_LIMIT)
    integers, weight_scale = quantize_weight(weight, builder.layer(node).weight_bits, 0, floor)
    rows = integers.reshape(len(bias), -1)
    alone = (rows == 0).all(axis=1) & (bias != 0)
    factor = np.where(alone, np.abs(bias) / BIAS_ALONE, step * weight_scale)
    sums = rows.sum(axis=1, dtype=np.int64)
    offset = quantize_bias(bias, factor, sums, grid.zero_point)
    return (Argument.constant(integers), Argument.constant(offset)), factor
