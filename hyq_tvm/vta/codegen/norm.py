"""LayerNorm and GroupNorm: sums, an inverse square root a row, and a product a channel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.numerics.reference.norm import NARROW_COUNT, count_shift
from hyq_tvm.vta.codegen.context import Context, Parameters, Tensor
from hyq_tvm.vta.codegen.elementwise import reduce_rows
from hyq_tvm.vta.codegen.epilogue import constant
from hyq_tvm.vta.codegen.folding import made_shape, walk_written
from hyq_tvm.vta.codegen.source import Operation
from hyq_tvm.vta.codegen.steps import Area
from hyq_tvm.vta.codegen.tile import ONCE, Loop, Tile
from hyq_tvm.vta.codegen.window import MAX_LENGTH, Window, pieces, span, split_runs
from hyq_tvm.vta.isa.table import INT32_HIGH, INT32_LOW


@dataclass(frozen=True)
class _Norm:
    """count: how many elements share a mean. affine: gamma, T and beta as REQ takes them."""

    x: Tensor
    output: Tensor
    count: int
    epsilon: int
    zero_point: int
    low: int
    high: int

    def affine(self, context: Context, operation: Operation, part: slice) -> Parameters:
        """The parameters of some channels."""
        gamma, beta = (constant(a).astype(np.int64)[part] for a in operation.arguments[1:])
        shift = int(operation.params["shift"])
        shifts = np.full(gamma.size, shift, np.int64)
        return context.parameters(gamma, shifts, beta + (np.int64(1) << (shift - 1)))


def _norm(context: Context, operation: Operation, count: int) -> _Norm:
    if count_shift(count):
        raise UnsupportedModelError(
            f"a norm over {count} elements: the accelerator's sums hold {NARROW_COUNT}"
        )
    params = operation.params
    return _Norm(
        x=context.tensor(operation.arguments[0]),
        output=context.output(operation),
        count=count,
        epsilon=int(params["epsilon"]),
        zero_point=int(params["zero_point"]),
        low=int(params["low"]),
        high=int(params["high"]),
    )


def lower_layer_norm(context: Context, operation: Operation) -> None:
    """Every row has its own mean."""
    channels = made_shape(operation)[1]
    made = _norm(context, operation, channels)
    affine = made.affine(context, operation, slice(None))
    blocks = context.blocks(channels)
    room = min(context.stream.slot_entries // blocks, context.stream.row_entries)
    if room < 1 or channels > MAX_LENGTH:
        raise UnsupportedModelError(f"a norm over {channels} channels does not fit a tile")
    room = context.choice.fewer_rows(room)
    walk = walk_written(operation, channels)
    own = [step * channels for step in walk.own]
    sizes, strides = [*walk.sizes, channels], [[*own, 1], [*walk.target, 1]]
    for _, (window, target) in split_runs(sizes, strides, room, channels):
        n = window.runs
        tile = context.stream.tile(
            [span(window, made.x.address, made.x.dtype)], [affine.resident(0, blocks)]
        )
        area = Area(tile.slot, n, blocks, 0)
        tile.load(window.move(made.x.address, made.x.dtype, area.base))
        _clear(tile, tile.row, n)
        reduce_rows(tile, "MOMENTS", tile.row, area, channels)
        _root(tile, made, tile.row, n)
        _normalize(tile, made, area, Loop(n, blocks, blocks, 1), tile.row)
        _scale(tile, made, area, affine, tile.at[0])
        tile.store(target.move(made.output.address, made.output.dtype, area.base))
        context.stream.finish_tile(tile)


def lower_group_norm(context: Context, operation: Operation) -> None:
    """The positions and channels of a group share a mean, over as many tiles as they need."""
    batch, positions, channels = operation.shape
    groups = int(operation.params["groups"])
    width = channels // groups
    if width > MAX_LENGTH or context.blocks(width) > context.stream.slot_entries:
        raise UnsupportedModelError(f"a norm over {width} channels does not fit a tile")
    made = _norm(context, operation, positions * width)
    for group in range(groups):
        part = slice(group * width, (group + 1) * width)
        affine = made.affine(context, operation, part)
        for image in range(batch):
            start = image * positions * channels + group * width
            window = Window(start, 1, positions, width, 0, channels)
            _group(context, made, window, affine)


def _group(context: Context, made: _Norm, whole: Window, affine: Parameters) -> None:
    stream, blocks = context.stream, whole.blocks(context.block)
    parts = [
        replace(whole, start=whole.start + first * whole.x_stride, x=n)
        for first, n in pieces(whole.x, stream.slot_entries // blocks)
    ]
    for index, window in enumerate(parts):
        tile = stream.tile([span(window, made.x.address, made.x.dtype)])
        area = Area(tile.slot, window.x, blocks, 0)
        tile.load(window.move(made.x.address, made.x.dtype, area.base))
        if index == 0:
            _clear(tile, stream.kept, 1)
        reduce_rows(tile, "MOMENTS", stream.kept, area, window.length, into_step=0)
        if window is parts[-1]:
            _root(tile, made, stream.kept, 1)
        stream.finish_tile(tile)
    for window in parts:
        wanted = [affine.resident(0, blocks)]
        tile = stream.tile([span(window, made.x.address, made.x.dtype)], wanted)
        area = Area(tile.slot, window.x, blocks, 0)
        tile.load(window.move(made.x.address, made.x.dtype, area.base))
        _normalize(tile, made, area, Loop(window.x, blocks, blocks, 0), stream.kept)
        _scale(tile, made, area, affine, tile.at[0])
        tile.store(window.move(made.output.address, made.output.dtype, area.base))
        stream.finish_tile(tile)


def _clear(tile: Tile, first: int, count: int) -> None:
    tile.set(LOW=INT32_LOW, HIGH=INT32_HIGH, IMMEDIATE=0)
    tile.vector("MOV", [(first, 0, 0)], Loop(count, 1), operand="IMM")


def _root(tile: Tile, made: _Norm, first: int, count: int) -> None:
    tile.set(COUNT=made.count, EPSILON=made.epsilon)
    tile.vector("ROOT", [(first, first, 0)], Loop(count, 1, 1), ONCE)


def _normalize(tile: Tile, made: _Norm, area: Area, rows: Loop, first: int) -> None:
    tile.set(LOW=INT32_LOW, HIGH=INT32_HIGH, COUNT=made.count)
    tile.vector("NORM", [(area.base, area.base, first)], rows, area.inner())


def _scale(tile: Tile, made: _Norm, area: Area, affine: Parameters, at: int) -> None:
    tile.set(LOW=made.low, HIGH=made.high, ZERO_POINT=made.zero_point)
    tile.vector("REQ", [(area.base, area.base, at)], area.outer(), area.inner(affine.step))
