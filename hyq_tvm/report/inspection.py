"""From an integer program, its plan and a few images to the rows and figures of a report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.quantization.accumulators import accumulator_bounds
from hyq_tvm.quantization.float_executor import FloatExecutor
from hyq_tvm.quantization.graph import Graph
from hyq_tvm.quantization.integer_program import Instruction, IntegerProgram
from hyq_tvm.quantization.plan import WIDE, QuantPlan
from hyq_tvm.report.data import ChannelRanges, LayerRow

Images = Iterable[NDArray[np.float32]]

WITHOUT_ACCUMULATOR = frozenset("quantize dequantize identity view pad concat max_pool2d".split())
NOT_SHOWN = frozenset({"view", "pad"})


def integer_sqnr(
    program: IntegerProgram, graph: Graph, plan: QuantPlan, images: Images
) -> dict[str, float]:
    """Signal to noise in dB of every tensor of the golden model against the float graph's.

    images: arrays float32 in the shape of the graph's input. Keys are instruction names; tensors
    that the float graph does not have are left out. The figure of a tensor holds all the noise
    that was made before it.
    """
    executor = FloatExecutor(graph)
    comparison = _Comparison(plan)
    for image in images:
        executor.run(image, tap=comparison.remember)
        program.run(image, tap=comparison.compare)
    return comparison.decibels()


def layer_rows(
    program: IntegerProgram, plan: QuantPlan, sqnr: Mapping[str, float] | None = None
) -> list[LayerRow]:
    """One row an instruction, in order; pure data movement is left out.

    sqnr: of ``integer_sqnr``, or of the simulation by tensor name.
    """
    margins: dict[str, float] = {}
    for bound in accumulator_bounds(program):
        known = margins.get(bound.layer, math.inf)
        margins[bound.layer] = min(known, bound.margin_bits)
    shown = (ins for ins in program if ins.op not in NOT_SHOWN)
    return [_row(ins, plan, sqnr or {}, margins) for ins in shown]


def channel_ranges(
    graph: Graph, plan: QuantPlan, images: Images, most: int = 4
) -> list[ChannelRanges]:
    """Largest magnitudes per channel before and after scaling, of the widest spread inputs.

    Layers that read one tensor share its factors; the first of them stands for all.
    """
    readers: dict[str, str] = {}
    for name, layer in plan.layers.items():
        if layer.alpha and name in graph:
            readers.setdefault(graph[name].inputs[0], name)
    spread = {
        tensor: max(plan.layers[name].alpha) / min(plan.layers[name].alpha)
        for tensor, name in readers.items()
    }
    chosen = sorted(spread, key=lambda tensor: -spread[tensor])[:most]
    largest = _channel_maxima(graph, frozenset(chosen), images)
    found = []
    for tensor in chosen:
        alpha = np.asarray(plan.layers[readers[tensor]].alpha)
        before = largest[tensor].astype(np.float64)
        after = tuple((before / alpha).tolist())
        found.append(ChannelRanges(readers[tensor], tuple(before.tolist()), after))
    return found


def _channel_maxima(
    graph: Graph, tensors: frozenset[str], images: Images
) -> dict[str, NDArray[np.float32]]:
    executor = FloatExecutor(graph)
    largest: dict[str, NDArray[np.float32]] = {}

    def tap(name: str, value: Any) -> None:
        if name in tensors:
            peak = np.abs(value.numpy()).reshape(-1, value.shape[-1]).max(axis=0)
            largest[name] = np.maximum(largest.get(name, peak), peak)

    for image in images:
        executor.run(image, tap=tap)
    return largest


def _row(
    ins: Instruction, plan: QuantPlan, sqnr: Mapping[str, float], margins: Mapping[str, float]
) -> LayerRow:
    grid, layer = plan.tensors.get(ins.name), plan.layers.get(ins.layer)
    softmax = ""
    if layer is not None and ins.op in ("attention", "softmax"):
        softmax = f"{layer.softmax}, {layer.softmax_weight_bits} bits"
    return LayerRow(
        name=ins.name,
        op=ins.op,
        shape=ins.shape,
        scale=grid.scale if grid else (),
        zero_point=grid.zero_point if grid else None,
        bits=grid.bits if grid else None,
        alpha=layer.alpha if layer and ins.op in ("conv2d", "dense") else (),
        alpha_cost=layer.alpha_cost if layer else "",
        softmax=softmax,
        sqnr_db=sqnr.get(ins.name),
        margin_bits=None if ins.op in WITHOUT_ACCUMULATOR else margins.get(ins.layer),
    )


class _Comparison:
    """Signal and noise of every tensor, summed over runs; float values are kept for one run."""

    def __init__(self, plan: QuantPlan) -> None:
        self.plan = plan
        self.exact: dict[str, NDArray[np.float32]] = {}
        self.power: dict[str, float] = {}
        self.noise: dict[str, float] = {}

    def remember(self, name: str, value: Any) -> None:
        """A tensor of the float graph."""
        self.exact[name] = value.numpy().copy()

    def compare(self, name: str, value: NDArray[Any]) -> None:
        """A tensor of the integer program that ran on the same image."""
        exact = self.exact.get(name.removesuffix(WIDE))
        if name not in self.plan.tensors or exact is None:
            return
        grid = self.plan.tensors[name]
        reals = grid.scales * (value.reshape(exact.shape).astype(np.float64) - grid.zero_point)
        self.power[name] = self.power.get(name, 0.0) + float(np.sum(exact.astype(np.float64) ** 2))
        self.noise[name] = self.noise.get(name, 0.0) + float(np.sum((reals - exact) ** 2))

    def decibels(self) -> dict[str, float]:
        """The ratio of both for every tensor seen."""
        return {name: _decibels(self.power[name], self.noise[name]) for name in self.power}


def _decibels(power: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(power / noise) if power else -math.inf
