"""Quantize and dequantize in float: the model of an integer grid that search and training use.

This is the only place of the package that rounds torch tensors; the integers themselves come from
``hyq_tvm.numerics``. Ties round to even here and toward +infinity at run time (R32), a difference
that no statistic sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from hyq_tvm.quantization.plan import TensorPlan

Tensor = Any


@dataclass(frozen=True)
class Levels:
    """The integers of a grid, low..high, and the one that means 0."""

    low: int
    high: int
    zero_point: int

    @classmethod
    def of(cls, plan: TensorPlan) -> Levels:
        """The integers of a planned tensor."""
        return cls(plan.qmin, plan.qmax, plan.zero_point)


def on_grid(x: Tensor, scale: Tensor, levels: Levels) -> Tensor:
    """``x`` on the grid ``scale * (low..high - zero_point)``; scale broadcasts against x."""
    low, high = levels.low - levels.zero_point, levels.high - levels.zero_point
    return torch.clamp(torch.round(x / scale), low, high) * scale


def on_plan(x: Tensor, plan: TensorPlan) -> Tensor:
    """``x`` [.., C] on a planned grid."""
    scale = torch.tensor(plan.scale, dtype=torch.float32)
    return on_grid(x, scale, Levels.of(plan))


def weight_on_grid(weight: Tensor, columns: Tensor, bits: int) -> Tensor:
    """Weights [G, N, K] as integers per output channel represent them.

    columns: the input's scale of every column [G, K], which the integer weights absorb (N1).
    """
    absorbed = weight * columns[:, None, :]
    scale = absorbed.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30) / (2 ** (bits - 1) - 1)
    step = scale / columns[:, None, :]
    return torch.round(absorbed / scale) * step


class LearnedGrid(torch.autograd.Function):
    """``on_grid`` with a gradient for the scale, as if rounding were the identity.

    x: [G, n, K]; columns: [G, K]. Where a value is inside the range its error moves with the
    scale by (q - x / scale), where it saturates by q.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, columns: Tensor, levels: Levels) -> Tensor:
        """As ``on_grid``."""
        low, high = levels.low - levels.zero_point, levels.high - levels.zero_point
        v = x / columns[:, None, :]
        q = torch.round(v).clamp_(low, high)
        inside = (v >= low) & (v <= high)
        ctx.save_for_backward(torch.where(inside, q - v, q))
        return q.mul_(columns[:, None, :])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        """The gradient of the columns."""
        (slope,) = ctx.saved_tensors
        return None, (gradient * slope).sum(dim=1), None


class LearnedWeightGrid(torch.autograd.Function):
    """``weight_on_grid`` with a gradient for the columns, as if rounding were the identity.

    A column's own weights move by (w - w') / column; the column that holds an output channel's
    greatest weight also sets the channel's scale and moves all its rounding errors.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, columns: Tensor, bits: int) -> Tensor:
        """As ``weight_on_grid``."""
        result = weight_on_grid(weight, columns, bits)
        ctx.bits = bits
        ctx.save_for_backward(weight, columns, weight - result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        """The gradient of the columns."""
        weight, columns, error = ctx.saved_tensors
        pulled = gradient * error
        own = pulled.sum(dim=1) / columns
        top = (weight * columns[:, None, :]).abs().argmax(dim=-1)
        # d w' / d scale = (q - w * column / scale) / column = -error / scale for every weight.
        scales = -pulled.sum(dim=-1)
        shared = torch.zeros_like(own).scatter_add_(1, top, scales)
        return None, own + shared / columns, None
