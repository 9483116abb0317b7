"""A layer whose output is only ever read in slices of channels becomes one layer per slice.

Fused query, key and value projections make one tensor with three roles and three ranges; apart,
each role has its own grid, and the slices need no copy.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.view import View
from relay_passes.canonical.builder import Builder, rewrite

Channels = tuple[int, ...]


def split_projections(graph: Graph) -> Graph:
    """Split dense layers and ungrouped convolutions that are read in disjoint channels."""
    readers = graph.consumers()
    plans = {
        node.name: plan
        for node in graph
        if _splittable(node) and node.name not in graph.outputs
        for plan in [_plan(node, readers[node.name])]
        if plan
    }
    split: dict[tuple[str, Channels], str] = {}

    def apply(new: Builder, node: Node) -> str | None:
        if node.op != "view" or node.inputs[0] not in plans:
            return None
        layer = new[node.inputs[0]]
        plan = plans[layer.name]
        channels, view = plan[node.name]
        key = (layer.name, channels)
        if key not in split:
            order = sorted({chosen for chosen, _ in plan.values()})
            split[key] = new.emit(_slice(layer, channels, order.index(channels)))
        return new.view(split[key], view, node.name)

    return rewrite(graph, apply)


def _splittable(node: Node) -> bool:
    return node.op == "dense" or (node.op == "conv2d" and node.attrs["groups"] == 1)


def _plan(layer: Node, readers: tuple[Node, ...]) -> Mapping[str, tuple[Channels, View]] | None:
    """For every reading view the channels it needs and how it reads them; ``None`` if not apart."""
    plan: dict[str, tuple[Channels, View]] = {}
    for reader in readers:
        restricted = reader.attrs["view"].restrict(layer.channels) if reader.op == "view" else None
        if restricted is None:
            return None
        plan[reader.name] = restricted
    parts = {channels for channels, _ in plan.values()}
    total = sum(len(channels) for channels in parts)
    apart = total == len({channel for channels in parts for channel in channels})
    return plan if apart and (len(parts) > 1 or total < layer.channels) and parts else None


def _slice(layer: Node, channels: Channels, position: int) -> Node:
    chosen = np.asarray(channels)
    params = {key: np.ascontiguousarray(value[chosen]) for key, value in layer.params.items()}
    shape = (*layer.shape[:-1], len(channels))
    return layer.with_(name=f"{layer.name}.{position}", shape=shape, params=params)
