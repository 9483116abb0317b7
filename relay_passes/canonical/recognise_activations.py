"""Activation functions, however they were spelled, become one unary node.

Exporters write silu as ``x * sigmoid(x)``, gelu with an erf or a tanh, hardswish with clips in
several ways. All are compositions of elementwise functions of one tensor and constant numbers, so
they are recognised by what they compute: such a composition is evaluated on a grid and compared
with the functions that are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.quantization import unary
from hyq_tvm.quantization.graph import Graph, Node
from relay_passes.canonical.builder import Builder, rewrite

Reals = NDArray[np.float64]

KNOWN = (
    "silu",
    "gelu",
    "gelu_tanh",
    "hardswish",
    "sigmoid",
    "hardsigmoid",
    "tanh",
    "relu",
    "relu6",
)
GRID: Reals = np.concatenate([np.linspace(-12, 12, 1201), [-40.0, -25.0, 25.0, 40.0]])
TOLERANCE = 2e-6
MOST_NODES = 12
"""Compositions of more nodes than this are no activation that anybody writes."""


def recognise_activations(graph: Graph) -> Graph:
    """Replace every largest composition that computes a known function."""
    roots = {node.name: match for node in graph for match in [_match(graph, node)] if match}

    def recognise(new: Builder, node: Node) -> str | None:
        if node.name not in roots:
            return None
        source, fn = roots[node.name]
        attrs = {"fn": fn, "args": ()}
        return new.emit(Node(node.name, "unary", (new.resolve(source),), node.shape, attrs))

    return rewrite(graph, recognise)


def _match(graph: Graph, root: Node) -> tuple[str, str] | None:
    """The tensor and the known function of it that ``root`` computes, if there is one."""
    region = _region(graph, root)
    for source in reversed(region[1:]):
        known: dict[str, Reals | None] = {source: GRID}
        values = _evaluate(graph, root, known, frozenset(region))
        if values is None:
            continue
        for fn in KNOWN:
            expected = unary.evaluate(fn, (), GRID)
            if np.allclose(values, expected, rtol=TOLERANCE, atol=TOLERANCE):
                return source, fn
    return None


def _region(graph: Graph, root: Node) -> list[str]:
    """``root`` and the tensors that it might be a function of, nearest first."""
    if not _elementwise(root) or (root.op == "unary" and root.attrs["fn"] in KNOWN):
        return []
    region = [root.name]
    for name in region:
        if _elementwise(graph[name]):
            inputs = dict.fromkeys(graph[name].inputs)
            region += [i for i in inputs if i not in region and graph[i].shape == root.shape]
        if len(region) > MOST_NODES:
            break
    return region


def _elementwise(node: Node) -> bool:
    number = all(value.size == 1 for value in node.params.values())
    return node.op in ("add", "multiply", "unary") and number


def _evaluate(
    graph: Graph, node: Node, known: dict[str, Reals | None], region: frozenset[str]
) -> Reals | None:
    """``node`` as a function of the tensor in ``known``; ``None`` if it needs any other."""
    if node.name not in known:
        known[node.name] = None
        if node.name in region and _elementwise(node):
            operands = [_evaluate(graph, graph[name], known, region) for name in node.inputs]
            reals = [value for value in operands if value is not None]
            known[node.name] = _apply(node, reals) if len(reals) == len(operands) else None
    return known[node.name]


def _apply(node: Node, operands: list[Reals]) -> Reals | None:
    if node.op != "unary":
        numbers = [np.asarray(v.item(), np.float64) for v in node.params.values()]
        return np.asarray(_BINARY[node.op](*operands, *numbers))
    fn, args = node.attrs["fn"], node.attrs.get("args", ())
    return unary.evaluate(fn, args, operands[0]) if fn in unary.FUNCTIONS else None


_BINARY: Mapping[str, Callable[..., Any]] = {"add": np.add, "multiply": np.multiply}
