"""Chains of views become one view, views of constants constants; idle views go."""

from __future__ import annotations

from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.view import View
from relay_passes.canonical.builder import Builder, rewrite


def fuse_views(graph: Graph) -> Graph:
    """Merge views as far as single strided reads go."""
    return rewrite(graph, _fuse)


def _fuse(new: Builder, node: Node) -> str | None:
    if node.op != "view":
        return None
    source, view = new[node.inputs[0]], node.attrs["view"]
    if source.op == "constant":
        value = view.apply(source.params["value"])
        return new.emit(Node(node.name, "constant", (), value.shape, {}, {"value": value}))
    if view == View.identity(source.shape):
        return source.name
    if source.op != "view":
        return None
    merged = source.attrs["view"].then(view)
    return None if merged is None else new.view(source.inputs[0], merged, node.name)
