"""Per-channel factors and offsets behind a normalisation become its gamma and beta."""

from __future__ import annotations

import numpy as np

from hyq_tvm.quantization.graph import Graph, Node
from relay_passes.canonical.builder import Builder, rewrite
from relay_passes.canonical.constants import per_channel


def fold_norm_affine(graph: Graph) -> Graph:
    """``norm(x) * c`` and ``norm(x) + c`` as ``norm(x)``, where nobody else reads the norm."""
    return rewrite(graph, _fold)


def _fold(new: Builder, node: Node) -> str | None:
    if node.op not in ("add", "multiply") or not node.params:
        return None
    norm = new[node.inputs[0]]
    if norm.op not in ("layer_norm", "group_norm") or not new.is_private(norm.name):
        return None
    values = per_channel(node.params["const"], norm.channels)
    if values is None or norm.shape != node.shape:
        return None
    gamma, beta = (norm.params[key].astype(np.float64) for key in ("gamma", "beta"))
    if node.op == "multiply":
        gamma, beta = gamma * values, beta * values
    else:
        beta = beta + values
    params = {"gamma": gamma.astype(np.float32), "beta": beta.astype(np.float32)}
    new.replace(norm.name, norm.with_(params=params))
    return norm.name
