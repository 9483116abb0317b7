"""Mixed precision for a wanted accuracy: what to raise, at the least cost, and why.

Calibration images have no labels, so the accuracy that a plan loses is estimated from the float
model's own probabilities p: it loses ``p[float's answer] - p[plan's answer]`` per image, which is
the expected drop of top-1 if those probabilities are calibrated, and zero where answers agree.

The search goes from free to dear. Other ways to choose ranges cost nothing at run time and come
first. Then every tensor and layer that can have more bits is raised alone in the simulated model
(``simulate``), which tells the error that it takes away at the output; the best ratios of that to
the bytes that it costs are raised together, as few as the target needs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hyq_tvm.errors import ConfigError
from hyq_tvm.quantization.calibrate import Statistics, runs
from hyq_tvm.quantization.config import QuantConfig
from hyq_tvm.quantization.float_executor import FloatExecutor
from hyq_tvm.quantization.graph import Graph
from hyq_tvm.quantization.plan import QuantPlan
from hyq_tvm.quantization.planner import calibrate, plan_from_statistics
from hyq_tvm.quantization.raises import Raise, possible_raises
from hyq_tvm.quantization.simulate import Simulator

KEPT = 64
"""Calibration images on which plans are compared; they stay in memory."""

RANKED_RUNS = 8
"""Runs of the model on which single raises are judged."""

RANGES: tuple[Mapping[str, Any], ...] = (
    {},
    {"observer": "percentile"},
    {"observer": "percentile", "percentile": 99.999},
    {"observer": "minmax"},
)
"""Ways to choose ranges, tried in this order."""

ROUNDS = 3
"""Raised plans are made so often: solved together, grids differ from those judged alone."""


@dataclass(frozen=True)
class Judgement:
    """A plan on the kept images, against float.

    drop: expected loss of top-1 in points. changed: share of answers that differ. noise: of the
    scores, to signal.
    """

    drop: float
    changed: float
    noise: float


@dataclass(frozen=True, eq=False)
class Reference:
    """The float model on the kept images.

    batches: float32 inputs in the traced shape, how many of them count. scores, probabilities:
    [n, ..., classes] of every batch; is_probability: the model ends in a softmax.
    """

    batches: list[tuple[NDArray[np.float32], int]]
    scores: list[Any]
    is_probability: bool

    def judge(self, graph: Graph, plan: QuantPlan, most: int | None = None) -> Judgement:
        """Simulate the plan on the first ``most`` batches."""
        simulator = Simulator(graph, plan)
        lost, changed, answers, noise, signal = 0.0, 0, 0, 0.0, 0.0
        for (batch, new), exact in list(zip(self.batches, self.scores, strict=True))[:most]:
            found = simulator.run(batch)[0][:new]
            p = exact if self.is_probability else exact.softmax(-1)
            best, ours = exact.argmax(-1, keepdim=True), found.argmax(-1, keepdim=True)
            lost += float((p.gather(-1, best) - p.gather(-1, ours)).sum())
            changed += int((best != ours).sum())
            answers += best.numel()
            noise += float((exact - found).square().sum())
            signal += float(exact.square().sum())
        return Judgement(100 * lost / answers, changed / answers, noise / max(signal, 1e-30))


def plan_for_drop(
    graph: Graph,
    batches: Iterable[Any],
    config: QuantConfig,
    target_drop: float,
    progress: Callable[[int], None] | None = None,
) -> QuantPlan:
    """The plan of ``config``, raised until its expected drop of top-1 is at most ``target_drop``.

    batches: as for ``make_plan``; the first 64 images are kept. target_drop: in points, above 0.
    ``notes["target_drop"]`` of the plan says what was wanted, expected, and raised, and why; the
    choices are overrides of its config. Where nothing reaches the target the best plan comes back,
    with a warning. Raises ``ConfigError`` on a target or a model that makes no sense, and what
    ``make_plan`` raises.
    """
    if not 0 < target_drop < 100:
        raise ConfigError(f"target_drop={target_drop!r}: give points of top-1 between 0 and 100")
    shape = graph[graph.outputs[0]].shape
    if len(shape) < 2 or shape[-1] < 2:
        raise ConfigError(f"target_drop needs class scores, but the model's output is {shape}")
    kept: list[Any] = []
    statistics = calibrate(graph, _keeping(batches, kept), config, FloatExecutor, progress)
    reference = _reference(graph, kept)
    return _Search(graph, statistics, reference, target_drop).run(config)


class _Search:
    def __init__(
        self, graph: Graph, statistics: Statistics, reference: Reference, target: float
    ) -> None:
        self.graph, self.statistics, self.reference = graph, statistics, reference
        self.target = target

    def run(self, config: QuantConfig) -> QuantPlan:
        """Ranges first, then bits."""
        plan, found, tried = self._best_ranges(config)
        raised: list[dict[str, Any]] = []
        before = found
        for _ in range(ROUNDS):
            ranked = self._ranked(plan) if found.drop > self.target else []
            ranked = _without_conflicts(ranked, plan.config.overrides)
            if not ranked:
                break
            chosen = ranked[: self._fewest(plan, ranked)]
            raised += [entry for _, entry in chosen]
            overrides = _merged(plan.config.overrides, [r.override for r, _ in chosen])
            plan = self._plan(replace(plan.config, overrides=overrides))
            found = self.reference.judge(self.graph, plan)
        if found.drop > self.target:
            warnings.warn(
                f"the expected drop is {found.drop:.2f} points, more than {self.target:g}: nothing "
                "more can be raised to integers of more bits; exclude a layer, see inspect",
                stacklevel=2,
            )
        note = {
            "wanted_points": self.target,
            "expected_points": round(found.drop, 3),
            "changed_answers": round(found.changed, 5),
            "before_raising": asdict(before),
            "ranges_tried": tried,
            "raised": raised,
            "cost_bytes": sum(entry["cost_bytes"] for entry in raised),
        }
        return replace(plan, notes={**plan.notes, "target_drop": note})

    def _plan(self, config: QuantConfig) -> QuantPlan:
        return plan_from_statistics(self.graph, self.statistics, config)

    def _best_ranges(self, config: QuantConfig) -> tuple[QuantPlan, Judgement, list[Any]]:
        """The first plan that keeps the target, else the best one."""
        made, tried = [], []
        for changes in RANGES if config.observer == "auto" else RANGES[:1]:
            plan = self._plan(replace(config, **changes))
            found = self.reference.judge(self.graph, plan)
            made.append((plan, found))
            tried.append({**changes, "expected_points": round(found.drop, 3)})
            if found.drop <= self.target:
                break
        plan, found = min(made, key=lambda pair: (pair[1].drop, pair[1].noise))
        return plan, found, tried

    def _ranked(self, plan: QuantPlan) -> list[tuple[Raise, dict[str, Any]]]:
        """Raises that take error away, the most for their cost first."""
        base = self.reference.judge(self.graph, plan, RANKED_RUNS)
        found = []
        for candidate in possible_raises(self.graph, plan):
            tried = self.reference.judge(self.graph, candidate.apply(plan), RANKED_RUNS)
            gain = base.noise - tried.noise
            if gain > 0:
                why = {
                    "name": candidate.name,
                    "change": candidate.change,
                    "noise_share": round(gain / base.noise, 4),
                    "cost_bytes": candidate.cost,
                }
                found.append((gain / candidate.cost, candidate, why))
        found.sort(key=lambda entry: -entry[0])
        return [(candidate, why) for _, candidate, why in found]

    def _fewest(self, plan: QuantPlan, ranked: list[tuple[Raise, dict[str, Any]]]) -> int:
        """How many of the first raises reach the target in simulation; all if none suffices."""
        low, high = 1, len(ranked)
        while low < high:
            middle = (low + high) // 2
            tried = plan
            for candidate, _ in ranked[:middle]:
                tried = candidate.apply(tried)
            if self.reference.judge(self.graph, tried).drop <= self.target:
                high = middle
            else:
                low = middle + 1
        return low


def _keeping(batches: Iterable[Any], kept: list[Any]) -> Iterator[Any]:
    """The same batches; the first ``KEPT`` images stay in ``kept``."""
    count = 0
    for batch in batches:
        if count < KEPT:
            array = np.asarray(batch.detach().cpu() if hasattr(batch, "detach") else batch)
            kept.append(array[: KEPT - count])
            count += len(kept[-1])
        yield batch


def _reference(graph: Graph, kept: list[Any]) -> Reference:
    executor = FloatExecutor(graph)
    batches = list(runs(kept, graph.inputs[0].shape))
    scores = [torch.clone(executor.run(batch)[0][:new]) for batch, new in batches]
    source = graph[graph.outputs[0]]
    while source.op == "view":
        source = graph[source.inputs[0]]
    return Reference(batches, scores, source.op == "softmax")


def _without_conflicts(
    ranked: list[tuple[Raise, dict[str, Any]]], overrides: Mapping[str, Mapping[str, Any]]
) -> list[tuple[Raise, dict[str, Any]]]:
    """The raises but those whose override would undo a better one's, or one of ``overrides``."""
    taken = {(name, option) for name, options in overrides.items() for option in options}
    found = []
    for candidate, why in ranked:
        wanted = {(name, o) for name, options in candidate.override.items() for o in options}
        if not wanted & taken:
            found.append((candidate, why))
            taken |= wanted
    return found


def _merged(*parts: Any) -> dict[str, dict[str, Any]]:
    """Overrides put together, by name and option."""
    found: dict[str, dict[str, Any]] = {}
    for name, options in chain.from_iterable(mapping.items() for mapping in (parts[0], *parts[1])):
        found[name] = {**found.get(name, {}), **options}
    return found
