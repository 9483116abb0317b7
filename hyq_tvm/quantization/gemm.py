"""Convolution and linear layers as one matrix product per group of channels, on sampled positions.

``rows`` [n, KH*KW, I] are the inputs of n output positions (KH*KW = 1 for dense);
``grouped_rows`` [G, n, K] and ``grouped_weight`` [G, N, K] with K = KH*KW*I/G make the product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hyq_tvm.quantization.graph import Node

Tensor = Any
Index = NDArray[np.int64]


def groups(node: Node) -> int:
    """Groups of channels that do not meet: 1 for dense."""
    return int(node.attrs["groups"]) if node.op == "conv2d" else 1


def taps(node: Node) -> int:
    """Input positions of one output position: KH*KW, 1 for dense."""
    weight = node.params["weight"]
    return int(weight.shape[1] * weight.shape[2]) if node.op == "conv2d" else 1


def row_length(node: Node) -> int:
    """Elements of one row: KH*KW*I, all groups together."""
    weight = node.params["weight"]
    return int(np.prod(weight.shape[1:])) * groups(node)


def output_positions(node: Node, shape: tuple[int, ...]) -> int:
    """Rows that an input of ``shape`` makes."""
    if node.op == "dense":
        return int(np.prod(shape[:-1]))
    return int(shape[0] * node.shape[1] * node.shape[2])


def gather_rows(node: Node, x: NDArray[np.float32], positions: Index) -> NDArray[np.float32]:
    """The inputs [n, KH*KW, I] of the output positions given by flat index; padding reads 0."""
    channels = x.shape[-1]
    if node.op == "dense":
        return np.ascontiguousarray(x.reshape(-1, 1, channels)[positions])
    height, width = node.shape[1], node.shape[2]
    image, place = np.divmod(positions, height * width)
    ky, kx = np.divmod(np.arange(taps(node)), node.params["weight"].shape[2])
    (sy, sx), (dy, dx), pad = node.attrs["strides"], node.attrs["dilation"], node.attrs["padding"]
    y = (place // width * sy - pad[0])[:, None] + ky * dy
    xs = (place % width * sx - pad[1])[:, None] + kx * dx
    inside = (y >= 0) & (y < x.shape[1]) & (xs >= 0) & (xs < x.shape[2])
    rows = x[image[:, None], np.where(inside, y, 0), np.where(inside, xs, 0)]
    rows[~inside] = 0
    return np.asarray(rows, np.float32)


def grouped_rows(node: Node, rows: Tensor) -> Tensor:
    """[n, KH*KW, I] -> [G, n, K]."""
    n, k, channels = rows.shape
    split = rows.reshape(n, k, groups(node), channels // groups(node))
    return split.permute(2, 0, 1, 3).reshape(groups(node), n, -1).contiguous()


def grouped_channels(node: Node, per_channel: Tensor) -> Tensor:
    """A value per input channel [I] -> the value of every column [G, K]."""
    g = groups(node)
    split = per_channel.reshape(g, 1, -1)
    return split.expand(g, taps(node), split.shape[2]).reshape(g, -1)


def grouped_weight(node: Node) -> Tensor:
    """[G, N, K] float32: the weights [O,KH,KW,I/G] or [N,K]."""
    weight = torch.from_numpy(np.ascontiguousarray(node.params["weight"], np.float32))
    return weight.reshape(groups(node), weight.shape[0] // groups(node), -1)
