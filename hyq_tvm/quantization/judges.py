"""How much noisier the model's output gets when the tensor that an operator reads lies on a grid.

Every judge answers ``error(steps, levels)``: squared errors inside the model, on what calibration
kept, weighted by how much the output feels them (``sensitivity``) and divided by the output's
energy. To first order the errors of all judges add up to the model's noise to signal ratio.
``steps`` are the scales of a group's classes.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from hyq_tvm.quantization import gemm
from hyq_tvm.quantization.fake_quant import LearnedGrid, LearnedWeightGrid, Levels
from hyq_tvm.quantization.graph import Node
from hyq_tvm.quantization.statistics import Histogram
from hyq_tvm.quantization.unary import evaluate

Tensor = Any
Steps = NDArray[np.float64]
Rows = NDArray[np.float32]

TRAIN_ROWS = 512
"""About so many rows are learned from; half of all rows are held out."""

OWN = 0.5
"""Share of an element's own squared gradient in its weight; the rest is its channel's mean.

The own gradient tells important positions apart; but it is one random draw, and says nothing about
an error so large that the model is no longer linear in it (a clipped massive activation).
"""


SHIFT = 1.0
"""Weight of a constant shift of a channel, which adds up over an image instead of averaging out."""


class Judge(Protocol):
    """One operator that reads one tensor of a group, or that tensor itself."""

    def error(self, steps: Steps, levels: Levels) -> float:
        """Noise to signal at the model's output; 0 is perfect."""


class Part(Enum):
    """Which of the sampled rows: learning sees some, and others judge it."""

    ALL = "all"
    TRAIN = "train"
    HELD_OUT = "held out"


class TensorJudge:
    """Rounding and saturation of a tensor's values, on sampled rows and every channel's extremes.

    A sample misses most outliers, so that saturating them would look free: the least and greatest
    value of a channel, which occurred once at least, count as one row of all that were seen.

    rows, gradients: [n, C] of ``seen`` ones. extremes: [2, C]. sums: [C], the squared sum of a
    channel's gradients over an image: what a constant shift of the channel costs. positions: rows
    in an image. energy: of the model's output. classes: of the channels [C]. corrected: whether
    the readers' biases make up for a constant shift of a channel.
    """

    def __init__(
        self,
        rows: Rows,
        gradients: Rows,
        extremes: Rows,
        sums: Steps,
        classes: Any,
        seen: int,
        positions: float,
        energy: float,
        corrected: bool = False,
    ) -> None:
        self.columns = torch.from_numpy(np.asarray(classes)).long()
        self.corrected = corrected
        squares = np.square(gradients)
        weights = OWN * squares + (1 - OWN) * squares.mean(axis=0, keepdims=True)
        weights = weights * np.float32(positions / energy)
        stride = 2 * max(1, len(rows) // (2 * TRAIN_ROWS))
        cuts = {
            Part.ALL: slice(None),
            Part.TRAIN: slice(0, None, stride),
            Part.HELD_OUT: slice(1, None, 2),
        }
        if len(rows) < 2:
            cuts = dict.fromkeys(Part, slice(None))
        # One group of channels: [1, n, C], as the weights' [G, N, K].
        self.x = {p: torch.from_numpy(rows[cut].copy())[None] for p, cut in cuts.items()}
        self.weights = {p: torch.from_numpy(weights[cut].copy())[None] for p, cut in cuts.items()}
        self.extremes = torch.from_numpy(extremes.copy())[None]
        self.rarity = torch.from_numpy(weights.mean(axis=0) / np.float32(seen))
        self.sums = torch.from_numpy(sums / energy).float()

    def loss(self, steps: Tensor, levels: Levels, part: Part) -> Tensor:
        """The error, differentiable in ``steps`` [classes] float32."""
        columns = steps[self.columns][None]
        error = LearnedGrid.apply(self.x[part], columns, levels) - self.x[part]
        shift = error.mean(dim=1, keepdim=True)
        if self.corrected:
            error, shift = error - shift, torch.zeros_like(shift)
        spread = (error.square() * self.weights[part]).sum() / error.shape[1]
        rare = LearnedGrid.apply(self.extremes, columns, levels) - self.extremes
        spread = spread + (rare.square() * self.rarity).sum()
        return spread + SHIFT * (shift[:, 0].square() * self.sums).sum()

    def error(self, steps: Steps, levels: Levels) -> float:
        """On all rows."""
        with torch.no_grad():
            return float(self.loss(torch.from_numpy(steps).float(), levels, Part.ALL))


class WeightJudge:
    """Rounding of a convolution's or linear layer's weights, which absorb the steps.

    squares: squared gradients of the weight, in its shape. classes: of the input channels [I].
    """

    def __init__(self, node: Node, squares: Steps, classes: Any, bits: int, energy: float) -> None:
        self.name, self.bits = node.name, bits
        self.weight = gemm.grouped_weight(node)
        self.columns = gemm.grouped_channels(node, torch.from_numpy(np.asarray(classes))).long()
        self.squares = torch.from_numpy(squares / energy).float().reshape(self.weight.shape)

    def loss(self, steps: Tensor, levels: Levels, part: Part) -> Tensor:
        """The error, differentiable in ``steps`` [classes] float32; the same for every part."""
        weight = LearnedWeightGrid.apply(self.weight, steps[self.columns], self.bits)
        return ((weight - self.weight).square() * self.squares).sum()

    def error(self, steps: Steps, levels: Levels) -> float:
        """Whatever the integers of the input."""
        with torch.no_grad():
            return float(self.loss(torch.from_numpy(steps).float(), levels, Part.ALL))


class HistogramJudge:
    """A function of one number (or the number itself), on a histogram of the tensor.

    node: a unary operator; anything else reads the number itself.
    kind: the class of the tensor's channels; several classes are judged by the first. weight: of
    the mean squared error.
    """

    def __init__(
        self, node: Node | None, histogram: Histogram, kind: int, weight: float = 1.0
    ) -> None:
        self.kind, self.fn, self.args = kind, "affine", (1.0, 0.0)
        if node is not None and node.op == "unary":
            self.fn, self.args = str(node.attrs["fn"]), tuple(node.attrs.get("args", ()))
        self.values, self.counts = histogram.occupied()
        self.y = evaluate(self.fn, self.args, self.values)
        self.weight = weight / float(self.counts.sum())

    def error(self, steps: Steps, levels: Levels) -> float:
        """Over all values that calibration saw."""
        scale = steps[self.kind]
        low, high = levels.low - levels.zero_point, levels.high - levels.zero_point
        x = np.clip(np.rint(self.values / scale), low, high) * scale
        y = evaluate(self.fn, self.args, x)
        return float((self.counts * (y - self.y) ** 2).sum()) * self.weight
