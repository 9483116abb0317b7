"""matmul, scale, bias, softmax, matmul: one attention operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.view import View
from relay_passes.canonical.builder import Builder, rewrite
from relay_passes.canonical.constants import compressed

Array = NDArray[Any]


def fuse_attention(graph: Graph) -> Graph:
    """Fuse where the scores go nowhere else and their bias is constant."""
    return rewrite(graph, _fuse)


@dataclass(frozen=True)
class _Scores:
    """Scores = factor * product + bias; the bias broadcasts to ``shape``, that of the scores."""

    product: Node
    shape: tuple[int, ...]
    factor: float
    bias: Array | None


def _fuse(new: Builder, node: Node) -> str | None:
    if node.op != "matmul":
        return None
    softmax = _softmax(new, node.inputs[0])
    scores = _scores(new, softmax) if softmax else None
    if softmax is None or scores is None or float(node.attrs["scale"]) != 1.0:
        return None
    if new[node.inputs[0]].shape[-2:] != scores.shape[-2:]:
        return None
    lead = scores.shape[:-2]
    label = f"{softmax.name.rpartition('.')[0]}.attention".lstrip(".")
    query, key = (_grouped(new, name, lead, label) for name in scores.product.inputs)
    value = _value(new, node.inputs[1], lead, label)
    shape = (*lead, *node.shape[-2:])
    attrs = {"scale": scores.factor * float(scores.product.attrs["scale"])}
    params = {} if scores.bias is None else {"bias": scores.bias.astype(np.float32)}
    name = new.emit(Node(label, "attention", (query, key, value), shape, attrs, params))
    return new.view(name, View.identity(shape).reshape(node.shape), f"{node.name}.view")


def _softmax(new: Builder, name: str) -> Node | None:
    """The softmax that only the node at hand reads, perhaps through a view that regroups it."""
    weights = new[name]
    if not new.is_private(name):
        return None
    if weights.op == "view" and _regroups(new, weights):
        softmax = new[weights.inputs[0]]
        return softmax if softmax.op == "softmax" and new.readers(softmax.name) == {name} else None
    return weights if weights.op == "softmax" else None


def _grouped(new: Builder, name: str, lead: tuple[int, ...], label: str) -> str:
    shape = new[name].shape
    return new.view(name, View.identity(shape).reshape((*lead, *shape[-2:])), f"{label}.operand")


def _value(new: Builder, name: str, lead: tuple[int, ...], label: str) -> str:
    """The second matmul's operand [.., E, M] as attention's value [.., M, E]."""
    shape = new[name].shape
    rank = len(shape)
    swap = View.permutation(shape, (*range(rank - 2), rank - 1, rank - 2))
    return new.view(name, swap.reshape((*lead, shape[-1], shape[-2])), f"{label}.value")


def _regroups(new: Builder, view: Node) -> bool:
    """Whether a view moves no data and leaves rows whole."""
    return bool(view.attrs["view"].is_identity and view.shape[-1] == new[view.inputs[0]].shape[-1])


def _scores(new: Builder, softmax: Node) -> _Scores | None:
    """Walk back from a softmax to the product that its scores are made from."""
    factor, offsets = 1.0, []
    reader, name = softmax.name, softmax.inputs[0]
    while new[name].op != "matmul":
        node = new[name]
        if new.readers(name) != {reader} or len(node.inputs) != 1:
            return None
        own = _number(new, node)
        if own is not None:
            factor *= own
        elif node.op == "add" and new[node.inputs[0]].shape == node.shape:
            offset = factor * node.params["const"].astype(np.float64)
            offsets.append(np.broadcast_to(offset, node.shape))
        elif node.op != "view" or not _regroups(new, node):
            return None
        reader, name = name, node.inputs[0]
    if new.readers(name) != {reader}:
        return None
    product = new[name]
    # The softmax's own batch axes are those that a bias has: windows and heads apart.
    # Where it runs over rows alone, as ONNX's did before opset 13, the product's serve.
    rows_apart = softmax.shape[-2:] != product.shape[-2:]
    shape = product.shape if rows_apart else softmax.shape
    bias = sum((offset.reshape(shape) for offset in offsets), np.zeros(()))
    return _Scores(product, shape, factor, _matrix(bias) if offsets else None)


def _number(new: Builder, node: Node) -> float | None:
    """The factor of a multiplication by a number."""
    if node.op != "multiply" or not node.params or node.params["const"].size != 1:
        return None
    same = new[node.inputs[0]].shape == node.shape
    return float(node.params["const"].item()) if same else None


def _matrix(bias: Array) -> Array:
    """A bias in its smallest form, with the last two axes whole."""
    small = compressed(bias)
    return np.ascontiguousarray(np.broadcast_to(small, (*small.shape[:-2], *bias.shape[-2:])))
