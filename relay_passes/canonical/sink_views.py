"""Moves layout changes behind the operators that do not care, until they meet and cancel.

A network in channels-first order computes between a permutation to channels-last, before each
convolution, and one back, behind it. Each operator here runs on the tensor before the permutation
back instead, and the permutation follows it, up to the next convolution's, which undoes it.

A view moves only if it tears channels apart. One that moves whole rows of channels, as the
unfolding of patches or the merging of heads, stays: behind it the last axis is the channels still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.view import View
from relay_passes.canonical.builder import Builder, rewrite
from relay_passes.canonical.constants import before_view


def sink_views(graph: Graph) -> Graph:
    """Move views behind elementwise operators, concats, reductions and pads."""
    return rewrite(graph, _sink)


@dataclass(frozen=True)
class _Behind:
    """A tensor that ``view`` makes from ``read(source)``; ``shape`` is that of ``read``."""

    source: str
    read: View
    view: View

    @property
    def shape(self) -> tuple[int, ...]:
        return self.read.out_shape

    @property
    def axes(self) -> tuple[int, ...] | None:
        return self.view.as_permutation(self.shape)

    def before(self, new: Builder, name: str) -> str:
        """The tensor that the view is applied to."""
        return new.view(self.source, self.read, f"{name}.read")


def _behind(new: Builder, name: str) -> _Behind | None:
    """How a tensor comes out of a view that tears channels apart; ``None`` if it does not."""
    node = new[name]
    if node.op != "view" or not new[node.inputs[0]].shape:
        return None
    read, view = node.attrs["view"].factored(new[node.inputs[0]].shape)
    if view.keeps_rows(read.out_shape[-1]) or not view.is_bijection:
        return None
    return _Behind(node.inputs[0], read, view)


def _sink(new: Builder, node: Node) -> str | None:
    rules = {
        "unary": _sink_unary,
        "add": _sink_binary,
        "multiply": _sink_binary,
        "concat": _sink_concat,
        "reduce": _sink_reduce,
        "pad": _sink_pad,
    }
    return rules[node.op](new, node) if node.op in rules else None


def _sink_unary(new: Builder, node: Node) -> str | None:
    behind = _behind(new, node.inputs[0])
    if behind is None:
        return None
    inputs = (behind.before(new, node.name),)
    name = new.emit(node.with_(inputs=inputs, shape=behind.shape))
    return new.view(name, behind.view, f"{node.name}.view")


def _sink_binary(new: Builder, node: Node) -> str | None:
    behind = [_behind(new, name) for name in node.inputs]
    whole = [b for b in behind if b is not None and b.view.out_shape == node.shape]
    # Between two orders, that of a mere permutation of axes is the one to compute in: the other
    # operand's view, as an unfolding of patches, then moves rows and no longer single channels.
    for moved in sorted(whole, key=lambda b: b.axes is None):
        sunk = _sink_constant(new, node, moved) if node.params else _sink_pair(new, node, moved)
        if sunk is not None:
            return sunk
    return None


def _sink_constant(new: Builder, node: Node, behind: _Behind) -> str:
    const = before_view(node.params["const"], behind.view, behind.shape)
    inputs = (behind.before(new, node.name),)
    name = new.emit(node.with_(inputs=inputs, shape=behind.shape, params={"const": const}))
    return new.view(name, behind.view, f"{node.name}.view")


def _sink_pair(new: Builder, node: Node, behind: _Behind) -> str | None:
    """Undo the view on both operands, if that costs nothing, and redo it on the result."""
    undo, may_move = behind.view.inverse(behind.shape), behind.axes is not None
    inputs = []
    for name in node.inputs:
        undone = _undone(new[name], undo, node.shape, may_move)
        if undone is None:
            return None
        inputs.append(undone)
    names = tuple(new.view(source, view, f"{node.name}.view") for source, view in inputs)
    name = new.emit(node.with_(inputs=names, shape=behind.shape))
    return new.view(name, behind.view, f"{node.name}.view")


def _undone(
    operand: Node, undo: View, shape: tuple[int, ...], may_move: bool
) -> tuple[str, View] | None:
    """Source and view of an operand, broadcast to ``shape``, before the view that ``undo`` undoes.

    ``None`` where data would have to move that has not moved before; ``may_move`` lets a view that
    moves data turn into another one that does.
    """
    own, source = View.identity(operand.shape), operand.name
    if operand.op == "view":
        own, source = operand.attrs["view"], operand.inputs[0]
    wide = own.broadcast_to(shape)
    merged = wide and wide.then(undo)
    if merged is None:
        return None
    narrow = merged.narrowed()
    idle = narrow == View.identity(narrow.out_shape)
    return (source, narrow) if idle or (may_move and not own.is_identity) else None


def _sink_concat(new: Builder, node: Node) -> str | None:
    parts = [_behind(new, name) for name in node.inputs]
    orders = {part.axes if part else None for part in parts}
    axes = orders.pop()
    if orders or axes is None:
        return None
    inputs = tuple(part.before(new, node.name) for part in parts if part)
    return _permuted_back(new, node, inputs, axes, {"axis": axes[node.attrs["axis"]]})


def _sink_pad(new: Builder, node: Node) -> str | None:
    behind = _behind(new, node.inputs[0])
    axes = behind.axes if behind else None
    if behind is None or axes is None:
        return None
    pads = tuple(node.attrs["pads"][a] for a in _inverse(axes))
    inputs = (behind.before(new, node.name),)
    return _permuted_back(new, node, inputs, axes, {**node.attrs, "pads": pads})


def _permuted_back(
    new: Builder, node: Node, inputs: tuple[str, ...], axes: Sequence[int], attrs: dict[str, object]
) -> str:
    """Emit a node on tensors before the permutation ``axes``, and the permutation behind it."""
    shape = tuple(node.shape[a] for a in _inverse(axes))
    name = new.emit(node.with_(inputs=inputs, shape=shape, attrs=attrs))
    return new.view(name, View.permutation(shape, axes), f"{node.name}.view")


def _inverse(axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(range(len(axes)), key=lambda i: axes[i]))


@dataclass(frozen=True)
class _Axes:
    """A view as a permutation: of a source of ``shape``, by ``order``.

    ``groups`` says how many axes of the permutation each axis of the view's output consists of.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    groups: tuple[int, ...]

    def sources(self, axis: int) -> tuple[int, ...]:
        """The axes of the source that an axis of the output runs over."""
        first = sum(self.groups[:axis])
        return self.order[first : first + self.groups[axis]]


