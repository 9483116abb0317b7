"""Nodes that compute the same from the same become one."""

from __future__ import annotations

from typing import Any

from hyq_tvm.quantization.graph import Graph, Node
from relay_passes.canonical.builder import Builder, rewrite


def merge_duplicates(graph: Graph) -> Graph:
    """Keep the first of several equal nodes; nodes with weights are never compared."""
    seen: dict[Any, str] = {}

    def merge(new: Builder, node: Node) -> str | None:
        if node.params or node.op == "input":
            return None
        attrs = tuple(sorted((key, repr(value)) for key, value in node.attrs.items()))
        first = seen.setdefault((node.op, node.inputs, node.shape, attrs), node.name)
        return None if first == node.name else first

    return rewrite(graph, merge)
