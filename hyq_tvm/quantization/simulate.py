"""The quantized model in float: quantize-dequantize at every planned grid, weights rounded.

A proxy of the integer program, used to choose between plans and to say where error comes from.
It leaves out what is below one step: requantize ties, table and reciprocal rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hyq_tvm.quantization import gemm
from hyq_tvm.quantization.demand import TRANSPARENT, is_clamp, reads_wide_where_possible
from hyq_tvm.quantization.fake_quant import on_plan, weight_on_grid
from hyq_tvm.quantization.float_executor import evaluate_node
from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.plan import WIDE, QuantPlan
from hyq_tvm.quantization.softmax_model import planned_probabilities

Tensor = Any
Tap = Callable[[str, Any], None]


class Simulator:
    """Runs ``graph`` as ``plan`` would have it."""

    def __init__(self, graph: Graph, plan: QuantPlan) -> None:
        self.graph, self.plan = graph, plan
        self.nodes = {node.name: self._prepared(node) for node in graph}
        self.last_use = _last_use(graph)

    def run(self, x: Any, tap: Tap | None = None) -> list[Tensor]:
        """Float outputs for one float32 input of the traced shape.

        tap: called with the name of every tensor and its value before its own grid.
        """
        values: dict[str, Tensor] = {}
        grids: dict[str, Tensor] = {}
        with torch.no_grad():
            for node in self.nodes.values():
                if node.op == "input":
                    values[node.name] = torch.as_tensor(x)
                else:
                    inputs = [self._read(node, name, values, grids) for name in node.inputs]
                    values[node.name] = self._evaluate(node, inputs)
                if tap is not None:
                    tap(node.name, values[node.name])
                for name in self.last_use.get(node.name, ()):
                    for store, key in ((values, name), (grids, name), (grids, name + WIDE)):
                        store.pop(key, None)
        return [self._on(name, WIDE, values, grids) for name in self.graph.outputs]

    def _read(
        self, node: Node, name: str, values: dict[str, Tensor], grids: dict[str, Tensor]
    ) -> Tensor:
        if node.op in TRANSPARENT:
            return values[name]
        if is_clamp(node) and self.graph[name].op not in TRANSPARENT | {"input"}:
            return values[name]
        return self._on(name, WIDE if reads_wide_where_possible(node) else "", values, grids)

    def _on(
        self, name: str, suffix: str, values: dict[str, Tensor], grids: dict[str, Tensor]
    ) -> Tensor:
        """A tensor on the grid that a reader wants, or on the one that the plan has."""
        key = name + suffix
        if key not in self.plan.tensors:
            key = name if suffix else name + WIDE
        if key not in self.plan.tensors:
            return values[name]
        if key not in grids:
            grids[key] = on_plan(values[name], self.plan.tensors[key])
        return grids[key]

    def _prepared(self, node: Node) -> Node:
        layer = self.plan.layers.get(node.name)
        if node.op not in ("conv2d", "dense") or (layer and layer.exclude):
            return node
        bits = layer.weight_bits if layer else 8
        source = self.plan.tensors[node.inputs[0]]
        channels = self.graph[node.inputs[0]].shape[-1]
        steps = torch.from_numpy(np.broadcast_to(source.scales, channels).astype(np.float32))
        columns = gemm.grouped_channels(node, steps)
        weight = weight_on_grid(gemm.grouped_weight(node), columns, bits)
        shape = node.params["weight"].shape
        rounded = {**node.params, "weight": weight.reshape(shape).numpy()}
        if layer and layer.bias_shift:
            rounded["bias"] = node.params["bias"] + np.asarray(layer.bias_shift, np.float32)
        return node.with_(params=rounded)

    def _evaluate(self, node: Node, inputs: list[Tensor]) -> Tensor:
        layer = self.plan.layers.get(node.name)
        if node.op not in ("attention", "softmax") or layer is None or layer.exclude:
            return evaluate_node(node, inputs)
        if node.op == "softmax":
            return planned_probabilities(inputs[0], layer)
        logits = inputs[0] @ inputs[1].transpose(-1, -2) * float(node.attrs["scale"])
        if len(inputs) > 3:
            logits = logits + inputs[3]
        elif "bias" in node.params:
            logits = logits + torch.from_numpy(node.params["bias"])
        return planned_probabilities(logits, layer) @ inputs[2]


def _last_use(graph: Graph) -> dict[str, list[str]]:
    last: dict[str, str] = {}
    for node in graph:
        for name in node.inputs:
            last[name] = node.name
    dead: dict[str, list[str]] = {}
    for name, reader in last.items():
        if name not in graph.outputs:
            dead.setdefault(reader, []).append(name)
    return dead


def simulate(graph: Graph, plan: QuantPlan, x: Any, tap: Tap | None = None) -> list[Tensor]:
    """One run of a ``Simulator``; x: float32 of the graph's input shape."""
    return Simulator(graph, plan).run(x, tap)


def relative_error(reference: Iterable[Any], outputs: Iterable[Any]) -> float:
    """Squared error over energy, summed over outputs."""
    return float(
        sum(
            float((a - b).square().sum()) / (float(a.square().sum()) + 1e-30)
            for a, b in zip(reference, outputs, strict=True)
        )
    )


def sqnr_table(
    graph: Graph, plan: QuantPlan, executor: Any, runs: Iterable[NDArray[np.float32]]
) -> dict[str, float]:
    """Tensor -> signal to noise in dB of the simulated model against the float one, over ``runs``.

    executor: a ``FloatExecutor`` of ``graph``.
    """
    simulator = Simulator(graph, plan)
    energy: dict[str, float] = {}
    noise: dict[str, float] = {}
    for run in runs:
        reference: dict[str, Tensor] = {}
        executor.run(run, tap=reference.__setitem__)

        def compare(name: str, value: Tensor, reference: dict[str, Tensor] = reference) -> None:
            if name not in reference:
                return
            exact = reference.pop(name).double()
            energy[name] = energy.get(name, 0.0) + float(exact.square().sum())
            noise[name] = noise.get(name, 0.0) + float((exact - value).square().sum())

        simulator.run(run, tap=compare)
    return {n: float(10 * np.log10((energy[n] + 1e-30) / (noise[n] + 1e-30))) for n in energy}
