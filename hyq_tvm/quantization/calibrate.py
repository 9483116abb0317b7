"""One pass of the float model over the calibration data: ranges, histograms and sampled rows.

Batches of any size are cut into runs of the traced one, so the result depends on the images and
their order alone. Where the last run is not full, images from the beginning fill it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from hyq_tvm.errors import CalibrationError, UnsupportedModelError
from hyq_tvm.quantization.demand import direct_readers
from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.sensitivity import BIAS, NARROW, VALUE, WEIGHT, GradientPass
from hyq_tvm.quantization.statistics import RowSample, TensorStatistics, WeightSquares

Float = NDArray[np.float32]
ExecutorFactory = Callable[[Graph], Any]
Progress = Callable[[int], None]

SAMPLE_ELEMENTS = 1 << 19
"""Most elements that one tensor's sample holds (2 MiB)."""

ATTENTION_SLICES = 16
"""Heads of images whose whole q, k and v are kept, per attention."""

ATTENTION_QUERIES = 64
"""Most queries kept of each slice."""

LEAST_ENERGY = 1e-12
"""Of the outputs: some models give nothing but zeros on the calibration data."""

KEPT_RUNS = 16
"""Images kept for comparing whole quantized models."""


@dataclass
class AttentionSample:
    """q [S,n,D], k [S,M,D], v [S,M,E], bias [S,n,M] and gradient [S,n,E] of sampled slices."""

    parts: dict[str, RowSample]

    def arrays(self) -> dict[str, Float]:
        """The rows by operand name."""
        return {name: sample.rows for name, sample in self.parts.items()}


@dataclass
class Statistics:
    """All that calibration remembers.

    tensors: of every tensor that an operator reads. rows: the same tensors -> sampled rows [n, C].
    gradients: of the same rows, through narrow reads. sums: [C], the squared sum of a channel's
    gradients over an image, mean over images. weights: conv2d or dense node -> squared gradients
    of its weight and bias, mean over images. attention: node -> sampled slices. squares: (tensor,
    way) -> sum over an image of its squared gradients, mean over images. inputs: runs of the
    model's input. energy: of the outputs, mean over images.
    """

    tensors: dict[str, TensorStatistics] = field(default_factory=dict)
    rows: dict[str, RowSample] = field(default_factory=dict)
    gradients: dict[str, RowSample] = field(default_factory=dict)
    sums: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    weights: dict[str, WeightSquares] = field(default_factory=dict)
    attention: dict[str, AttentionSample] = field(default_factory=dict)
    squares: dict[tuple[str, str], float] = field(default_factory=dict)
    energy: float = 0.0
    inputs: RowSample | None = None
    images: int = 0


def runs(batches: Iterable[Any], shape: tuple[int, ...]) -> Iterator[tuple[Float, int]]:
    """Arrays of exactly ``shape`` and how many of their images are new.

    ``batches``: arrays or tensors [n, *shape[1:]] of float32, any n. Raises ``CalibrationError``
    on another shape or dtype, NaN or infinity, or no data at all.
    """
    first: Float | None = None
    held = np.zeros((0, *shape[1:]), np.float32)
    for number, batch in enumerate(_each(batches)):
        held = np.concatenate([held, _checked(batch, shape, number)])
        while len(held) >= shape[0]:
            run, held = held[: shape[0]], held[shape[0] :]
            first = run if first is None else first
            yield run, shape[0]
    if first is None and not len(held):
        raise CalibrationError("the calibration data is empty: give at least one image")
    if len(held):
        source = held if first is None else first
        filling = np.resize(source, shape)[: shape[0] - len(held)]
        yield np.concatenate([held, filling]), len(held)


def _each(batches: Iterable[Any]) -> Iterator[Any]:
    try:
        return iter(batches)
    except TypeError as error:
        raise CalibrationError(
            f"calibration data must be an iterable of float32 batches, not {type(batches).__name__}"
        ) from error


def _checked(batch: Any, shape: tuple[int, ...], number: int) -> Float:
    array = np.asarray(batch.detach().cpu() if hasattr(batch, "detach") else batch)
    where = f"calibration batch {number}"
    if array.dtype != np.float32:
        raise CalibrationError(f"{where} has dtype {array.dtype}: convert it to float32")
    if array.shape[1:] != shape[1:] or array.ndim != len(shape):
        raise CalibrationError(
            f"{where} has shape {array.shape}, but the model reads (n, "
            f"{', '.join(map(str, shape[1:]))}) with any n"
        )
    if not np.isfinite(array).all():
        raise CalibrationError(f"{where} holds NaN or infinity")
    return array


