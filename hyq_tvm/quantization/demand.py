"""Who reads what as integers: the grids that every tensor of a graph needs.

A tensor has at most two grids (docs/architecture.md). Who reads it decides which:

==============================  =====================================================
reader                          reads
==============================  =====================================================
conv2d, dense                   narrow, one scale per channel where scaling acts
matmul, attention               narrow, symmetric, one scale
unary                           narrow, one scale: it indexes the function's table
clamps (relu, relu6, clip)      nothing: they are the saturation of their output's grid;
                                narrow where their input is no sum or has other readers
multiply                        narrow
add, layer_norm, group_norm,
reduce, avg_pool2d              wide where their input's stream is wide, else narrow
softmax, the model's output     wide
==============================  =====================================================

View, concat, max_pool2d and pad move integers without computing: what reads their output reads
their inputs, so all of these share one grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.unary import CLAMPS

TRANSPARENT = frozenset({"view", "concat", "max_pool2d", "pad"})
"""Operators whose output has the integers of their inputs."""

READS = {
    "conv2d": "gemm",
    "dense": "gemm",
    "matmul": "matmul",
    "attention": "matmul",
    "unary": "table",
    "multiply": "value",
    "reduce": "sum",
    "avg_pool2d": "sum",
    "add": "add",
    "layer_norm": "norm",
    "group_norm": "norm",
    "softmax": "softmax",
}
"""Operator -> the way it reads; the model's output reads as "output"."""

SATURATED = frozenset("conv2d dense matmul multiply reduce avg_pool2d add".split())
"""Operators whose own saturation a clamp behind them can be."""

STREAM_READS = frozenset({"add", "norm"})
"""What makes a tensor part of a stream."""

WIDE_WHERE_POSSIBLE = frozenset({"add", "norm", "sum"})


def reads_wide_where_possible(reader: Node) -> bool:
    """Whether an operator (that is no move) reads the wide grid of a tensor that has one."""
    return READS[reader.op] in WIDE_WHERE_POSSIBLE | {"softmax"}


ALWAYS_WIDE = frozenset({"softmax", "output"})


@dataclass(frozen=True)
class Stream:
    """Tensors that adds connect: all of them wide, or none (``segments`` cuts them by scale).

    tensors: in graph order; the first one names the stream. reads: every way they are read wide.
    """

    tensors: tuple[str, ...]
    reads: frozenset[str]

    @property
    def name(self) -> str:
        """The first tensor's name."""
        return self.tensors[0]

    @property
    def must_be_wide(self) -> bool:
        """Whether 8 bits are out of the question: a norm, a softmax or the output reads it."""
        return not self.reads <= {"add"}


def demands(graph: Graph) -> dict[str, frozenset[str]]:
    """Tensor -> all ways in which its integers are read, directly or through moves."""
    found: dict[str, set[str]] = {name: set() for name in graph.nodes}
    readers = graph.consumers()
    for name in graph.outputs:
        found[name].add("output")
    for node in reversed(list(graph)):
        for name in node.inputs:
            alone = len(readers[name]) == 1 and name not in graph.outputs
            way = found[node.name] if node.op in TRANSPARENT else _way(node, graph[name], alone)
            found[name] |= way
    return {name: frozenset(reads) for name, reads in found.items()}


def is_clamp(node: Node) -> bool:
    """Whether saturation computes the operator, so that it needs no table."""
    return node.op == "unary" and node.attrs["fn"] in CLAMPS


def keeps_channel_scales(node: Node) -> bool:
    """Whether a clamp saturates the same on every channel's scale: at 0 or not at all."""
    bounds = CLAMPS[node.attrs["fn"]](*node.attrs.get("args", ()))
    return all(bound in (0.0, -math.inf, math.inf) for bound in bounds)


def _way(reader: Node, source: Node, alone: bool) -> set[str]:
    """alone: nothing else reads the source, so that it needs no grid of its own for a clamp."""
    if not is_clamp(reader):
        return {READS[reader.op]}
    return set() if alone and source.op in SATURATED else {"value"}


def components(names: Iterable[str], links: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Connected components, each in the order of ``names``."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for a, b in links:
        parent[root(b)] = root(a)
    found: dict[str, list[str]] = {}
    for name in parent:
        found.setdefault(root(name), []).append(name)
    return list(found.values())


def streams(graph: Graph, reads: Mapping[str, frozenset[str]]) -> list[Stream]:
    """All streams: what adds, norms, softmax or the output read, joined by adds and moves."""
    wide_reads = {name: kinds & (STREAM_READS | ALWAYS_WIDE) for name, kinds in reads.items()}
    members = [n.name for n in graph if wide_reads[n.name] or n.op == "add"]
    inside = set(members)
    links = []
    for node in graph:
        if node.name in inside and (node.op in TRANSPARENT or node.op == "add"):
            links += [(node.name, name) for name in node.inputs if name in inside]
    return [
        Stream(tuple(group), frozenset().union(*(wide_reads[name] for name in group)))
        for group in components(members, links)
    ]


def direct_readers(graph: Graph) -> dict[str, list[Node]]:
    """Tensor -> the operators that read it and compute (moves are not among them)."""
    return {
        name: [node for node in nodes if node.op in READS]
        for name, nodes in graph.consumers().items()
    }
