"""A sum in which one tensor appears several times has it once, with one factor.

``x + s * (pool(x) - x)`` is ``(1 - s) * x + s * pool(x)``: two roundings fewer in integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.quantization.graph import Graph, Node
from relay_passes.canonical.builder import Builder, rewrite
from relay_passes.canonical.constants import compressed

Array = NDArray[Any]


def collect_terms(graph: Graph) -> Graph:
    """Rewrite sums with repeated tensors, as far as their inner nodes have no other reader."""
    return rewrite(graph, _collect)


@dataclass(frozen=True)
class _Term:
    tensor: str
    factor: Array


def _collect(new: Builder, node: Node) -> str | None:
    if node.op != "add" or len(node.inputs) != 2:
        return None
    one = np.asarray(1.0)
    terms = [term for name in node.inputs for term in _terms(new, name, node, one)]
    factors: dict[str, Array] = {}
    for term in terms:
        before = factors.get(term.tensor)
        factors[term.tensor] = term.factor if before is None else before + term.factor
    if len(factors) == len(terms) or len(factors) < 2:
        return None
    scaled = [_scaled(new, node, tensor, factor) for tensor, factor in factors.items()]
    total = scaled[0]
    for i, part in enumerate(scaled[1:], start=2):
        label = node.name if i == len(scaled) else f"{node.name}.partial"
        total = new.emit(node.with_(name=label, inputs=(total, part)))
    return total


def _terms(new: Builder, name: str, reader: Node, factor: Array) -> list[_Term]:
    """What a tensor that only ``reader`` reads is the sum of."""
    node = new[name]
    private = not new.readers(name) - {reader.name}
    if private and node.shape == reader.shape:
        if node.op == "add" and len(node.inputs) == 2:
            return [t for inner in node.inputs for t in _terms(new, inner, node, factor)]
        if node.op == "multiply" and node.params and new[node.inputs[0]].shape == node.shape:
            inner = factor * node.params["const"].astype(np.float64)
            return _terms(new, node.inputs[0], node, inner)
    return [_Term(name, factor)]


def _scaled(new: Builder, node: Node, tensor: str, factor: Array) -> str:
    if np.all(factor == 1.0):
        return tensor
    params = {"const": compressed(factor.astype(np.float32))}
    return new.emit(Node(f"{node.name}.term", "multiply", (tensor,), new[tensor].shape, {}, params))
