"""The grid of one group: its range by the error at its readers' outputs, then scaling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.numerics.qparams import choose_qparams, integer_range
from hyq_tvm.quantization import distribution_scaling as scaling
from hyq_tvm.quantization.bias_correction import column_means
from hyq_tvm.quantization.calibrate import Statistics
from hyq_tvm.quantization.config import QuantConfig
from hyq_tvm.quantization.demand import reads_wide_where_possible
from hyq_tvm.quantization.fake_quant import Levels
from hyq_tvm.quantization.graph import Node
from hyq_tvm.quantization.groups import Group
from hyq_tvm.quantization.judges import HistogramJudge, Judge, TensorJudge, WeightJudge
from hyq_tvm.quantization.observer import Range, candidates
from hyq_tvm.quantization.overrides import layer_option, override_of
from hyq_tvm.quantization.sensitivity import STREAM, VALUE
from hyq_tvm.quantization.statistics import TensorStatistics

Steps = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Solution:
    """Steps of every class, the integers, and how they came about.

    base: the steps without scaling. ranges: the range of every class before scaling. error: sum
    of the readers' relative errors. scaled: whether scaling changed the steps.
    """

    steps: Steps
    base: Steps
    levels: Levels
    bits: int
    ranges: tuple[Range, ...]
    error: float

    @property
    def scaled(self) -> bool:
        """Whether scaling changed anything."""
        return not np.array_equal(self.steps, self.base)


class GroupSolver:
    """Solves groups against the statistics of one calibration; solutions are remembered."""

    def __init__(self, statistics: Statistics, config: QuantConfig) -> None:
        self.statistics, self.config = statistics, config
        self._solved: dict[Any, Solution] = {}

    def solve(self, group: Group, bits: int, recipes: Mapping[str, str]) -> Solution:
        """recipes: scaled conv2d and dense nodes -> their recipe."""
        mine = tuple((node.name, recipes.get(node.name)) for node, _ in group.readers)
        key = (group.key, bits, mine)
        if key not in self._solved:
            self._solved[key] = self._solve(group, bits, recipes)
        return self._solved[key]

    def _solve(self, group: Group, bits: int, recipes: Mapping[str, str]) -> Solution:
        judges = self._judges(group)
        base = self._base(group, bits, judges)
        scaled = {recipes[node.name] for node, _ in group.readers if node.name in recipes}
        if not scaled or group.count == 1 or group.symmetric:
            return base
        low, high = self._class_ranges(group)
        mine = [j for _, j in judges if isinstance(j, TensorJudge | WeightJudge)]
        problem = scaling.Problem(mine, low, high, scaling.Start(base.steps, base.levels))
        found = scaling.solve(problem, scaled)
        error = sum(j.error(found.steps, found.levels) for _, j in judges)
        return replace(base, steps=found.steps, levels=found.levels, error=error)

    def _judges(self, group: Group) -> list[tuple[str, Judge]]:
        """(tensor, judge) for every tensor and operator that the group's grid disturbs."""
        found: list[tuple[str, Judge]] = []
        for name in group.tensors:
            nodes = [node for node, tensor in group.readers if tensor == name]
            if any(
                node.op not in ("unary",) and not reads_wide_where_possible(node) for node in nodes
            ):
                found.append((name, self._tensor_judge(group, name)))
            found += [
                (name, judge) for node in nodes for judge in self._reader_judges(group, node, name)
            ]
        return found

    def _tensor_judge(self, group: Group, name: str) -> TensorJudge:
        seen = self.statistics
        rows, classes = seen.rows[name], group.classes[name]
        sums = seen.sums.get(name, np.zeros(len(classes)))
        known = seen.tensors[name]
        return TensorJudge(
            rows=rows.rows,
            gradients=seen.gradients[name].rows,
            extremes=np.stack([known.channel_low, known.channel_high]),
            sums=sums,
            classes=classes,
            seen=rows.seen,
            positions=rows.seen / seen.images,
            energy=seen.energy,
            corrected=self.config.bias_correction
            and all(node.op in ("conv2d", "dense") for node, t in group.readers if t == name),
        )

    def _reader_judges(self, group: Group, node: Node, name: str) -> list[Judge]:
        seen, classes = self.statistics, group.classes[name]
        if node.op in ("conv2d", "dense"):
            bits = layer_option(self.config, node.name, "weight_bits", self.config.weight_bits)
            squares = seen.weights[node.name].weight
            if self.config.bias_correction and name in seen.rows:
                squares = seen.weights[node.name].centered(column_means(node, seen.rows[name].rows))
            return [WeightJudge(node, squares, classes, bits, seen.energy)]
        if node.op == "unary":
            weight = seen.squares.get((node.name, VALUE), 0.0) / seen.energy
        elif reads_wide_where_possible(node):
            weight = seen.squares.get((name, STREAM), 0.0) / seen.energy
        else:
            return []
        return [HistogramJudge(node, seen.tensors[name].histogram, int(classes[0]), weight)]

    def _base(self, group: Group, bits: int, judges: Sequence[tuple[str, Judge]]) -> Solution:
        steps, ranges = np.ones(group.count), [Range(0.0, 0.0, "minmax")] * group.count
        zero_point, error = 0, 0.0
        for classes, members, mine in self._parts(group, judges):
            chosen, cost = self._choose(group, bits, members, mine)
            scale, zero_point = choose_qparams(chosen.low, chosen.high, bits, group.symmetric)
            steps[classes] = scale
            for c in classes:
                ranges[c] = chosen
            error += cost
        low, high = integer_range(bits, group.symmetric)
        levels = Levels(low, high, zero_point)
        return Solution(steps, steps, levels, bits, tuple(ranges), error)

    def _parts(
        self, group: Group, judges: Sequence[tuple[str, Judge]]
    ) -> list[tuple[list[int], list[TensorStatistics], list[Judge]]]:
        """Classes that share a step without scaling, with the tensors and judges they meet."""
        if not group.symmetric:
            every = list(range(group.count))
            return [(every, self._members(group.tensors), [j for _, j in judges])]
        parts: list[tuple[set[int], list[str], list[Judge]]] = []
        for name, judge in judges:
            mine = set(group.classes[name].tolist())
            joined = [p for p in parts if p[0] & mine]
            parts = [p for p in parts if not p[0] & mine]
            merged = (mine.union(*(p[0] for p in joined)), [name], [judge])
            for part in joined:
                merged[1].extend(part[1])
                merged[2].extend(part[2])
            parts.append(merged)
        return [(sorted(c), self._members(dict.fromkeys(n)), j) for c, n, j in parts]

    def _members(self, names: Any) -> list[TensorStatistics]:
        return [self.statistics.tensors[n] for n in names if n in self.statistics.tensors]

    def _choose(
        self, group: Group, bits: int, members: list[TensorStatistics], judges: list[Judge]
    ) -> tuple[Range, float]:
        def error(found: Range) -> float:
            return self._error(group, bits, judges, found.low, found.high)

        low = override_of(self.config, group.tensors, "low", None)
        high = override_of(self.config, group.tensors, "high", None)
        if low is not None or high is not None:
            full = candidates(members, self.config, "minmax", lambda _a, _b: 0.0)[0]
            fixed = Range(
                full.low if low is None else low, full.high if high is None else high, "override"
            )
            return fixed, error(fixed)
        observer = override_of(self.config, group.tensors, "observer", self.config.observer)
        squares: Sequence[Judge] = [HistogramJudge(None, m.histogram, 0) for m in members]
        if observer == "auto" and all(isinstance(j, HistogramJudge) for j in judges):
            squares = judges
        found = candidates(
            members,
            self.config,
            observer,
            lambda a, b: self._error(group, bits, squares, a, b),
        )
        costs = [error(r) for r in found]
        best = int(np.argmin(costs))
        return found[best], costs[best]

    @staticmethod
    def _error(group: Group, bits: int, judges: Sequence[Judge], low: float, high: float) -> float:
        scale, zero_point = choose_qparams(low, high, bits, group.symmetric)
        qmin, qmax = integer_range(bits, group.symmetric)
        steps = np.full(group.count, scale)
        return sum(j.error(steps, Levels(qmin, qmax, zero_point)) for j in judges)

    def _class_ranges(self, group: Group) -> tuple[Steps, Steps]:
        low, high = np.zeros(group.count), np.zeros(group.count)
        for name in group.tensors:
            seen = self.statistics.tensors.get(name)
            if seen is not None:
                np.minimum.at(low, group.classes[name], seen.channel_low)
                np.maximum.at(high, group.classes[name], seen.channel_high)
        return low, high
