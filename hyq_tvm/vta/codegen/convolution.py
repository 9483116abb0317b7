"""Convolutions: every tap is a matrix product over a shifted block of inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.vta.codegen.context import Context, Tensor
from hyq_tvm.vta.codegen.epilogue import Epilogue, constant, make_epilogue, with_second
from hyq_tvm.vta.codegen.folding import made_shape, second_result
from hyq_tvm.vta.codegen.packed import Packed, can_pack, emit_packed
from hyq_tvm.vta.codegen.plane import Plane, Spot, plane_tiles
from hyq_tvm.vta.codegen.products import lower_rows, tile_run
from hyq_tvm.vta.codegen.source import Operation
from hyq_tvm.vta.codegen.steps import Area
from hyq_tvm.vta.codegen.tile import Loop, Resident, Uop

UOP_SHARE = 4
"""A tile's micro-ops take at most this part of their buffer."""


@dataclass(frozen=True)
class _Weights:
    """Tiles of all output blocks in DRAM, one block after the other: taps, then input blocks.

    inputs: per output block, its range of input blocks. starts: its first tile.
    """

    address: int
    taps: int
    inputs: tuple[tuple[int, int], ...]
    starts: tuple[int, ...]

    def tiles(self, first: int, count: int) -> int:
        """Tiles of ``count`` output blocks from ``first`` on."""
        return self.starts[first + count] - self.starts[first]

    def channel_blocks(self, first: int, count: int) -> tuple[int, int]:
        """The input blocks that these output blocks read."""
        ranges = self.inputs[first : first + count]
        return min(r[0] for r in ranges), max(r[1] for r in ranges)


@dataclass(frozen=True)
class _Convolution:
    x: Tensor
    output: Tensor
    plane: Plane
    pad_value: int
    weights: _Weights
    epilogue: Epilogue


def lower_conv2d(context: Context, operation: Operation) -> None:
    """C1."""
    x, weight, bias, *rest = operation.arguments
    params, kernel = operation.params, constant(weight)
    epilogue = make_epilogue(
        context, params["epilogue"], rest, constant(bias).astype(np.int64), operation.dtype
    )
    epilogue = with_second(context, epilogue, second_result(operation))
    plane = Plane.of(x.shape, made_shape(operation), kernel.shape[1:3], params)
    groups = int(params["groups"])
    if plane.is_pointwise and groups == 1:
        lower_rows(context, operation, kernel.reshape(kernel.shape[0], -1), epilogue)
        return
    if (
        groups == 1
        and can_pack(plane, x.shape[3], context.block)
        and _packs(context, plane, kernel)
    ):
        source, output = context.tensor(x), context.output(operation)
        pad_value = int(params["pad_value"])
        emit_packed(context, Packed(source, output, plane, pad_value, kernel, epilogue))
        return
    made = _Convolution(
        x=context.tensor(x),
        output=context.output(operation),
        plane=plane,
        pad_value=int(params["pad_value"]),
        weights=_pack(context, kernel, groups),
        epilogue=epilogue,
    )
    _emit(context, made)


