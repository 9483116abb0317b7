"""Weights of convolutions and linear layers as matrices: [G, N, K], G groups of channels.

N are the outputs of a group, K = KH*KW*I/G its inputs. A linear layer has one group.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hyq_tvm.quantization.graph import Node

Tensor = Any


def grouped_weight(node: Node) -> Tensor:
    """[G, N, K] float32 from weights [O,KH,KW,I/G] or [N,K]."""
    weight = torch.from_numpy(np.array(node.params["weight"], np.float32))
    return weight.reshape(_groups(node), weight.shape[0] // _groups(node), -1)


def grouped_channels(node: Node, per_channel: Tensor) -> Tensor:
    """A value per input channel [I] -> the value of every column [G, K]."""
    g = _groups(node)
    weight = node.params["weight"]
    taps = int(weight.shape[1] * weight.shape[2]) if node.op == "conv2d" else 1
    split = per_channel.reshape(g, 1, -1)
    return split.expand(g, taps, split.shape[2]).reshape(g, -1)


def _groups(node: Node) -> int:
    return int(node.attrs["groups"]) if node.op == "conv2d" else 1
