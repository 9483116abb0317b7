"""Which channels of which tensors must share a scale, and which tensors a zero point.

Every channel of every tensor that is read narrow is a *slot*. Moves tie slots together (a channel
of a view is a channel of its source), and so do operators that know only one scale for a whole
tensor. Slots that nothing ties apart from one another may have scales of their own: q, k and v cut
out of one linear layer, or the input channels of a convolution under distribution scaling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.quantization.demand import (
    ALWAYS_WIDE,
    READS,
    TRANSPARENT,
    WIDE_WHERE_POSSIBLE,
    components,
    demands,
    direct_readers,
    is_clamp,
    keeps_channel_scales,
    streams,
)
from hyq_tvm.quantization.graph import Graph, Node

Labels = NDArray[np.int64]

PER_CHANNEL_READERS = frozenset({"add", "multiply", "avg_pool2d"})
"""Operators, besides scaled conv2d and dense, that take one scale per channel for nothing."""

PER_CHANNEL_PRODUCERS = frozenset(
    "conv2d dense matmul layer_norm group_norm add multiply reduce avg_pool2d constant".split()
)
"""Operators that requantize per channel for nothing."""


@dataclass(frozen=True)
class Choices:
    """What may cost something at run time.

    wide: streams (by name) that are 16-bit. scaled: conv2d and dense nodes whose input channels
    have scales of their own. paid: unary nodes that multiply once per element so that their
    output can have them. fine_tables: tensors whose table input has 12 bits. fine_softmax:
    attention and softmax nodes whose unnormalised weights have 16 bits.
    """

    wide: frozenset[str] = frozenset()
    scaled: frozenset[str] = frozenset()
    paid: frozenset[str] = frozenset()
    fine_tables: frozenset[str] = frozenset()
    fine_softmax: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Group:
    """Tensors that share a zero point, and the classes of channels that share a scale.

    classes: tensor -> class of each channel, in 0..count-1. readers: (operator, tensor it reads).
    reads: all ways the group is read (``demand.READS``).
    """

    tensors: tuple[str, ...]
    classes: Mapping[str, Labels]
    count: int
    reads: frozenset[str]
    readers: tuple[tuple[Node, str], ...]

    @property
    def name(self) -> str:
        """The first tensor's name."""
        return self.tensors[0]

    @property
    def symmetric(self) -> bool:
        """Whether something reads it as one operand of a product of two activations."""
        return "matmul" in self.reads

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for groups that have the same solution."""
        return (
            self.tensors,
            tuple(self.classes[name].tobytes() for name in self.tensors),
            tuple(sorted(self.reads)),
        )


class Structure:
    """The streams and groups of one graph; ``groups`` depends on the choices, the rest does not."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.reads = demands(graph)
        self.streams = streams(graph, self.reads)
        self.readers = direct_readers(graph)
        self._maps = {n.name: list(_channel_links(n, graph)) for n in graph if n.op in TRANSPARENT}

    def narrow_reads(self, choices: Choices) -> dict[str, frozenset[str]]:
        """Tensor -> the ways it is read on its narrow grid; without those that have none."""
        wide = {name for s in self.streams if s.name in choices.wide for name in s.tensors}
        found = {
            name: reads - ALWAYS_WIDE - (WIDE_WHERE_POSSIBLE if name in wide else frozenset())
            for name, reads in self.reads.items()
        }
        for node in self.graph:
            # A sum that nothing reads but a clamp is stored all the same.
            if node.op == "add" and not self.reads[node.name] and node.name not in wide:
                found[node.name] = frozenset({"value"})
        for node in reversed(list(self.graph)):
            # A move may be outside of its source's stream: then the source has both grids.
            for name in node.inputs if node.op in TRANSPARENT else ():
                found[name] |= found[node.name]
        return {name: reads for name, reads in found.items() if reads}

    def groups(self, choices: Choices) -> list[Group]:
        """The narrow groups, in graph order."""
        reads = self.narrow_reads(choices)
        moves = [n for n in self.graph if n.name in reads and n.op in TRANSPARENT]
        links = [(node.name, name) for node in moves for name in node.inputs]
        labels = self._labels(list(reads), moves, choices)
        return [
            self._group(tensors, reads, labels, choices) for tensors in components(reads, links)
        ]

    def _group(
        self,
        tensors: list[str],
        reads: Mapping[str, frozenset[str]],
        labels: Mapping[str, Labels],
        choices: Choices,
    ) -> Group:
        distinct = np.unique(np.concatenate([labels[name] for name in tensors]))
        readers = [(node, name) for name in tensors for node in self.readers[name]]
        wide = {name for s in self.streams if s.name in choices.wide for name in s.tensors}
        return Group(
            tuple(tensors),
            {name: np.searchsorted(distinct, labels[name]) for name in tensors},
            len(distinct),
            frozenset().union(*(reads[name] for name in tensors)),
            tuple((n, t) for n, t in readers if not _reads_wide(n, t, wide)),
        )

    def _labels(self, names: list[str], moves: list[Node], choices: Choices) -> dict[str, Labels]:
        starts, total = {}, 0
        for name in names:
            starts[name] = total
            total += _channels(self.graph[name])
        edges = [
            (starts[node.name] + out, starts[source] + inner)
            for node in moves
            for source, out, inner in self._maps[node.name]
        ]
        for name in names:
            if self._one_scale(name, choices):
                slots = np.arange(_channels(self.graph[name])) + starts[name]
                edges.append((slots[:-1], slots[1:]))
        labels = _connected(total, edges)
        return {n: labels[starts[n] : starts[n] + _channels(self.graph[n])] for n in names}

    def _one_scale(self, name: str, choices: Choices) -> bool:
        node = self.graph[name]
        wide = {s.name for s in self.streams if name in s.tensors} & choices.wide
        free = node.op in PER_CHANNEL_PRODUCERS | TRANSPARENT or node.name in choices.paid
        if is_clamp(node):
            free = keeps_channel_scales(node)
        if (not free and not wide) or (node.op == "pad" and node.attrs["value"]):
            return True
        return any(
            not self._takes_channels(reader, choices)
            for reader in self.readers[name]
            if not _reads_wide(reader, name, {name} if wide else set())
        )

    def _takes_channels(self, reader: Node, choices: Choices) -> bool:
        if reader.op == "reduce":
            return len(self.graph[reader.inputs[0]].shape) - 1 not in reader.attrs["axes"]
        if reader.op in PER_CHANNEL_READERS or is_clamp(reader):
            return True
        return reader.name in choices.scaled


