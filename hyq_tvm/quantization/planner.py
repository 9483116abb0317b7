"""From statistics to a QuantPlan: grids for every tensor, decisions for every operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hyq_tvm.errors import CalibrationError
from hyq_tvm.quantization import distribution_scaling as scaling
from hyq_tvm.quantization.bias_correction import bias_shift
from hyq_tvm.quantization.calibrate import ExecutorFactory, Statistics, collect
from hyq_tvm.quantization.choose import attention_sample, choose, fine_softmax, softmax_errors
from hyq_tvm.quantization.config import QuantConfig
from hyq_tvm.quantization.demand import Stream, is_clamp
from hyq_tvm.quantization.float_executor import FloatExecutor
from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.groups import Choices, Group, Structure
from hyq_tvm.quantization.overrides import check_overrides, layer_option, override_of
from hyq_tvm.quantization.plan import WIDE, LayerPlan, QuantPlan, TensorPlan
from hyq_tvm.quantization.segments import segments
from hyq_tvm.quantization.selection import best_of, with_and_without_shifts
from hyq_tvm.quantization.solver import GroupSolver, Solution

WIDE_BITS = 16
WIDE_MAX = 2 ** (WIDE_BITS - 1) - 1
STREAM_HEADROOM = 1.25
OUTPUT_HEADROOM = 2.0
LEAST_LOGIT = 1e-2
"""Of the published softmax's grid: on finer ones its weights of rows of zeros leave int64 (SM7)."""
LAYER_OPS = frozenset("conv2d dense matmul attention softmax layer_norm group_norm unary".split())


