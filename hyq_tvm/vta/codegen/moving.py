"""Operators that only move numbers: view, concat, pad."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from hyq_tvm.vta.codegen.context import Context, Tensor
from hyq_tvm.vta.codegen.interleave import interleave, planes_of
from hyq_tvm.vta.codegen.source import Operation
from hyq_tvm.vta.codegen.tile import Loop
from hyq_tvm.vta.codegen.window import MAX_LENGTH, dense_strides, merged, span, split_runs
from hyq_tvm.vta.isa.table import INT32_HIGH, INT32_LOW


def lower_view(context: Context, operation: Operation) -> None:
    """L2."""
    params = operation.params
    shape = [int(n) for n in params["shape"]]
    copy(
        context,
        context.tensor(operation.arguments[0]),
        context.output(operation),
        shape,
        ([int(s) for s in params["strides"]], dense_strides(shape)),
        (int(params["offset"]), 0),
    )


def lower_concat(context: Context, operation: Operation) -> None:
    """L1."""
    axis, output = int(operation.params["axis"]), context.output(operation)
    axis %= len(operation.shape)
    strides, start = dense_strides(operation.shape), 0
    for argument in operation.arguments:
        own = dense_strides(argument.shape)
        place = (0, start * strides[axis])
        copy(context, context.tensor(argument), output, argument.shape, (own, strides), place)
        start += argument.shape[axis]


def lower_pad(context: Context, operation: Operation) -> None:
    """L3: the output is filled, then the input is copied into its middle."""
    x, output = operation.arguments[0], context.output(operation)
    _fill(context, output, int(operation.params["value"]))
    strides = dense_strides(operation.shape)
    start = sum(
        int(low) * stride
        for (low, _), stride in zip(operation.params["pads"], strides, strict=True)
    )
    own = dense_strides(x.shape)
    copy(context, context.tensor(x), output, x.shape, (own, strides), (0, start))


def copy(
    context: Context,
    source: Tensor,
    target: Tensor,
    shape: Sequence[int],
    strides: tuple[Sequence[int], Sequence[int]],
    starts: tuple[int, int],
) -> None:
    """Elements of ``source`` to ``target``, each walked by its strides from its start."""
    sizes, steps = merged(shape, strides)
    planes = planes_of(sizes, steps, source.dtype)
    if planes is not None:
        interleave(context, source, target, planes, starts)
        return
    if any(step[-1] != 1 for step in steps):
        sizes, steps = [*sizes, 1], [[*step, 1] for step in steps]
    room = context.stream.slot_entries
    length = min(sizes[-1], room * context.block, MAX_LENGTH // context.block * context.block)
    runs = max(1, room // context.blocks(length))
    runs = context.choice.fewer_rows(runs)
    for _, windows in split_runs(sizes, steps, runs, length):
        read, write = (w.shifted(start) for w, start in zip(windows, starts, strict=True))
        tile = context.stream.tile([span(read, source.address, source.dtype)])
        tile.load(read.move(source.address, source.dtype, tile.slot))
        tile.store(write.move(target.address, target.dtype, tile.slot))
        context.stream.finish_tile(tile)


def _fill(context: Context, target: Tensor, value: int) -> None:
    """The whole tensor with one value."""
    count, room = prod(target.shape), context.stream.slot_entries
    length = min(count, room * context.block, MAX_LENGTH // context.block * context.block)
    for _, (window,) in split_runs([count], [[1]], 1, length):
        tile = context.stream.tile()
        tile.set(LOW=INT32_LOW, HIGH=INT32_HIGH, IMMEDIATE=value)
        entries = Loop(window.blocks(context.block), 1)
        tile.vector("MOV", [(tile.slot, 0, 0)], entries, operand="IMM")
        tile.store(window.move(target.address, target.dtype, tile.slot))
        context.stream.finish_tile(tile)
