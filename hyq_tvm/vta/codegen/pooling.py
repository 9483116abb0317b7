"""Average and maximum pooling."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.vta.codegen.context import Context, Tensor
from hyq_tvm.vta.codegen.epilogue import Epilogue, make_epilogue
from hyq_tvm.vta.codegen.plane import Plane, Spot, plane_tiles
from hyq_tvm.vta.codegen.source import Operation
from hyq_tvm.vta.codegen.steps import Area
from hyq_tvm.vta.codegen.tile import Loop
from hyq_tvm.vta.codegen.window import ACCUMULATOR_KINDS
from hyq_tvm.vta.isa.table import INT32_HIGH, INT32_LOW
from hyq_tvm.vta.transfer import moved


@dataclass(frozen=True)
class _Pool:
    """op: how two elements of a window combine. pad: what padding holds."""

    x: Tensor
    output: Tensor
    plane: Plane
    op: str
    pad: int
    epilogue: Epilogue


def lower_avg_pool2d(context: Context, operation: Operation) -> None:
    """P1: padding holds the zero point, so that it adds 0."""
    x, *rest = operation.arguments
    params = operation.params
    kernel, zero_point = params["kernel"], int(params["zero_point"])
    offset = np.array([-int(kernel[0]) * int(kernel[1]) * zero_point], np.int64)
    epilogue = make_epilogue(context, params["epilogue"], rest, offset, operation.dtype)
    plane = Plane.of(x.shape, operation.shape, kernel, params)
    made = _Pool(context.tensor(x), context.output(operation), plane, "ADD", zero_point, epilogue)
    _emit(context, made)


def lower_max_pool2d(context: Context, operation: Operation) -> None:
    """P2."""
    x = operation.arguments[0]
    plane = Plane.of(x.shape, operation.shape, operation.params["kernel"], operation.params)
    lowest = int(np.iinfo(x.dtype).min)
    epilogue = Epilogue((), operation.dtype)
    made = _Pool(context.tensor(x), context.output(operation), plane, "MAX", lowest, epilogue)
    _emit(context, made)


def _emit(context: Context, made: _Pool) -> None:
    channels = made.x.shape[3]
    height, width, blocks = _tile_size(context, made)
    step = blocks * context.block
    for channel in range(0, channels, step):
        length = min(step, channels - channel)
        for spot in plane_tiles(made.plane, height, width):
            _emit_tile(context, made, spot, channel, length)


def _tile_size(context: Context, made: _Pool) -> tuple[int, int, int]:
    """Rows, columns and channel blocks of a tile: as many channels, then columns, as fit."""
    plane, room = made.plane, context.stream.slot_entries
    blocks, width, height = context.blocks(made.x.shape[3]), plane.out_width, plane.out_height

    def needed(rows: int, columns: int, depth: int) -> int:
        return depth * (plane.area(rows, columns) + rows * columns * made.epilogue.areas)

    while needed(height, width, blocks) > room and height > 1:
        height -= 1
    while needed(height, width, blocks) > room and blocks > 1:
        blocks = -(-blocks // 2)
    while needed(height, width, blocks) > room and width > 1:
        width = -(-width // 2)
    if needed(height, width, blocks) > room:
        raise UnsupportedModelError(f"a window of {plane.kernel} does not fit the accumulators")
    return height, width, blocks


def _emit_tile(context: Context, made: _Pool, spot: Spot, channel: int, length: int) -> None:
    block = context.block
    window = spot.output_window(made.plane, made.output.shape[3], channel, length)
    move = spot.input_move(made.plane, made.x, channel, length, ACCUMULATOR_KINDS[made.x.dtype])
    blocks = window.blocks(block)
    area = Area(0, window.runs, blocks, channel // block)
    reads = [(move.dram, move.end), *made.epilogue.reads(window)]
    tile = context.stream.tile(reads, made.epilogue.residents(area))
    area = Area(tile.slot, window.runs, blocks, channel // block)
    values = tile.slot + made.epilogue.areas * window.runs * blocks
    tile.load(moved(move, values), made.pad)
    made.epilogue.load(tile, window, area)
    taps = made.plane.tap_shifts(spot.in_width)
    uops = [
        (area.base + k, values + shift * blocks + k, 0) for shift, k in product(taps, range(blocks))
    ]
    rows, columns = made.plane.strides
    outer = Loop(spot.height, spot.width * blocks, rows * spot.in_width * blocks)
    inner = Loop(spot.width, blocks, columns * blocks)
    tile.set(LOW=INT32_LOW, HIGH=INT32_HIGH)
    tile.vector("MOV", uops[:blocks], outer, inner)
    if len(taps) > 1:
        tile.vector(made.op, uops[blocks:], outer, inner)
    made.epilogue.emit(tile, area, tile.at)
    tile.store(window.move(made.output.address, made.epilogue.dtype, area.base))
    context.stream.finish_tile(tile)