class Planner:
    """Makes the plan of one graph for any choices; groups are solved once each."""

    def __init__(self, graph: Graph, statistics: Statistics, config: QuantConfig) -> None:
        self.graph, self.statistics, self.config = graph, statistics, config
        self.structure = Structure(graph)
        self.solver = GroupSolver(statistics, config)
        self.recipes = self._recipes()

    def plan(self, choices: Choices) -> QuantPlan:
        """The plan under the given choices."""
        tensors: dict[str, TensorPlan] = {}
        noise = 0.0
        layers = {n.name: self._layer(n, choices) for n in self.graph if n.op in LAYER_OPS}
        for group in self.structure.groups(choices):
            solution = self.solve(group, choices)
            noise += solution.error
            for name in group.tensors:
                tensors[name] = _narrow(group, name, solution)
            for node, name in group.readers:
                if node.name in choices.scaled and solution.scaled:
                    layers[node.name] = self._scaled(layers[node.name], group, name, solution)
        for stream in self.structure.streams:
            if stream.name in choices.wide:
                tensors.update(self._wide(stream))
        layers.update(self._corrected(layers, tensors))
        softmax = softmax_errors(self.statistics, self.graph, layers)
        noise += sum(error.noise for error in softmax.values())
        notes = {
            "predicted_sqnr_db": round(-10 * math.log10(max(noise, 1e-30)), 2),
            "softmax_max_dp": {name: round(e.largest, 5) for name, e in softmax.items()},
        }
        return QuantPlan(self.config, self.graph.fingerprint(), tensors, layers, notes)

    def _corrected(
        self, layers: Mapping[str, LayerPlan], tensors: Mapping[str, TensorPlan]
    ) -> dict[str, LayerPlan]:
        """The convolutions and linear layers whose biases make up for rounding."""
        found, rows = {}, self.statistics.rows
        for name, layer in layers.items() if self.config.bias_correction else ():
            node = self.graph[name]
            source = node.inputs[0]
            if node.op not in ("conv2d", "dense") or layer.exclude or source not in rows:
                continue
            shift = bias_shift(node, rows[source].rows, tensors[source], layer.weight_bits)
            found[name] = replace(layer, bias_shift=shift)
        return found

    def softmax_layers(self) -> dict[str, LayerPlan]:
        """The decisions about attention and softmax, which depend on nothing else of a plan."""
        choices = Choices(fine_softmax=fine_softmax(self))
        nodes = (node for node in self.graph if node.op in ("attention", "softmax"))
        return {node.name: self._layer(node, choices) for node in nodes}

    def solve(self, group: Group, choices: Choices) -> Solution:
        """The group's grid."""
        recipes = {name: self.recipes[name] for name in choices.scaled}
        return self.solver.solve(group, self.bits(group, choices), recipes)

    def bits(self, group: Group, choices: Choices) -> int:
        """Width of a group's grid: what its most demanding reader wants."""
        planned = 8
        if self.config.widths == "uniform" or ("gemm" in group.reads and not self._is_data(group)):
            planned = self.config.activation_bits
        elif group.reads == {"table"} and group.name in choices.fine_tables:
            planned = 12
        chosen = override_of(self.config, group.tensors, "bits", planned)
        limit = 12 if group.reads == {"table"} else 8
        return int(chosen) if chosen <= limit else planned

    def _is_data(self, group: Group) -> bool:
        """Whether the group is the model's input, moved at most."""
        return any(node.name in group.tensors for node in self.graph.inputs)

    def _recipes(self) -> dict[str, str]:
        found = {}
        eligible = scaling.inverted_residual_convs(self.graph)
        for node in self.graph:
            if node.op not in ("conv2d", "dense"):
                continue
            recipe = layer_option(self.config, node.name, "scaling", self.config.scaling)
            excluded = layer_option(self.config, node.name, "exclude", False)
            if recipe is None or excluded or (recipe == "qads_paper" and node.name not in eligible):
                continue
            found[node.name] = recipe
        return found

    def _layer(self, node: Node, choices: Choices) -> LayerPlan:
        def option(name: str, default: Any) -> Any:
            return layer_option(self.config, node.name, name, default)

        softmax = node.op in ("attention", "softmax")
        width = 16 if node.name in choices.fine_softmax else 8
        return LayerPlan(
            op=node.op,
            weight_bits=option("weight_bits", self.config.weight_bits),
            exclude=option("exclude", False),
            softmax=option("softmax", self.config.softmax) if softmax else "",
            softmax_weight_bits=option("softmax_weight_bits", width) if softmax else 8,
            softmax_logit_scale=self._logit_scale(node) if softmax else 0.0,
        )

    def _logit_scale(self, node: Node) -> float:
        """The 8-bit grid of the logits, which the published softmax alone needs."""
        if layer_option(self.config, node.name, "softmax", self.config.softmax) != "hyq":
            return 0.0
        if node.op == "attention":
            logits, _ = attention_sample(self.statistics, node)
            peak = float(logits[torch.isfinite(logits)].abs().max())
        else:
            seen = self.statistics.tensors[node.inputs[0]]
            peak = max(-float(seen.low), float(seen.high))
        return max(peak, LEAST_LOGIT) / 127

    def _scaled(self, layer: LayerPlan, group: Group, name: str, solution: Solution) -> LayerPlan:
        classes = group.classes[name]
        alpha = (solution.steps / solution.base)[classes]
        paid = [t for t in group.tensors if self._pays(t)]
        cost = f"one multiply per element after {', '.join(paid)}" if paid else "free"
        return replace(layer, alpha=tuple(float(a) for a in alpha), alpha_cost=cost)

    def _pays(self, tensor: str) -> bool:
        node = self.graph[tensor]
        return node.op == "unary" and not is_clamp(node)

    def _wide(self, stream: Stream) -> dict[str, TensorPlan]:
        headroom = OUTPUT_HEADROOM if "output" in stream.reads else STREAM_HEADROOM
        found = {}
        for segment in segments(self.graph, stream, self._peak):
            peak = max(self._peak(name) for name in segment)
            scale = float((max(peak, 1e-30) if peak else 1.0) * headroom / WIDE_MAX)
            plan = TensorPlan((scale,), 0, WIDE_BITS, True, "minmax", *self._range(segment))
            found.update({name + WIDE: plan for name in segment})
        return found

    def _peak(self, name: str) -> float:
        low, high = self._range((name,))
        return max(-low, high)

    def _range(self, names: Iterable[str]) -> tuple[float, float]:
        """Least and greatest value seen of some tensors, and 0."""
        seen = [self.statistics.tensors[n] for n in names if n in self.statistics.tensors]
        return min((s.low for s in seen), default=0.0), max((s.high for s in seen), default=0.0)