def _as_axes(behind: _Behind) -> _Axes | None:
    if behind.axes is not None:
        return _Axes(behind.shape, behind.axes, (1,) * len(behind.axes))
    groups = behind.view.grouped()
    if groups is None:
        return None
    # The order within axes that are summed does not matter: each atom may be an axis of its own.
    split = behind.view.reshape([n for group in groups for n in group]).as_permuted_axes()
    return None if split is None else _Axes(*split, tuple(len(group) for group in groups))


def _sink_reduce(new: Builder, node: Node) -> str | None:
    behind = _behind(new, node.inputs[0])
    axes = _as_axes(behind) if behind else None
    if behind is None or axes is None or axes.order == tuple(range(len(axes.order))):
        return None
    removed = {source for axis in node.attrs["axes"] for source in axes.sources(axis)}
    kept = [source for source in axes.order if source not in removed]
    before = behind.before(new, node.name)
    whole = new.view(before, View.identity(behind.shape).reshape(axes.shape), f"{node.name}.split")
    attrs = {**node.attrs, "axes": tuple(sorted(removed)), "keepdims": False}
    reduced = tuple(axes.shape[a] for a in sorted(kept))
    # Axes of length 1 leave no trace in a view: then nothing is left to sum.
    summed = node.with_(inputs=(whole,), shape=reduced, attrs=attrs)
    name = new.emit(summed) if removed else whole
    back = View.permutation(reduced, [sorted(kept).index(a) for a in kept])
    return new.view(name, back.reshape(node.shape), f"{node.name}.view")