def _channels(node: Node) -> int:
    return node.shape[-1] if node.shape else 1


def _reads_wide(reader: Node, tensor: str, wide: set[str]) -> bool:
    if reader.op == "softmax":
        return True
    return tensor in wide and READS[reader.op] in WIDE_WHERE_POSSIBLE


def _connected(total: int, edges: list[tuple[Labels, Labels]]) -> Labels:
    """The lowest slot that each slot is connected to."""
    labels = np.arange(total)
    if not edges:
        return labels
    a = np.concatenate([e[0] for e in edges])
    b = np.concatenate([e[1] for e in edges])
    while True:
        before = labels.copy()
        low = np.minimum(labels[a], labels[b])
        np.minimum.at(labels, labels[a], low)
        np.minimum.at(labels, labels[b], low)
        labels = labels[labels]
        if np.array_equal(before, labels):
            return labels


def _channel_links(node: Node, graph: Graph) -> Iterator[tuple[str, Labels, Labels]]:
    """(input, output channels, the input's channels that they hold), pairwise."""
    if node.op == "view":
        yield (node.inputs[0], *_view_links(node, graph[node.inputs[0]]))
        return
    offset = node.attrs["pads"][-1][0] if node.op == "pad" else 0
    for name in node.inputs:
        inner = np.arange(_channels(graph[name]))
        yield name, inner + offset, inner
        if node.op == "concat" and node.attrs["axis"] == len(node.shape) - 1:
            offset += len(inner)


def _view_links(node: Node, source: Node) -> tuple[Labels, Labels]:
    view, channels = node.attrs["view"], _channels(source)
    if view.keeps_last_axis(channels):
        return np.arange(channels), np.arange(channels)
    read = view.apply(np.broadcast_to(np.arange(channels), source.shape))
    out = np.broadcast_to(np.arange(_channels(node)), node.shape)
    pairs = np.unique(out.ravel() * channels + read.ravel())
    return pairs // channels, pairs % channels
