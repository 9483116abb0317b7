"""Squares, square roots and reciprocals in one spelling each."""

from __future__ import annotations

from typing import Any

from hyq_tvm.quantization.graph import Graph, Node
from relay_passes.canonical.builder import Builder, rewrite


def simplify_algebra(graph: Graph) -> Graph:
    """``x * x`` is square, ``1 / sqrt(x)`` rsqrt, ``-x`` and ``a*x + b`` products and sums."""
    return rewrite(graph, _simplify)


def _simplify(new: Builder, node: Node) -> str | None:
    if node.op == "multiply" and len(node.inputs) == 2 and node.inputs[0] == node.inputs[1]:
        return _unary(new, node, "square", node.inputs[0])
    if node.op == "unary" and node.attrs["fn"] == "reciprocal":
        source = new[node.inputs[0]]
        if source.op == "unary" and source.attrs["fn"] == "sqrt":
            return _unary(new, node, "rsqrt", source.inputs[0])
    return None


def _unary(new: Builder, node: Node, fn: str, source: str) -> str:
    attrs: dict[str, Any] = {"fn": fn, "args": ()}
    return new.emit(Node(node.name, "unary", (source,), node.shape, attrs))
