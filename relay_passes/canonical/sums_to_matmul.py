"""A product summed over one axis is a matrix multiplication, as in separable attention."""

from __future__ import annotations

from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.view import View
from relay_passes.canonical.builder import Builder, rewrite


def sums_to_matmul(graph: Graph) -> Graph:
    """``sum(values [.., K, C] * weights [.., K, 1], -2)`` as ``weights [.., 1, K] x values``."""
    return rewrite(graph, _rewrite)


def _rewrite(new: Builder, node: Node) -> str | None:
    if node.op != "reduce" or node.attrs["kind"] != "sum" or len(node.attrs["axes"]) != 1:
        return None
    product = new[node.inputs[0]]
    axis, rank = node.attrs["axes"][0], len(product.shape)
    if product.op != "multiply" or len(product.inputs) != 2 or axis == rank - 1:
        return None
    if not new.is_private(product.name):
        return None
    full = product.shape
    for values, weights in (product.inputs, product.inputs[::-1]):
        if new[values].shape == full and new[weights].shape == (*full[:-1], 1):
            return _matmul(new, node, values, weights, axis)
    return None


def _matmul(new: Builder, node: Node, values: str, weights: str, axis: int) -> str:
    full = new[values].shape
    batch = [a for a in range(len(full) - 1) if a != axis]
    lead, last = tuple(full[a] for a in batch), len(full) - 1
    columns = View.permutation(full, [*batch, last, axis])
    row = View.permutation(new[weights].shape, [*batch, last, axis])
    inputs = (
        new.view(weights, row, f"{node.name}.weights"),
        new.view(values, columns, f"{node.name}.values"),
    )
    shape = (*lead, 1, full[-1])
    name = new.emit(Node(node.name, "matmul", inputs, shape, {"scale": 1.0}))
    return new.view(name, View.identity(shape).reshape(node.shape), f"{node.name}.reshape")
