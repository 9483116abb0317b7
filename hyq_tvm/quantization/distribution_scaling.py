"""Per-channel factors that move difficulty from activations into weights.

With factors alpha_c > 0 the integers of a layer's input stand for
``S * alpha_c * (q - zero_point)`` and its integer weights for ``w * alpha_c``; nothing
is multiplied at run time where the producer requantizes per channel anyway. Three recipes:

* ``smoothquant``: alpha_c = max|x_c|^a / max|w_c|^(1-a), the best a of a few by output error.
* ``qads_paper``: HyQ (IJCAI 2024) to the letter: Adam on alpha alone, 1000 steps, cosine, no
  gradient through rounding, 8 bits, min-max ranges, the 1x1 convolutions of inverted residuals.
* ``qads``: starts from the best of SmoothQuant's family and no scaling at all, then learns every
  channel's step and the zero point together with straight-through rounding, so that clipping is
  learned as well; what counts is the error on rows that training did not see.

``steps`` are the scales of a group's classes, S * alpha_c.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hyq_tvm.numerics.qparams import choose_qparams
from hyq_tvm.quantization.fake_quant import Levels
from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.judges import Part, TensorJudge, WeightJudge

Steps = NDArray[np.float64]
Tensor = Any

BOUND = 64.0
"""Alphas stay within 1/64..64 of the step that the tensor has without scaling."""

EXPONENTS = (0.0, 0.25, 0.5, 0.65, 0.8, 0.9, 1.0)
SHRINKS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)

STEPS_LEARNED = 250
LEARNING_RATE = 0.02
CHECK_EVERY = 10
PAPER_STEPS = 1000
PAPER_SMALL = 192


@dataclass(frozen=True, eq=False)
class Start:
    """A grid for every class of a group: steps [count] and the integers."""

    steps: Steps
    levels: Levels


@dataclass(frozen=True, eq=False)
class Problem:
    """One group: its scaled readers, the range of every class, and its grid without scaling."""

    judges: Sequence[TensorJudge | WeightJudge]
    low: Steps
    high: Steps
    base: Start

    def error(self, start: Start, part: Part) -> float:
        """Sum of the judges' errors."""
        with torch.no_grad():
            steps = torch.from_numpy(start.steps).float()
            return sum(float(j.loss(steps, start.levels, part)) for j in self.judges)

    def bounded(self, steps: Steps) -> Steps:
        """Steps with alpha within its bounds."""
        return np.clip(steps, self.base.steps / BOUND, self.base.steps * BOUND)

    def covering(self, alpha: Steps) -> Start:
        """The grid with the given factors that clips nothing."""
        levels = self.base.levels
        symmetric = levels.low == -levels.high
        bits = int(levels.high).bit_length() + 1
        low, high = float((self.low / alpha).min()), float((self.high / alpha).max())
        scale, zero_point = choose_qparams(low, high, bits, symmetric)
        return Start(scale * alpha, replace(levels, zero_point=zero_point))


def smoothquant(problem: Problem) -> Start:
    """The best of SmoothQuant's family, on all rows; never worse than no scaling there."""
    found = [problem.base, *_smoothquant_family(problem)]
    return min(found, key=lambda start: problem.error(start, Part.ALL))


def _smoothquant_family(problem: Problem) -> list[Start]:
    reach = np.maximum(np.abs(problem.low), np.abs(problem.high))
    reach = _filled(reach)
    weight = _filled(_weight_reach(problem))
    starts = []
    for exponent in EXPONENTS:
        alpha = reach**exponent / weight ** (1 - exponent)
        alpha = np.clip(alpha / np.exp(np.log(alpha).mean()), 1 / BOUND, BOUND)
        starts.append(problem.covering(alpha))
    return starts


def _weight_reach(problem: Problem) -> Steps:
    """Greatest |weight| that each class meets, relative to its layer's greatest."""
    reach = np.zeros(len(problem.base.steps))
    for reader in problem.judges:
        if not isinstance(reader, WeightJudge):
            continue
        columns = reader.weight.abs().amax(dim=1).numpy().astype(np.float64)
        np.maximum.at(reach, reader.columns.numpy(), columns / max(columns.max(), 1e-30))
    return reach


def _filled(values: Steps) -> Steps:
    """Zeros (channels without data or weights) replaced by the median of the rest."""
    known = values[values > 0]
    fallback = float(np.median(known)) if len(known) else 1.0
    return np.where(values > 0, values, fallback)