def _narrow(group: Group, name: str, solution: Solution) -> TensorPlan:
    steps = solution.steps[group.classes[name]]
    scale = (float(steps[0]),) if (steps == steps[0]).all() else tuple(float(s) for s in steps)
    chosen = solution.ranges[int(group.classes[name][0])]
    return TensorPlan(
        scale,
        solution.levels.zero_point,
        solution.bits,
        group.symmetric,
        chosen.observer,
        chosen.low,
        chosen.high,
    )


def make_plan(
    graph: Graph,
    batches: Iterable[Any],
    config: QuantConfig,
    executor_factory: ExecutorFactory = FloatExecutor,
    progress: Callable[[int], None] | None = None,
) -> QuantPlan:
    """Calibrate on ``batches`` and decide everything that a quantization has to decide.

    batches: iterable of float32 arrays or tensors [n, ...], any n, of the graph's input but for n;
    read once. The plan is the same bit for bit however the images are cut into batches.
    progress: called with the number of new images after every run of the float model.
    Raises ``CalibrationError`` (empty, not finite, wrong shape or dtype), ``ConfigError`` (an
    override that names nothing) and ``UnsupportedModelError`` (several inputs).
    """
    statistics = calibrate(graph, batches, config, executor_factory, progress)
    return plan_from_statistics(graph, statistics, config)


def calibrate(
    graph: Graph,
    batches: Iterable[Any],
    config: QuantConfig,
    executor_factory: ExecutorFactory = FloatExecutor,
    progress: Callable[[int], None] | None = None,
) -> Statistics:
    """The first half of ``make_plan``; of ``config`` only ``samples`` and ``seed`` matter."""
    check_overrides(graph, config)
    with _one_thread():
        return collect(graph, batches, config.samples, config.seed, executor_factory, progress)


def plan_from_statistics(graph: Graph, statistics: Statistics, config: QuantConfig) -> QuantPlan:
    """The plan that ``make_plan`` makes, from statistics that were collected before."""
    # Choosing solves every group many times: learning waits until the choice is made.
    quick = replace(config, scaling="smoothquant") if config.scaling == "qads" else config
    with _one_thread():
        planner = Planner(graph, statistics, quick)
        choices = choose(planner)
        plans = [Planner(graph, statistics, config).plan(choices)]
        if quick != config:
            plans.append(replace(planner.plan(choices), config=config))
        plans = [variant for plan in plans for variant in with_and_without_shifts(plan)]
        return best_of(graph, plans, _kept_runs(statistics))


def with_softmax(graph: Graph, statistics: Statistics, plan: QuantPlan, kind: str) -> QuantPlan:
    """The same grids with another kind of softmax, and the width of weights that it wants.

    graph, statistics: those that ``plan`` was made from. ``simulated_sqnr_db`` is noted no longer.
    """
    config = replace(plan.config, softmax=kind)
    planner = Planner(graph, statistics, config)
    layers = {**plan.layers, **planner.softmax_layers()}
    errors = softmax_errors(statistics, graph, layers)
    notes = {k: v for k, v in plan.notes.items() if not k.endswith("_sqnr_db")}
    notes["softmax_max_dp"] = {name: round(e.largest, 5) for name, e in errors.items()}
    return replace(plan, config=config, layers=layers, notes=notes)


def _kept_runs(statistics: Statistics) -> NDArray[np.float32]:
    if statistics.inputs is None:
        raise CalibrationError("the calibration data is empty: give at least one image")
    return statistics.inputs.rows


@contextmanager
def _one_thread() -> Iterator[None]:
    """One image and small arrays at a time: threads that wait for each other gain little, and on a
    machine that has other work make it up to a hundred times slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
