"""Mean, difference, square, mean, root, quotient: one normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.view import View
from relay_passes.canonical.builder import Builder, rewrite


def recognise_norms(graph: Graph) -> Graph:
    """Layer normalisation over the last axis, group normalisation over all axes but the first."""
    return rewrite(graph, _recognise)


@dataclass(frozen=True)
class _Reduction:
    """The mean of ``source`` over ``axes`` of its shape."""

    source: str
    axes: frozenset[int]


def _recognise(new: Builder, node: Node) -> str | None:
    if node.op != "multiply" or len(node.inputs) != 2:
        return None
    for centred, root in (node.inputs, node.inputs[::-1]):
        variance = _inverse_root(new, root)
        found = _centred(new, centred)
        if variance is None or found is None or new[centred].shape != node.shape:
            continue
        mean, epsilon = variance
        squared = new[mean.source]
        square = squared.op == "unary" and squared.attrs["fn"] == "square"
        if square and squared.inputs[0] == centred and mean.axes == found.axes:
            return _norm(new, node, found, epsilon)
    return None


def _norm(new: Builder, node: Node, mean: _Reduction, epsilon: float) -> str | None:
    shape, last = node.shape, len(node.shape) - 1
    if mean.axes == {last}:
        grouped = _grouped(new, node, mean.source, epsilon)
        return grouped or new.emit(_normalised("layer_norm", node.name, new[mean.source], epsilon))
    if mean.axes == set(range(1, len(shape))):
        return new.emit(_normalised("group_norm", node.name, new[mean.source], epsilon, 1))
    return None


def _grouped(new: Builder, node: Node, name: str, epsilon: float) -> str | None:
    """Rows that are the groups of a channels-last tensor, as exporters reshape them."""
    source = new[name]
    if source.op != "view" or len(source.shape) != 3:
        return None
    x = new[source.inputs[0]]
    rank, (batch, groups, _) = len(x.shape), source.shape
    if rank < 3 or x.shape[0] != batch or x.channels % groups:
        return None
    first = View.permutation(x.shape, (0, rank - 1, *range(1, rank - 1)))
    if source.attrs["view"] != first.reshape(source.shape):
        return None
    normalised = new.emit(_normalised("group_norm", node.name, x, epsilon, groups))
    return new.view(normalised, source.attrs["view"], f"{node.name}.view")


def _normalised(op: str, name: str, x: Node, epsilon: float, groups: int = 0) -> Node:
    params = {
        "gamma": np.ones(x.channels, np.float32),
        "beta": np.zeros(x.channels, np.float32),
    }
    attrs = {"groups": groups, "eps": epsilon} if groups else {"eps": epsilon}
    return Node(name, op, (x.name,), x.shape, attrs, params)


def _inverse_root(new: Builder, name: str) -> tuple[_Reduction, float] | None:
    """The mean and the epsilon of ``1 / sqrt(mean + epsilon)``."""
    root = new[_plain(new, name)]
    if root.op != "unary" or root.attrs["fn"] != "rsqrt":
        return None
    total = new[_plain(new, root.inputs[0])]
    if total.op != "add" or not total.params or total.params["const"].size != 1:
        return None
    mean = _mean(new, total.inputs[0])
    return None if mean is None else (mean, float(total.params["const"].item()))


def _centred(new: Builder, name: str) -> _Reduction | None:
    """The mean that is subtracted from its own source."""
    node = new[name]
    if node.op != "add" or len(node.inputs) != 2:
        return None
    for source, other in (node.inputs, node.inputs[::-1]):
        negated = new[_plain(new, other)]
        minus = negated.op == "multiply" and negated.params and negated.params["const"].size == 1
        if minus and float(negated.params["const"].item()) == -1.0:
            mean = _mean(new, negated.inputs[0])
            if mean is not None and mean.source == source:
                return mean
    return None


def _plain(new: Builder, name: str) -> str:
    """The tensor behind views that move no data."""
    while new[name].op == "view" and new[name].attrs["view"].is_identity:
        name = new[name].inputs[0]
    return name


def _mean(new: Builder, name: str) -> _Reduction | None:
    reduce = new[_plain(new, name)]
    if reduce.op != "reduce" or reduce.attrs["kind"] != "mean":
        return None
    split = new[reduce.inputs[0]]
    source = _plain(new, split.name)
    axes = _axes_of(new[source].shape, split.shape, reduce.attrs["axes"])
    if axes is None:
        # The reshape belongs to the computation that is normalised, not to the mean.
        return _Reduction(split.name, frozenset(reduce.attrs["axes"]))
    return _Reduction(source, axes)


def _axes_of(
    shape: tuple[int, ...], split: tuple[int, ...], reduced: tuple[int, ...]
) -> frozenset[int] | None:
    """Which axes of ``shape`` the axes ``reduced`` of its reshape ``split`` are; ``None`` if parts.

    An axis covers the flat distances from its stride up to its stride times its length.
    """
    axes = set()
    for axis, length in enumerate(shape):
        low = prod(shape[axis + 1 :])
        inside = {
            other in reduced
            for other in range(len(split))
            if max(low, prod(split[other + 1 :])) < min(low * length, prod(split[other:]))
        }
        if len(inside) > 1:
            return None
        if inside == {True} or (length == 1 and axis == len(shape) - 1):
            axes.add(axis)
    return frozenset(axes)
