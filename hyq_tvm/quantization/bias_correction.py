"""What a layer's bias has to make up for: the mean error of its rounded input and weights.

Rounding of few, large or cancelling weights, and saturation of outliers, shift a channel's mean by
the same amount at every position. On calibration data that shift is known, and a bias is free.
Borders, where padding is read, are taken for inner positions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hyq_tvm.quantization import gemm
from hyq_tvm.quantization.fake_quant import on_plan, weight_on_grid
from hyq_tvm.quantization.graph import Node
from hyq_tvm.quantization.plan import TensorPlan

Rows = NDArray[np.float32]


def column_means(node: Node, rows: Rows) -> Rows:
    """Mean input of every weight [O, 1 or KH, .., I/g], to broadcast against it; rows: [n, I]."""
    per_output = _means(node, torch.from_numpy(rows))[:, None, :]
    weight = node.params["weight"]
    repeated = per_output.expand(-1, weight.shape[0] // len(per_output), -1)
    return np.asarray(repeated.reshape(weight.shape).numpy(), np.float32)


def bias_shift(node: Node, rows: Rows, plan: TensorPlan, bits: int) -> tuple[float, ...]:
    """Per output channel of a conv2d or dense, what its bias needs.

    rows: sampled positions of its input [n, I], which gets ``plan``'s grid. bits: of the weights.
    """
    values = torch.from_numpy(rows)
    steps = torch.from_numpy(np.broadcast_to(plan.scales, rows.shape[-1]).astype(np.float32))
    weight = gemm.grouped_weight(node)
    rounded = weight_on_grid(weight, gemm.grouped_channels(node, steps), bits)
    exact = (weight * _means(node, values)[:, None, :]).sum(dim=-1)
    integer = (rounded * _means(node, on_plan(values, plan))[:, None, :]).sum(dim=-1)
    return tuple(float(shift) for shift in (exact - integer).reshape(-1))


def _means(node: Node, rows: Any) -> Any:
    """Mean of every weight's input [G, K]."""
    return gemm.grouped_channels(node, rows.mean(dim=0))
