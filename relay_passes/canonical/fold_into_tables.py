"""Scalar multiplications and additions after an activation become part of its table.

``a * hardswish(x) + b``, the learnable affine blocks of PP-LCNet, is one table then: two operators
and one rounding to eight bits less.
"""

from __future__ import annotations

import numpy as np

from hyq_tvm.quantization.graph import AFFINE, TABLES, Graph, Node
from relay_passes.canonical.builder import Builder, rewrite


def fold_into_tables(graph: Graph) -> Graph:
    """Fold into the activation that made the tensor, if nobody else reads it.

    Runs when activations and norms are recognised: they hold such operations themselves.
    """
    return rewrite(graph, _fold)


def _fold(new: Builder, node: Node) -> str | None:
    if node.op not in ("add", "multiply") or len(node.inputs) != 1:
        return None
    source, const = new[node.inputs[0]], node.params["const"]
    if const.size != 1 or source.op != "unary" or source.shape != node.shape:
        return None
    fn = str(source.attrs["fn"])
    if fn.removesuffix(AFFINE) not in TABLES or not new.is_private(source.name):
        return None
    scale, offset = source.attrs["args"] if fn.endswith(AFFINE) else (1.0, 0.0)
    value = float(np.float64(const.reshape(())))
    args = (scale, offset + value) if node.op == "add" else (scale * value, offset * value)
    attrs = {"fn": fn.removesuffix(AFFINE) + AFFINE, "args": args}
    return new.emit(Node(node.name, "unary", source.inputs, node.shape, attrs))
