"""Everything in a plan that could have more bits and stay integer-only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from hyq_tvm.quantization.demand import (
    ALWAYS_WIDE,
    TRANSPARENT,
    WIDE_WHERE_POSSIBLE,
    components,
    demands,
    streams,
)
from hyq_tvm.quantization.graph import Graph
from hyq_tvm.quantization.plan import WIDE, QuantPlan, TensorPlan

NARROW_BITS, TABLE_BITS, WIDE_BITS = 8, 12, 16
HEADROOM = 1.25
"""Of a new wide grid over its tensor's range: adds go beyond what was seen."""


@dataclass(frozen=True)
class Raise:
    """One change to more bits.

    override: of the configuration, by name. cost: bytes that a sample's pass moves more, whole bits
    counted. tensors, layers: the changed parts of the plan, by name.
    """

    name: str
    change: str
    cost: float
    override: Mapping[str, Mapping[str, Any]]
    tensors: Mapping[str, TensorPlan]
    layers: Mapping[str, Mapping[str, Any]]

    def apply(self, plan: QuantPlan) -> QuantPlan:
        """The plan with the change, everything else as it was: the raise judged alone."""
        layers = {
            name: replace(plan.layers[name], **changes) for name, changes in self.layers.items()
        }
        return replace(
            plan,
            tensors={**plan.tensors, **self.tensors},
            layers={**plan.layers, **layers},
        )


def possible_raises(graph: Graph, plan: QuantPlan) -> list[Raise]:
    """All of them, in graph order by kind; those that the plan has already are left out."""
    return [
        *_narrow_raises(graph, plan),
        *_stream_raises(graph, plan),
        *_softmax_raises(graph, plan),
        *_weight_raises(graph, plan),
    ]


def _narrow_raises(graph: Graph, plan: QuantPlan) -> Iterator[Raise]:
    """Few-bit tensors to 8, inputs of tables to 12."""
    reads = demands(graph)
    names = [node.name for node in graph if node.name in plan.tensors]
    inside = set(names)
    links = [
        (node.name, source)
        for node in graph
        if node.op in TRANSPARENT and node.name in inside
        for source in node.inputs
        if source in inside
    ]
    for group in components(names, links):
        wide = {name for name in group if name + WIDE in plan.tensors}
        ways = frozenset().union(
            *(
                reads[n] - ALWAYS_WIDE - (WIDE_WHERE_POSSIBLE if n in wide else frozenset())
                for n in group
            )
        )
        before = plan.tensors[group[0]].bits
        after = TABLE_BITS if ways == {"table"} else NARROW_BITS
        if before >= after:
            continue
        elements = sum(prod(graph[name].shape[1:]) for name in group)
        yield Raise(
            name=group[0],
            change=f"{before} to {after} bits",
            cost=elements * (after - before) / 8,
            override={group[0]: {"bits": after}},
            tensors={name: finer(plan.tensors[name], after) for name in group},
            layers={},
        )


def _stream_raises(graph: Graph, plan: QuantPlan) -> Iterator[Raise]:
    """Streams of adds to 16 bits."""
    for stream in streams(graph, demands(graph)):
        members = [name for name in stream.tensors if name in plan.tensors]
        if not members or any(name + WIDE in plan.tensors for name in stream.tensors):
            continue
        peak = max(max(-plan.tensors[n].low, plan.tensors[n].high, 1e-30) for n in members)
        scale = peak * HEADROOM / (2 ** (WIDE_BITS - 1) - 1)
        grid = TensorPlan((scale,), 0, WIDE_BITS, True, "minmax", -peak, peak)
        elements = sum(prod(graph[name].shape[1:]) for name in stream.tensors)
        yield Raise(
            name=stream.name,
            change=f"residual stream of {len(stream.tensors)} tensors to 16 bits",
            cost=elements * (WIDE_BITS - NARROW_BITS) / 8,
            override={stream.name: {"bits": WIDE_BITS}},
            tensors={name + WIDE: grid for name in stream.tensors},
            layers={},
        )


def _softmax_raises(graph: Graph, plan: QuantPlan) -> Iterator[Raise]:
    """Weights of softmax to 16 bits."""
    for name, layer in plan.layers.items():
        kinds = layer.op in ("attention", "softmax") and layer.softmax not in ("exact", "hyq")
        if not kinds or layer.exclude or layer.softmax_weight_bits >= WIDE_BITS:
            continue
        node = graph[name]
        keys = graph[node.inputs[1]].shape[-2] if node.op == "attention" else node.shape[-1]
        change = {"softmax_weight_bits": WIDE_BITS}
        yield Raise(
            name=name,
            change="softmax weights 8 to 16 bits",
            cost=float(prod(node.shape[:-1]) * keys),
            override={name: change},
            tensors={},
            layers={name: change},
        )


def _weight_raises(graph: Graph, plan: QuantPlan) -> Iterator[Raise]:
    """Weights of layers to 8 bits."""
    for name, layer in plan.layers.items():
        gemm = layer.op in ("conv2d", "dense") and not layer.exclude
        if not gemm or layer.weight_bits >= NARROW_BITS:
            continue
        change = {"weight_bits": NARROW_BITS}
        yield Raise(
            name=name,
            change=f"weights {layer.weight_bits} to 8 bits",
            cost=graph[name].params["weight"].size * (NARROW_BITS - layer.weight_bits) / 8,
            override={name: change},
            tensors={},
            layers={name: change},
        )


def finer(grid: TensorPlan, bits: int) -> TensorPlan:
    """The same range in more bits: real zero stays exact, and no integer leaves the range."""
    if grid.symmetric:
        ratio = ((1 << (bits - 1)) - 1) / grid.qmax
        return replace(grid, bits=bits, scale=tuple(s / ratio for s in grid.scale))
    levels = (2**bits - 1) / (2**grid.bits - 1)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    zero = round(low + (grid.zero_point - grid.qmin) * levels)
    return replace(
        grid,
        bits=bits,
        zero_point=min(max(zero, low), high),
        scale=tuple(s / levels for s in grid.scale),
    )
