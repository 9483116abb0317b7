"""Adds and multiplications broadcast by themselves: no tensor is repeated in memory for them."""

from __future__ import annotations

from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.view import View
from relay_passes.canonical.builder import Builder, rewrite


def drop_broadcasts(graph: Graph) -> Graph:
    """Where a view only repeats an operand along an axis, read it once instead."""
    return rewrite(graph, _drop)


def _drop(new: Builder, node: Node) -> str | None:
    if node.op not in ("add", "multiply") or len(node.inputs) != 2:
        return None
    for position, name in enumerate(node.inputs):
        other = new[node.inputs[1 - position]].shape
        narrow = _narrowed(new[name], other)
        if narrow is not None:
            source = new.view(new[name].inputs[0], narrow, name)
            inputs = (source, node.inputs[1]) if position == 0 else (node.inputs[0], source)
            return new.emit(node.with_(inputs=inputs))
    return None


def _narrowed(operand: Node, other: tuple[int, ...]) -> View | None:
    """The operand's view without the repetitions that the other operand provides anyway."""
    if operand.op != "view":
        return None
    view: View = operand.attrs["view"]
    shape = operand.shape
    full = (1,) * (len(shape) - len(other)) + other[-len(shape) :] if shape else ()
    ends = tuple(
        1 if full[axis] == n and _repeats(view, axis) else n for axis, n in enumerate(shape)
    )
    return None if ends == shape else view.slice((0,) * len(shape), ends)


def _repeats(view: View, axis: int) -> bool:
    """Whether all positions along an axis of the output read the same element."""
    return view.narrowed().out_shape[axis] == 1