def _packs(context: Context, plane: Plane, kernel: NDArray[np.int8]) -> bool:
    """Whether all weights, and inputs of one column, fit."""
    tiles = context.blocks(kernel.shape[0]) * plane.kernel[0]
    limit = min(context.config.wgt_entries // 2, context.config.uop_entries // UOP_SHARE)
    return tiles <= limit and plane.spans[0] <= context.config.inp_entries // 2


def _pack(context: Context, kernel: NDArray[np.int8], groups: int) -> _Weights:
    outputs, height, width, depth = kernel.shape
    block, taps = context.block, height * width
    flat = kernel.reshape(outputs, taps, depth)
    parts, inputs, starts = [], [], [0]
    for first in range(0, outputs, block):
        channels = range(first, min(first + block, outputs))
        groups_of = [o // (outputs // groups) for o in channels]
        low = groups_of[0] * depth // block
        high = ceil((groups_of[-1] + 1) * depth / block)
        wide = np.zeros((block, taps, (high - low) * block), np.int8)
        for row, (o, g) in enumerate(zip(channels, groups_of, strict=True)):
            start = g * depth - low * block
            wide[row, :, start : start + depth] = flat[o]
        tiles = wide.reshape(block, taps, high - low, block).transpose(1, 2, 0, 3)
        parts.append(tiles.reshape(-1))
        inputs.append((low, high))
        starts.append(starts[-1] + taps * (high - low))
    address = context.pool.add(np.concatenate(parts))
    return _Weights(address, taps, tuple(inputs), tuple(starts))


def _emit(context: Context, made: _Convolution) -> None:
    count, height, width = _best_tile(context, made)
    serial = context.unique()
    blocks = len(made.weights.inputs)
    for first in range(0, blocks, count):
        for spot in plane_tiles(made.plane, height, width):
            _emit_tile(context, made, spot, first, min(count, blocks - first), serial)


def _best_tile(context: Context, made: _Convolution) -> tuple[int, int, int]:
    """Output blocks, rows and columns of a tile: what moves the fewest bytes, then makes the
    fewest tiles.
    """
    choices = []
    blocks = len(made.weights.inputs)
    for count in range(1, blocks + 1):
        if not _weights_fit(context, made, count):
            break
        for width in _halvings(made.plane.out_width):
            height = _rows_that_fit(context, made, count, width)
            if height:
                choices.append((*_cost(made, count, height, width), count, height, width))
    if not choices:
        raise UnsupportedModelError(
            f"a convolution of {made.x.shape} does not fit the buffers even for one output position"
        )
    ranked = sorted(choices)
    _, _, count, height, width = ranked[min(context.choice.rank, len(ranked) - 1)]
    return count, height, width


def _halvings(n: int) -> Iterator[int]:
    while n > 1:
        yield n
        n = ceil(n / 2)
    yield 1


def _weights_fit(context: Context, made: _Convolution, count: int) -> bool:
    limit = min(context.config.wgt_entries // 2, context.config.uop_entries // UOP_SHARE)
    blocks = len(made.weights.inputs)
    largest = max(made.weights.tiles(f, min(count, blocks - f)) for f in range(0, blocks, count))
    return largest <= limit


def _rows_that_fit(context: Context, made: _Convolution, count: int, width: int) -> int:
    low, high = made.weights.channel_blocks(0, count)
    depth = max(high - low, made.weights.inputs[-1][1] - made.weights.inputs[-1][0])
    accumulators = context.stream.slot_entries // (count * made.epilogue.areas * width)
    rows = min(made.plane.out_height, accumulators)
    while rows and made.plane.area(rows, width) * depth > context.config.inp_entries // 2:
        rows -= 1
    return rows


def _cost(made: _Convolution, count: int, height: int, width: int) -> tuple[int, int]:
    blocks, plane = len(made.weights.inputs), made.plane
    tiles = ceil(plane.out_height / height) * ceil(plane.out_width / width)
    low, high = made.weights.channel_blocks(0, count)
    chunks = ceil(blocks / count)
    return chunks * tiles * plane.area(height, width) * (high - low), chunks * tiles


def _emit_tile(
    context: Context, made: _Convolution, spot: Spot, first: int, count: int, serial: int
) -> None:
    low, high = made.weights.channel_blocks(first, count)
    depth, block = high - low, context.block
    channels = made.x.shape[3]
    length = min(channels, high * block) - low * block
    move = spot.input_move(made.plane, made.x, low * block, length, "INP")
    inputs = Resident(
        ("plane", serial, low, high, spot), spot.in_area * depth, (move,), made.pad_value
    )
    outputs = made.output.shape[3]
    window = spot.output_window(
        made.plane, outputs, first * block, min(outputs - first * block, count * block)
    )
    weight = tile_run(
        made.weights.address, made.weights.starts[first], made.weights.tiles(first, count), block
    )
    area = Area(0, window.runs, count, first)
    reads = made.epilogue.reads(window)
    tile = context.stream.tile(reads, [weight, inputs, *made.epilogue.residents(area)])
    area = Area(tile.slot, window.runs, count, first)
    begin, rest = _uops(made, spot, (first, count), (area.base, tile.at[1], tile.at[0]))
    row_step, column_step = made.plane.strides
    outer = Loop(spot.height, spot.width * count, row_step * spot.in_width * depth)
    inner = Loop(spot.width, count, column_step * depth)
    tile.gemm(begin, outer, inner, init=True, unsigned=made.x.dtype == "uint8")
    tile.gemm(rest, outer, inner, init=False, unsigned=made.x.dtype == "uint8")
    made.epilogue.load(tile, window, area)
    made.epilogue.emit(tile, area, tile.at[2:])
    made.epilogue.store(tile, window, area, made.output)
    context.stream.finish_tile(tile)


def _uops(
    made: _Convolution, spot: Spot, chunk: tuple[int, int], bases: tuple[int, int, int]
) -> tuple[list[Uop], list[Uop]]:
    """The first product of each output block, and the others."""
    (first, count), (dst, src, wgt) = chunk, bases
    low, high = made.weights.channel_blocks(first, count)
    begin, rest = [], []
    for index in range(count):
        blocks = range(*made.weights.inputs[first + index])
        entry = wgt + made.weights.tiles(first, index)
        steps = [
            (dst + index, src + shift * (high - low) + k - low)
            for shift in made.plane.tap_shifts(spot.in_width)
            for k in blocks
        ]
        uops = [(d, s, entry + i) for i, (d, s) in enumerate(steps)]
        begin.append(uops[0])
        rest += uops[1:]
    return begin, rest
