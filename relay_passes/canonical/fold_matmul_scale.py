"""Multiplications by a number before or behind a matmul become its ``scale``."""

from __future__ import annotations

from hyq_tvm.quantization.graph import Graph, Node
from relay_passes.canonical.builder import Builder, rewrite


def fold_matmul_scale(graph: Graph) -> Graph:
    """Fold scalar factors of a matmul's operands and of its result into ``attrs["scale"]``."""
    return rewrite(graph, _fold)


def _fold(new: Builder, node: Node) -> str | None:
    if node.op in ("matmul", "attention"):
        return _fold_operands(new, node)
    if node.op != "multiply" or not node.params or node.params["const"].size != 1:
        return None
    product = new[node.inputs[0]]
    if product.op != "matmul" or product.shape != node.shape or not new.is_private(product.name):
        return None
    scale = float(product.attrs["scale"]) * float(node.params["const"].item())
    new.replace(product.name, product.with_(attrs={**product.attrs, "scale": scale}))
    return product.name


def _fold_operands(new: Builder, node: Node) -> str | None:
    inputs, scale = list(node.inputs), float(node.attrs["scale"])
    for position, name in enumerate(inputs[:2]):
        source = new[name]
        scalar = source.op == "multiply" and source.params and source.params["const"].size == 1
        if scalar and new[source.inputs[0]].shape == source.shape:
            scale *= float(source.params["const"].item())
            inputs[position] = source.inputs[0]
    if inputs == list(node.inputs):
        return None
    return new.emit(node.with_(inputs=tuple(inputs), attrs={**node.attrs, "scale": scale}))
