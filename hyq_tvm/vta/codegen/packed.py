"""Convolutions over few channels: a window's row of neighbours is one entry, not one each.

The inputs that a row of the kernel needs lie together in memory, ``kernel width * channels``
elements. Where they fit an entry, one product does what takes a product a tap otherwise. Columns
of outputs whose windows reach over the edge read fewer elements, and find the padding in the lanes
behind those.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.vta.codegen.context import Context, Tensor
from hyq_tvm.vta.codegen.epilogue import Epilogue
from hyq_tvm.vta.codegen.plane import Plane, Spot, clipped, require_inputs
from hyq_tvm.vta.codegen.products import tile_run, tiled
from hyq_tvm.vta.codegen.steps import Area
from hyq_tvm.vta.codegen.tile import Loop, Resident
from hyq_tvm.vta.codegen.window import MAX_SIZE, even_pieces
from hyq_tvm.vta.transfer import Transfer


@dataclass(frozen=True)
class Packed:
    """A convolution ``[B,H,W,C]`` by ``kernel [O,KH,KW,C]``."""

    x: Tensor
    output: Tensor
    plane: Plane
    pad_value: int
    kernel: NDArray[np.int8]
    epilogue: Epilogue


@dataclass(frozen=True)
class _Columns:
    """Neighbouring columns of outputs whose windows reach over the edges by as much.

    left, right: columns of a window beyond the image.
    """

    first: int
    count: int
    left: int
    right: int


def can_pack(plane: Plane, channels: int, block: int) -> bool:
    """Whether the inputs of a kernel's row fit an entry."""
    _, width = plane.kernel
    return width > 1 and plane.dilation[1] == 1 and width * channels <= block


def emit_packed(context: Context, made: Packed) -> None:
    """All tiles of a convolution that ``can_pack``."""
    blocks = context.blocks(made.kernel.shape[0])
    for columns in _columns(made.plane):
        matrix = _matrix(context, made.kernel, columns)
        weights = tile_run(matrix, 0, blocks * made.plane.kernel[0], context.block)
        for spot in _spots(context, made, columns, blocks):
            _emit_tile(context, made, columns, spot, weights)


def _columns(plane: Plane) -> list[_Columns]:
    width = plane.kernel[1]

    def overlap(column: int) -> tuple[int, int]:
        start = column * plane.strides[1] - plane.padding[1]
        return min(max(-start, 0), width), min(max(start + width - plane.width, 0), width)

    result = []
    for (left, right), group in groupby(range(plane.out_width), key=overlap):
        members = list(group)
        result.append(_Columns(members[0], len(members), left, right))
    return result


def _matrix(context: Context, kernel: NDArray[np.int8], columns: _Columns) -> int:
    """Tiles of all output blocks, a kernel's rows together; taps that padding feeds come last."""
    outputs, height, width, channels = kernel.shape
    inside = list(range(columns.left, width - columns.right))
    order = [*inside, *(tap for tap in range(width) if tap not in inside)]
    rows = kernel[:, :, order, :].reshape(outputs, height, width * channels)
    tiles = np.stack([tiled(rows[:, y], context.block)[:, 0] for y in range(height)], axis=1)
    return context.pool.add(tiles)


def _spots(context: Context, made: Packed, columns: _Columns, blocks: int) -> Iterator[Spot]:
    """Blocks of outputs that fit the buffers: whole rows where possible."""
    plane, stream = made.plane, context.stream
    room = stream.slot_entries // (blocks * made.epilogue.areas)
    width = min(columns.count, room, context.config.inp_entries // 2 // plane.spans[0], MAX_SIZE)
    most = max(1, min(plane.out_height, room // width))
    while most > 1 and plane.extent(most, 1)[0] * width > context.config.inp_entries // 2:
        most -= 1
    for image in range(plane.batch):
        for row, height in even_pieces(plane.out_height, most):
            for column, count in even_pieces(columns.count, width):
                in_height = plane.extent(height, 1)[0]
                first = columns.first + column
                yield Spot(image, row, first, height, count, in_height, count)


def _input(made: Packed, columns: _Columns, spot: Spot) -> Transfer:
    """A run an output column: the elements of its windows' rows that the image has."""
    plane, channels = made.plane, made.x.shape[3]
    size = np.dtype(made.x.dtype).itemsize
    top, row = clipped(spot.row, spot.in_height, plane.strides[0], plane.padding[0])
    rows = min(spot.in_height - top, plane.height - row)
    column = spot.column * plane.strides[1] - plane.padding[1] + columns.left
    taps = plane.kernel[1] - columns.left - columns.right
    require_inputs(rows, taps)
    start = ((spot.image * plane.height + row) * plane.width + column) * channels
    return Transfer(
        memory="INP",
        sram=0,
        dram=made.x.address + start * size,
        y=rows,
        x=spot.width,
        length=taps * channels,
        pads=(top, spot.in_height - top - rows, 0, 0),
        y_stride=plane.width * channels * size,
        x_stride=plane.strides[1] * channels * size,
    )


def _emit_tile(
    context: Context, made: Packed, columns: _Columns, spot: Spot, weights: Resident
) -> None:
    plane, outputs = made.plane, made.kernel.shape[0]
    blocks, height = context.blocks(outputs), plane.kernel[0]
    inputs = Resident(
        ("packed", context.unique()),
        spot.in_height * spot.width,
        (_input(made, columns, spot),),
        made.pad_value,
    )
    window = spot.output_window(plane, outputs, 0, outputs)
    area = Area(0, window.runs, blocks, 0)
    reads = made.epilogue.reads(window)
    tile = context.stream.tile(reads, [weights, inputs, *made.epilogue.residents(area)])
    wgt, inp, *rest = tile.at
    area = Area(tile.slot, window.runs, blocks, 0)
    outer = Loop(spot.height, spot.width * blocks, plane.strides[0] * spot.width)
    inner = Loop(spot.width, blocks, 1)
    for y in range(height):
        shift = y * plane.dilation[0] * spot.width
        uops = [(area.base + b, inp + shift, wgt + b * height + y) for b in range(blocks)]
        tile.gemm(uops, outer, inner, init=y == 0, unsigned=made.x.dtype == "uint8")
    made.epilogue.load(tile, window, area)
    made.epilogue.emit(tile, area, rest)
    made.epilogue.store(tile, window, area, made.output)
    context.stream.finish_tile(tile)
