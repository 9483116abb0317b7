"""Chains of multiplications, or of additions, by constants become one; idle ones go."""

from __future__ import annotations

import numpy as np

from hyq_tvm.quantization.graph import Graph, Node
from relay_passes.canonical.builder import Builder, rewrite
from relay_passes.canonical.constants import compressed

_COMBINE = {"add": np.add, "multiply": np.multiply}
_IDLE = {"add": 0.0, "multiply": 1.0}


def merge_constants(graph: Graph) -> Graph:
    """Combine constants that meet, read constant nodes as constants, drop ``+ 0`` and ``* 1``."""
    return rewrite(graph, _merge)


def _merge(new: Builder, node: Node) -> str | None:
    if node.op not in _COMBINE:
        return None
    if len(node.inputs) == 2:
        return _take_in(new, node)
    source, const = new[node.inputs[0]], node.params["const"]
    if source.shape == node.shape and np.all(const == _IDLE[node.op]):
        return source.name
    small = compressed(const)
    inner = source.op == node.op and len(source.inputs) == 1 and source.shape == node.shape
    if inner and new.is_private(source.name):
        both = _COMBINE[node.op](source.params["const"], const)
        new.replace(source.name, source.with_(params={"const": compressed(both)}))
        return source.name
    return None if small.shape == const.shape else new.emit(node.with_(params={"const": small}))


def _take_in(new: Builder, node: Node) -> str | None:
    """A constant node among the operands becomes the node's own constant."""
    for position, name in enumerate(node.inputs):
        other = new[node.inputs[1 - position]]
        if new[name].op == "constant" and other.shape == node.shape:
            const = compressed(new[name].params["value"])
            return new.emit(node.with_(inputs=(other.name,), params={"const": const}))
    return None
