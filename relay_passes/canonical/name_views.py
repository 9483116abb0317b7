"""Views are named after what they read, or after the operand of attention that they make."""

from __future__ import annotations

from hyq_tvm.quantization.graph import Graph, Node
from relay_passes.canonical.builder import Builder, rewrite

_ROLES = ("query", "key", "value")


def name_views(graph: Graph) -> Graph:
    """Rename all views; while passes ran they bore the names of what they came from."""
    readers = graph.consumers()

    def rename(new: Builder, node: Node) -> str | None:
        if node.op != "view":
            return None
        name = _role(node.name, readers[node.name]) or f"{node.inputs[0]}.view"
        return None if name == node.name else new.emit(node.with_(name=name))

    return rewrite(graph, rename)


def _role(name: str, readers: tuple[Node, ...]) -> str | None:
    if len(readers) != 1 or readers[0].op != "attention":
        return None
    return f"{readers[0].name}.{_ROLES[readers[0].inputs.index(name)]}"
