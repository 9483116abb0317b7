"""What one pass over the calibration data leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.quantization.demand import direct_readers
from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.sensitivity import NARROW, VALUE, WEIGHT
from hyq_tvm.quantization.statistics import RowSample, TensorStatistics

Float = NDArray[np.float32]
Double = NDArray[np.float64]

SAMPLE_ELEMENTS = 1 << 19
"""Most elements that one tensor's sample holds (2 MiB)."""

ATTENTION_SLICES = 16
"""Heads of images whose whole q, k and v are kept, per attention."""

ATTENTION_QUERIES = 64
"""Most queries kept of each slice."""

KEPT_IMAGES = 32
"""Images kept for comparing whole quantized models."""


@dataclass
class Statistics:
    """All that calibration remembers; sums over an image are means over images.

    tensors: of every tensor that an operator reads. rows: the same tensors -> sampled rows [n, C].
    squares: (tensor, way of reading) -> [C], sum over an image of the squared gradients of a
    channel. shifts: tensor -> [C], the square of the summed gradients of a channel, through narrow
    reads. weights: conv2d or dense node -> squared gradients of its weight, in its shape.
    attention: node -> q [S,n,D], k [S,M,D], v [S,M,E], bias [S,n,M] and gradient [S,n,E] of sampled
    slices. inputs: runs of the model's input. energy: of the model's outputs.
    """

    tensors: dict[str, TensorStatistics] = field(default_factory=dict)
    rows: dict[str, RowSample] = field(default_factory=dict)
    squares: dict[tuple[str, str], Double] = field(default_factory=dict)
    shifts: dict[str, Double] = field(default_factory=dict)
    weights: dict[str, Double] = field(default_factory=dict)
    attention: dict[str, dict[str, RowSample]] = field(default_factory=dict)
    inputs: RowSample = field(default_factory=lambda: RowSample(1, "input", 0))
    energy: float = 0.0
    images: int = 0

    def noise_weight(self, name: str, way: str) -> float:
        """Noise to signal at the output for one unit of mean squared error in a tensor."""
        squares = self.squares.get((name, way))
        return 0.0 if squares is None else float(squares.sum()) / self.energy


class Collector:
    """Is shown every tensor and every gradient of a run, and remembers little of them."""

    def __init__(self, graph: Graph, samples: int, seed: int) -> None:
        self.graph, self.seed = graph, seed
        self.statistics = Statistics()
        self.run_number, self.energy = 0, 0.0
        self.readers = direct_readers(graph)
        self.wanted = {n for n in graph.nodes if self.readers[n] or n in graph.outputs}
        self.wanted |= {n.name for n in graph if n.op == "add"}
        self.operands: dict[str, Float] = {}
        kept = max(1, KEPT_IMAGES // graph.inputs[0].shape[0])
        self.statistics.inputs = RowSample(kept, "input", seed)
        for node in graph:
            self._prepare(node, samples)

    def _prepare(self, node: Node, samples: int) -> None:
        if node.op == "attention":
            # One name for all parts: the same slices of each are kept.
            names = ("q", "k", "v", "gradient") + (("bias",) if "bias" in node.params else ())
            self.statistics.attention[node.name] = {
                part: RowSample(ATTENTION_SLICES, node.name, self.seed) for part in names
            }
        if node.name not in self.wanted:
            return
        limit = min(samples, max(64, SAMPLE_ELEMENTS // (node.shape[-1] if node.shape else 1)))
        self.statistics.rows[node.name] = RowSample(limit, node.name, self.seed)
        self.statistics.tensors[node.name] = TensorStatistics()
        if node.op == "constant":
            self._see_values(node.name, np.atleast_1d(node.params["value"]).astype(np.float32))

    def begin(self, number: int, run: Float) -> None:
        """Start a run; its input competes for being kept."""
        self.run_number = number
        self.statistics.images += len(run)
        self.statistics.inputs.offer(number, 1, lambda _: run[None])

    def finish(self) -> Statistics:
        """The statistics, sums turned into means over images."""
        found = self.statistics
        found.energy = max(self.energy / found.images, 1e-30)
        for totals in (found.squares, found.shifts, found.weights):
            for key in totals:
                totals[key] = totals[key] / found.images
        return found

    def see_tensor(self, name: str, tensor: Any) -> None:
        """A tensor of the forward pass."""
        if self.graph[name].op == "attention":
            self._sample_attention(self.graph[name])
        if name not in self.wanted:
            return
        values = np.asarray(tensor.detach().numpy(), np.float32)
        self._see_values(name, values)
        if any(reader.op == "attention" for reader in self.readers[name]):
            self.operands[name] = values

    def see_gradient(self, name: str, way: str, gradient: Any) -> None:
        """One gradient of the backward pass (see ``sensitivity``)."""
        values = np.asarray(gradient.detach().numpy(), np.float32)
        found = self.statistics
        if way == WEIGHT:
            squares = np.square(values, dtype=np.float64)
            found.weights[name] = found.weights.get(name, 0.0) + squares
            return
        rows = values.reshape(-1, values.shape[-1])
        squares = np.einsum("nc,nc->c", rows, rows).astype(np.float64)
        found.squares[name, way] = found.squares.get((name, way), 0.0) + squares
        if way == NARROW:
            shift = rows.sum(axis=0, dtype=np.float64) ** 2
            found.shifts[name] = found.shifts.get(name, 0.0) + shift
        elif way == VALUE and self.graph[name].op == "attention":
            self._offer_slices(self.graph[name], "gradient", values)

    def _see_values(self, name: str, values: Float) -> None:
        self.statistics.tensors[name].add(name, values)
        rows = values.reshape(-1, values.shape[-1])
        self.statistics.rows[name].offer(self.run_number, len(rows), rows.__getitem__)

    def _sample_attention(self, node: Node) -> None:
        for part, source in zip("qkv", node.inputs, strict=True):
            self._offer_slices(node, part, self.operands[source])
        if "bias" in node.params:
            self._offer_slices(node, "bias", np.asarray(node.params["bias"], np.float32))
        for source in node.inputs:
            if self.readers[source][-1] is node:
                self.operands.pop(source, None)

    def _offer_slices(self, node: Node, part: str, values: Float) -> None:
        full = np.broadcast_to(values, (*node.shape[:-2], *values.shape[-2:]))
        flat = full.reshape(-1, *values.shape[-2:])
        if part not in "kv":
            flat = flat[:, _spread(flat.shape[1], ATTENTION_QUERIES)]
        sample = self.statistics.attention[node.name][part]
        sample.offer(self.run_number, len(flat), flat.__getitem__)


def _spread(count: int, limit: int) -> NDArray[np.int64]:
    """At most ``limit`` indices, evenly over ``count``."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).astype(np.int64))