def learned(problem: Problem, iterations: int = STEPS_LEARNED) -> Start:
    """``qads``: the grid with the least error on held-out rows among all visited."""
    starts = [problem.base, *_smoothquant_family(problem)]
    best = min(starts, key=lambda start: problem.error(start, Part.TRAIN))
    shrunk = [replace(best, steps=best.steps * shrink) for shrink in SHRINKS]
    best = min(shrunk, key=lambda start: problem.error(start, Part.TRAIN))
    visited = [problem.base, best, *_descend(problem, best, iterations)]
    return min(visited, key=lambda start: problem.error(start, Part.HELD_OUT))


def _descend(problem: Problem, start: Start, iterations: int) -> list[Start]:
    logs = torch.from_numpy(np.log(start.steps)).float().requires_grad_()
    optimizer = torch.optim.Adam([logs], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=iterations)
    visited = []
    for iteration in range(1, iterations + 1):
        optimizer.zero_grad()
        losses = [j.loss(torch.exp(logs), start.levels, Part.TRAIN) for j in problem.judges]
        torch.stack(losses).sum().backward()
        optimizer.step()
        schedule.step()
        if iteration % CHECK_EVERY == 0:
            steps = problem.bounded(np.exp(logs.detach().double().numpy()))
            visited.append(replace(start, steps=steps))
    return visited


def solve(problem: Problem, recipes: set[str]) -> Start:
    """The grid by the recipe of the problem's layers; the strongest where they differ."""
    if "qads" in recipes:
        return learned(problem)
    if "qads_paper" in recipes:
        return published(problem)
    return smoothquant(problem)


def published(problem: Problem) -> Start:
    """``qads_paper``: alpha alone, learned without a gradient through rounding, best kept."""
    low = torch.from_numpy(problem.low).float()
    high = torch.from_numpy(problem.high).float()
    layers = _published_layers(problem)
    if not layers:
        return problem.base
    wide = any(weight.shape[0] > PAPER_SMALL for _, weight, _ in layers)
    alpha = torch.ones(len(low), requires_grad=True)
    optimizer = torch.optim.Adam([alpha], lr=1e-2 if wide else 1e-1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=PAPER_STEPS)
    best, least = np.ones(len(low)), np.inf
    for _ in range(PAPER_STEPS):
        optimizer.zero_grad()
        losses = [_published_loss(*layer, alpha, low, high) for layer in layers]
        loss = torch.stack(losses).sum()
        if float(loss.detach()) < least:
            least, best = float(loss.detach()), alpha.detach().double().numpy().copy()
        loss.backward()
        optimizer.step()
        schedule.step()
    return problem.covering(np.clip(best, 1 / BOUND, BOUND))


def _published_layers(problem: Problem) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Input rows [n, I], weight [N, I] and classes [I] of every 1x1 layer of the group."""
    inputs = [j for j in problem.judges if isinstance(j, TensorJudge)]
    weights = [j for j in problem.judges if isinstance(j, WeightJudge)]
    return [
        (rows.x[Part.ALL][0], reader.weight[0], rows.columns)
        for rows in inputs
        for reader in weights
        if torch.equal(rows.columns, reader.columns[0]) and len(reader.columns) == 1
    ]


def _published_loss(
    x: Tensor, weight: Tensor, columns: Tensor, alpha: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    factor = alpha[columns]
    floor, ceiling = (low / alpha).min(), (high / alpha).max()
    scale = (ceiling - floor).clamp(min=1e-8) / 255
    zero_point = torch.round(-floor / scale).detach()
    scaled = x / factor
    integers = (torch.round(scaled / scale).detach() + zero_point).clamp(0, 255) - zero_point
    moved = weight * factor
    step = moved.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30) / 127
    rounded = torch.round(moved / step).detach() * step
    return ((integers * scale) @ rounded.T - x @ weight.T).square().mean()


def inverted_residual_convs(graph: Graph) -> frozenset[str]:
    """The 1x1 convolutions right before and right after a depthwise one, activations between."""
    found: set[str] = set()
    consumers = graph.consumers()
    for node in graph:
        if node.op != "conv2d" or node.attrs["groups"] != node.channels or node.channels == 1:
            continue
        before = _producer(graph, node.inputs[0])
        after = [r for r in _after(consumers, node) if _pointwise(r)]
        if _pointwise(before) and after:
            found.update((before.name, after[0].name))
    return frozenset(found)


def _producer(graph: Graph, name: str) -> Node:
    node = graph[name]
    return graph[node.inputs[0]] if node.op == "unary" else node


def _after(consumers: Mapping[str, tuple[Node, ...]], node: Node) -> list[Node]:
    readers = consumers[node.name]
    return [far for r in readers for far in (consumers[r.name] if r.op == "unary" else (r,))]


def _pointwise(node: Node) -> bool:
    if node.op != "conv2d" or node.attrs["groups"] != 1:
        return False
    return node.params["weight"].shape[1:3] == (1, 1)
