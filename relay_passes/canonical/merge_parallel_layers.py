"""Two layers of one tensor whose results are only added are one layer."""

from __future__ import annotations

from hyq_tvm.quantization.graph import Graph, Node
from relay_passes.canonical.builder import Builder, rewrite


def merge_parallel_layers(graph: Graph) -> Graph:
    """``dense(x) + dense(x)``, or two equal convolutions, with the sum of their weights."""
    return rewrite(graph, _merge)


def _merge(new: Builder, node: Node) -> str | None:
    if node.op != "add" or len(node.inputs) != 2 or node.inputs[0] == node.inputs[1]:
        return None
    first, second = (new[name] for name in node.inputs)
    if first.op not in ("dense", "conv2d") or not all(map(new.is_private, node.inputs)):
        return None
    if (first.op, first.inputs, first.attrs) != (second.op, second.inputs, second.attrs):
        return None
    if first.params["weight"].shape != second.params["weight"].shape:
        return None
    params = {key: first.params[key] + second.params[key] for key in ("weight", "bias")}
    return new.emit(first.with_(name=node.name, params=params))
