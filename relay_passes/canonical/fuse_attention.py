"""matmul, scale, bias, softmax, matmul: one attention operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.view import View
from relay_passes.canonical.builder import Builder, rewrite
from relay_passes.canonical.constants import before_view, compressed

Array = NDArray[Any]


def fuse_attention(graph: Graph) -> Graph:
    """Fuse where the scores go nowhere else and their bias is constant."""
    return rewrite(graph, _fuse)


@dataclass(frozen=True)
class _Scores:
    """Scores = factor * product + bias, of the product's own shape."""

    product: Node
    factor: float
    bias: Array | None


def _fuse(new: Builder, node: Node) -> str | None:
    if node.op != "matmul":
        return None
    weights = new[node.inputs[0]]
    regroup = weights.op == "view" and _regroups(new, weights)
    softmax = new[weights.inputs[0]] if regroup else weights
    if softmax.op != "softmax" or not new.is_private(weights.name):
        return None
    scores = _scores(new, softmax)
    if scores is None or float(node.attrs["scale"]) != 1.0:
        return None
    query, key = scores.product.inputs
    lead = scores.product.shape[:-2]
    value = _value(new, node.inputs[1], lead, node.name)
    shape = (*lead, *node.shape[-2:])
    attrs = {"scale": scores.factor * float(scores.product.attrs["scale"])}
    params = {} if scores.bias is None else {"bias": scores.bias.astype(np.float32)}
    label = f"{softmax.name.rpartition('.')[0]}.attention".lstrip(".")
    name = new.emit(Node(label, "attention", (query, key, value), shape, attrs, params))
    return new.view(name, View.identity(shape).reshape(node.shape), f"{node.name}.view")


def _value(new: Builder, name: str, lead: tuple[int, ...], label: str) -> str:
    """The second matmul's operand [.., E, M] as attention's value [.., M, E]."""
    shape = new[name].shape
    rank = len(shape)
    swap = View.permutation(shape, (*range(rank - 2), rank - 1, rank - 2))
    return new.view(name, swap.reshape((*lead, shape[-1], shape[-2])), f"{label}.value")


def _regroups(new: Builder, view: Node) -> bool:
    """Whether a view moves no data and leaves the last two axes alone."""
    return bool(
        view.attrs["view"].is_identity and view.shape[-2:] == new[view.inputs[0]].shape[-2:]
    )


def _scores(new: Builder, softmax: Node) -> _Scores | None:
    """Walk back from a softmax to the product that its scores are made from."""
    factor, bias, shape = 1.0, None, softmax.shape
    reader, name = softmax.name, softmax.inputs[0]
    while new[name].op != "matmul":
        node = new[name]
        if new.readers(name) != {reader} or len(node.inputs) != 1:
            return None
        if node.op == "view" and _regroups(new, node):
            shape = new[node.inputs[0]].shape
            bias = None if bias is None else before_view(bias, node.attrs["view"], shape)
        elif node.op == "multiply" and node.params["const"].size == 1 and node.shape == shape:
            factor *= float(node.params["const"].reshape(-1)[0])
        elif node.op == "add" and node.params and new[node.inputs[0]].shape == node.shape:
            own = factor * node.params["const"].astype(np.float64)
            bias = own if bias is None else own + bias
        else:
            return None
        reader, name = name, node.inputs[0]
    if new.readers(name) != {reader}:
        return None
    return _Scores(new[name], factor, None if bias is None else _matrix(bias, new[name].shape))


def _matrix(bias: Array, shape: tuple[int, ...]) -> Array:
    """A bias in its smallest form, with the last two axes whole."""
    small = compressed(bias)
    lead = small.shape[:-2]
    return np.ascontiguousarray(np.broadcast_to(small, (*lead, *shape[-2:])))
