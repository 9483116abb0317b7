"""Which costs are worth paying: wide streams, finer tables, multiplies after a table.

Every candidate is judged by the error at the model's output that it takes away, as the groups'
judges estimate it, against the error that the whole plan makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from hyq_tvm.quantization.calibrate import Statistics
from hyq_tvm.quantization.demand import Stream, is_clamp
from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.groups import Choices
from hyq_tvm.quantization.overrides import layer_option, override_of
from hyq_tvm.quantization.plan import LayerPlan
from hyq_tvm.quantization.sensitivity import VALUE
from hyq_tvm.quantization.softmax_model import planned_probabilities, probabilities

if TYPE_CHECKING:
    from hyq_tvm.quantization.planner import Planner

Tensor = Any

NOISE = 0.01
"""20 dB: attention noisier than this with 8-bit weights gets 16-bit ones."""

WORTH = 0.01
"""A cost is paid when it takes away at least this share of the plan's error."""


def choose(planner: Planner) -> Choices:
    """The choices that the configuration leaves open, made for one model."""
    config = planner.config
    choices = Choices(
        wide=_wide_streams(planner),
        scaled=frozenset(planner.recipes),
        fine_softmax=fine_softmax(planner),
    )
    unary = [n.name for n in planner.graph if n.op == "unary" and not is_clamp(n)]
    if config.scaling == "qads_paper":
        choices = replace(choices, paid=frozenset(unary) & _scaled_inputs(planner))
    elif planner.recipes:
        choices = _pay(planner, choices, unary, _with_paid)
    if config.table_bits == 12:
        return replace(choices, fine_tables=frozenset(_table_inputs(planner, choices)))
    if config.table_bits == "auto" and config.widths == "auto":
        choices = _pay(planner, choices, _table_inputs(planner, choices), _with_fine_table)
    return choices


def _wide_streams(planner: Planner) -> frozenset[str]:
    def wide(stream: Stream) -> bool:
        bits = override_of(planner.config, stream.tensors, "bits", None)
        if bits is not None:
            return int(bits) == 16
        if planner.config.residual_bits == 8 or planner.config.widths == "uniform":
            return bool(stream.reads & {"output", "softmax"})
        return True

    return frozenset(s.name for s in planner.structure.streams if wide(s))


def fine_softmax(planner: Planner) -> frozenset[str]:
    """Attentions whose weights have 16 bits: by wish, or because 8 lose the tails of their rows."""
    config = planner.config
    fine = set()
    for node in planner.graph:
        if node.op != "attention":
            continue
        bits = layer_option(config, node.name, "softmax_weight_bits", config.softmax_weight_bits)
        kind = layer_option(config, node.name, "softmax", config.softmax)
        free = bits == "auto" and config.widths == "auto" and kind not in ("exact", "hyq")
        lost = free and _tails_lost(planner, node, kind)
        if bits == 16 or lost:
            fine.add(node.name)
    return frozenset(fine)


def _tails_lost(planner: Planner, node: Node, kind: str) -> bool:
    """Whether 8-bit weights make more noise than ``NOISE`` on the sampled rows."""
    logits, values = attention_sample(planner.statistics, node)
    exact = torch.softmax(logits, dim=-1) @ values
    coarse = probabilities(logits, kind, 8, LayerPlan(node.op).softmax_fraction_bits) @ values
    return float((coarse - exact).square().sum()) > NOISE * float(exact.square().sum())


@dataclass(frozen=True)
class SoftmaxError:
    """Of one operator: greatest error of a probability, and noise to signal at the output."""

    largest: float
    noise: float


def softmax_errors(
    statistics: Statistics, graph: Graph, layers: Mapping[str, LayerPlan]
) -> dict[str, SoftmaxError]:
    """Attention or softmax -> what its integer exponential does on the sampled rows (AT6)."""
    return {
        name: _softmax_error(statistics, graph[name], layer)
        for name, layer in layers.items()
        if layer.op in ("attention", "softmax") and layer.softmax != "exact"
    }


def _softmax_error(statistics: Statistics, node: Node, layer: LayerPlan) -> SoftmaxError:
    if node.op == "attention":
        logits, values = attention_sample(statistics, node)
    else:
        logits, values = torch.from_numpy(statistics.rows[node.inputs[0]].rows), None
    found = planned_probabilities(logits, layer)
    wrong = found - torch.softmax(logits, dim=-1)
    caused = wrong if values is None else wrong @ values
    felt = statistics.squares.get((node.name, VALUE), 0.0) / statistics.energy
    return SoftmaxError(float(wrong.abs().max()), float(caused.square().mean()) * felt)


def attention_sample(statistics: Statistics, node: Node) -> tuple[Tensor, Tensor]:
    """Logits [S, n, M] (scale and bias applied) and values [S, M, E] of sampled slices."""
    parts = {
        name: torch.from_numpy(rows)
        for name, rows in statistics.attention[node.name].arrays().items()
    }
    logits = parts["q"] @ parts["k"].transpose(-1, -2) * float(node.attrs["scale"])
    if "bias" in parts:
        logits = logits + parts["bias"]
    return logits, parts["v"]


def _scaled_inputs(planner: Planner) -> frozenset[str]:
    """What the published recipe scales, whatever it costs."""
    return frozenset(planner.graph[name].inputs[0] for name in planner.recipes)


def _table_inputs(planner: Planner, choices: Choices) -> list[str]:
    """Names of the groups that only tables read."""
    return [g.name for g in planner.structure.groups(choices) if g.reads == {"table"}]


def _with_paid(choices: Choices, name: str) -> Choices:
    return replace(choices, paid=choices.paid | {name})


def _with_fine_table(choices: Choices, name: str) -> Choices:
    return replace(choices, fine_tables=choices.fine_tables | {name})


def _pay(
    planner: Planner,
    choices: Choices,
    candidates: Iterable[str],
    extended: Callable[[Choices, str], Choices],
) -> Choices:
    """``choices`` and every candidate that is worth its cost on its own."""
    total = error = _error(planner, choices)
    for name in candidates:
        tried = extended(choices, name)
        found = _error(planner, tried)
        if error - found > WORTH * total:
            choices, error = tried, found
    return choices


def _error(planner: Planner, choices: Choices) -> float:
    groups = planner.structure.groups(choices)
    return sum(planner.solve(group, choices).error for group in groups)
