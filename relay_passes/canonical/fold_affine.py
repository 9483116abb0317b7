"""Per-channel multiplications and additions go into the weights of the layer before or behind.

This is what makes batch normalisation, layer scale, biases and scaled queries free.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.quantization.graph import Graph, Node
from relay_passes.canonical.builder import Builder, rewrite
from relay_passes.canonical.constants import per_channel

Array = NDArray[Any]


def fold_affine(graph: Graph) -> Graph:
    """Fold into the layer that made the tensor, if nobody else reads it; else into its readers."""
    return rewrite(graph, _fold)


def _fold(new: Builder, node: Node) -> str | None:
    if node.op in ("add", "multiply") and len(node.inputs) == 1:
        return _fold_back(new, node)
    if node.op in ("dense", "conv2d"):
        return _fold_ahead(new, node)
    return None


def _fold_back(new: Builder, node: Node) -> str | None:
    """``layer * c`` and ``layer + c``, perhaps with a view between, as ``layer``."""
    name = _layer_before(new, node.inputs[0])
    if name is None or new[node.inputs[0]].shape != node.shape:
        return None
    values = per_channel(node.params["const"], new[name].channels)
    if values is None:
        return None
    params = _behind(new[name], node.op, values.astype(np.float64))
    new.replace(name, new[name].with_(params=params))
    return node.inputs[0]


def _layer_before(new: Builder, name: str) -> str | None:
    """The layer that makes a tensor for the node at hand alone; a view may keep its channels."""
    node = new[name]
    if not new.is_private(name):
        return None
    if node.op in ("dense", "conv2d"):
        return name
    if node.op != "view" or new[node.inputs[0]].op not in ("dense", "conv2d"):
        return None
    layer = new[node.inputs[0]]
    alone = new.readers(layer.name) == {name}
    return layer.name if alone and node.attrs["view"].keeps_last_axis(layer.channels) else None


def _behind(layer: Node, op: str, values: Array) -> dict[str, Array]:
    """The layer's weights with an operation on its outputs folded in."""
    weight, bias = (layer.params[key].astype(np.float64) for key in ("weight", "bias"))
    if op == "add":
        return _float32(weight, bias + values)
    return _float32(weight * values.reshape(-1, *(1,) * (weight.ndim - 1)), bias * values)


def _fold_ahead(new: Builder, layer: Node) -> str | None:
    """A layer of ``x * c`` or ``x + c`` that only layers read, as a layer of ``x``."""
    source = new[layer.inputs[0]]
    if source.op not in ("add", "multiply") or len(source.inputs) != 1:
        return None
    x = new[source.inputs[0]]
    values = per_channel(source.params["const"], source.channels)
    padded = layer.op == "conv2d" and any(layer.attrs["padding"]) and source.op == "add"
    if values is None or x.shape != source.shape or padded:
        return None
    if not all(_may_fold(new, name, source.op) for name in new.readers(source.name)):
        return None
    params = _before(layer, source.op, values.astype(np.float64))
    return new.emit(layer.with_(inputs=(x.name,), params=params))


def _may_fold(new: Builder, reader: str, op: str) -> bool:
    if reader not in new.old or new.old[reader].op not in ("dense", "conv2d"):
        return False
    return op == "multiply" or not any(new.old[reader].attrs.get("padding", ()))


def _before(layer: Node, op: str, values: Array) -> dict[str, Array]:
    """The layer's weights with an operation on its inputs folded in."""
    weight, bias = (layer.params[key].astype(np.float64) for key in ("weight", "bias"))
    outputs, inputs = weight.shape[0], weight.shape[-1]
    groups = values.size // inputs
    # Each output sees the channels of its own group.
    seen = np.repeat(values.reshape(groups, inputs), outputs // groups, axis=0)
    seen = seen.reshape(outputs, *(1,) * (weight.ndim - 2), inputs)
    if op == "multiply":
        return _float32(weight * seen, bias)
    return _float32(weight, bias + (weight * seen).reshape(outputs, -1).sum(axis=1))


def _float32(weight: Array, bias: Array) -> dict[str, Array]:
    return {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}