def collect(
    graph: Graph,
    batches: Iterable[Any],
    samples: int,
    seed: int,
    executor_factory: ExecutorFactory,
    progress: Progress | None = None,
) -> Statistics:
    """Run the float model over the data once.

    samples: rows kept per layer. progress: called with the number of new images after each run;
    without it a bar is drawn when standard error is a terminal.
    Raises ``CalibrationError`` (see ``runs``; also when an activation is not finite) and
    ``UnsupportedModelError`` for a model of several inputs.
    """
    if len(graph.inputs) != 1:
        raise UnsupportedModelError(
            f"calibration feeds one input, but the model has {[n.name for n in graph.inputs]}"
        )
    shape = graph.inputs[0].shape
    executor, collector = executor_factory(graph), _Collector(graph, samples, seed)
    gradients = GradientPass(graph, seed)
    total = len(batches) if isinstance(batches, Sized) and shape[0] == 1 else None
    with tqdm(
        total=total, desc="calibrating", unit="image", disable=progress or not sys.stderr.isatty()
    ) as bar:
        for number, (run, new) in enumerate(runs(batches, shape)):
            collector.begin(number, run)
            executor.run(run, tap=collector.see_tensor)
            collector.energy += gradients.run(number, run, collector.see_gradient)
            collector.images += len(run)
            bar.update(new)
            if progress is not None:
                progress(new)
    return collector.finish()


class _Collector:
    """Is shown every tensor and every gradient of a run, and remembers little of them."""

    def __init__(self, graph: Graph, samples: int, seed: int) -> None:
        self.graph, self.seed = graph, seed
        self.statistics = Statistics()
        self.run_number, self.images, self.energy = 0, 0, 0.0
        self.weight_gradient = np.zeros(0, np.float32)
        self.readers = direct_readers(graph)
        self.wanted = {n for n in graph.nodes if self.readers[n] or n in graph.outputs}
        self.wanted |= {n.name for n in graph if n.op == "add"}
        self.operands: dict[str, Float] = {}
        for node in graph:
            if node.name in self.wanted and node.op != "constant":
                limit = min(samples, max(64, SAMPLE_ELEMENTS // node.channels))
                self.statistics.rows[node.name] = RowSample(limit, node.name, seed)
                self.statistics.gradients[node.name] = RowSample(limit, node.name, seed)
            if node.op == "attention":
                # One name for all: the same slices of each are kept.
                names = ("q", "k", "v", "gradient") + (("bias",) if "bias" in node.params else ())
                parts = {p: RowSample(ATTENTION_SLICES, node.name, seed) for p in names}
                self.statistics.attention[node.name] = AttentionSample(parts)
            elif node.op == "constant" and node.name in self.wanted:
                value = np.asarray(node.params["value"], np.float32)
                self.statistics.tensors[node.name] = TensorStatistics()
                self.statistics.tensors[node.name].add(node.name, value)

    def begin(self, number: int, run: Float) -> None:
        """Start a run; its input competes for being kept."""
        self.run_number = number
        if self.statistics.inputs is None:
            limit = max(1, KEPT_RUNS // len(run))
            self.statistics.inputs = RowSample(limit, "input", self.seed)
        self.statistics.inputs.offer(number, 1, lambda _: run[None])

    def finish(self) -> Statistics:
        """The statistics, sums turned into means over images."""
        found = self.statistics
        found.energy, found.images = max(self.energy / self.images, LEAST_ENERGY), self.images
        found.squares = {key: total / self.images for key, total in found.squares.items()}
        found.sums = {name: total / self.images for name, total in found.sums.items()}
        for squares in found.weights.values():
            squares.finish(self.images)
        return found

    def see_tensor(self, name: str, tensor: Any) -> None:
        """A tensor of the forward pass."""
        node = self.graph[name]
        if node.op == "attention":
            self._sample_attention(node)
        if name not in self.wanted:
            return
        values = np.asarray(tensor.detach().numpy(), np.float32)
        self.statistics.tensors.setdefault(name, TensorStatistics()).add(name, values)
        self._offer_rows(self.statistics.rows[name], values)
        if any(reader.op == "attention" for reader in self.readers[name]):
            self.operands[name] = values

    def see_gradient(self, name: str, way: str, gradient: Any) -> None:
        """One gradient of the backward pass (see ``sensitivity``)."""
        values = np.asarray(gradient.detach().numpy(), np.float32)
        squares = self.statistics.squares
        total = float(np.square(values).sum(dtype=np.float64))
        squares[name, way] = squares.get((name, way), 0.0) + total
        if way == NARROW and name in self.wanted:
            self._offer_rows(self.statistics.gradients[name], values)
            sums = values.reshape(-1, values.shape[-1]).sum(axis=0, dtype=np.float64) ** 2
            self.statistics.sums[name] = self.statistics.sums.get(name, 0.0) + sums
        elif way == WEIGHT:
            self.weight_gradient = values.copy()
        elif way == BIAS:
            known = self.statistics.weights.setdefault(name, WeightSquares())
            known.add(self.weight_gradient, values)
        elif way == VALUE and self.graph[name].op == "attention":
            self._offer_slices(self.graph[name], "gradient", values)

    def _offer_rows(self, sample: RowSample, values: Float) -> None:
        rows = values.reshape(-1, values.shape[-1])
        sample.offer(self.run_number, len(rows), rows.__getitem__)

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
        sample = self.statistics.attention[node.name].parts[part]
        sample.offer(self.run_number, len(flat), flat.__getitem__)


def _spread(count: int, limit: int) -> NDArray[np.int64]:
    """At most ``limit`` indices, evenly over ``count``."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).astype(np.int64))
