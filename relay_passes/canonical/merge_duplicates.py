"""Nodes that compute the same from the same become one."""

from __future__ import annotations

from typing import Any

from hyq_tvm.quantization.graph import Graph, Node
from relay_passes.canonical.builder import Builder, rewrite

LARGEST = 4096
"""Bytes of the largest constant that is compared."""


def merge_duplicates(graph: Graph) -> Graph:
    """Keep the first of several equal nodes; large weights are taken to differ."""
    seen: dict[Any, str] = {}

    def merge(new: Builder, node: Node) -> str | None:
        if node.op == "input" or any(v.nbytes > LARGEST for v in node.params.values()):
            return None
        attrs = tuple(sorted((key, repr(value)) for key, value in node.attrs.items()))
        params = tuple((k, v.shape, v.tobytes()) for k, v in sorted(node.params.items()))
        key = (node.op, node.inputs, node.shape, attrs, params)
        first = seen.setdefault(key, node.name)
        return None if first == node.name else first

    return rewrite(graph, merge)
