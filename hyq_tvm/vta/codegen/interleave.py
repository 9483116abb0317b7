"""Planes of few channels to channels-last, by products with permutation matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hyq_tvm.vta.codegen.context import Context, Tensor
from hyq_tvm.vta.codegen.products import tile_run
from hyq_tvm.vta.codegen.tile import ONCE, Loop, Resident
from hyq_tvm.vta.codegen.window import MAX_SIZE, Window, even_pieces
from hyq_tvm.vta.transfer import Transfer

MOST_CHANNELS = 4
"""With more of them, products take longer than moving the elements one by one."""


@dataclass(frozen=True)
class Planes:
    """``channels`` planes of ``positions`` elements, ``stride`` apart."""

    channels: int
    positions: int
    stride: int


def planes_of(sizes: Sequence[int], steps: Sequence[Sequence[int]], dtype: str) -> Planes | None:
    """What a walk that reads by ``steps[0]`` and writes by ``steps[1]`` interleaves, if it does."""
    if len(sizes) != 2 or dtype not in ("int8", "uint8"):
        return None
    (positions, channels), (read, write) = sizes, steps
    fits = 1 < channels <= MOST_CHANNELS and read[0] == 1 and list(write) == [channels, 1]
    return Planes(channels, positions, read[1]) if fits else None


def interleave(
    context: Context, source: Tensor, target: Tensor, planes: Planes, starts: tuple[int, int]
) -> None:
    """Element ``starts[0] + c * stride + p`` to ``starts[1] + p * channels + c``."""
    block, channels = context.block, planes.channels
    matrices = tile_run(_matrices(context, channels), 0, channels * channels, block)
    groups, rest = divmod(planes.positions, block)
    most = min(
        context.stream.slot_entries // channels,
        context.config.inp_entries // 2 // channels,
        MAX_SIZE // channels,
    )
    parts = [
        (first * block, n, block) for first, n in (even_pieces(groups, most) if groups else ())
    ]
    parts += [(groups * block, 1, rest)] if rest else []
    serial = context.unique()
    for first, count, length in parts:
        size = np.dtype(source.dtype).itemsize
        move = Transfer(
            "INP",
            0,
            source.address + (starts[0] + first) * size,
            channels,
            count,
            length,
            (0, 0, 0, 0),
            planes.stride * size,
            length * size,
        )
        inputs = Resident(("planes", serial, first), channels * count, (move,))
        tile = context.stream.tile([], [matrices, inputs])
        wgt, inp = tile.at
        outer = Loop(count, channels, 1)
        for c in range(channels):
            uops = [
                (tile.slot + e, inp + c * count, wgt + e * channels + c) for e in range(channels)
            ]
            tile.gemm(uops, outer, ONCE, init=c == 0, unsigned=source.dtype == "uint8")
        out = Window(starts[1] + first * channels, 1, count * channels, length, 0, length)
        if length < block:
            out = Window(out.start, 1, 1, length * channels, 0, 0)
        tile.store(out.move(target.address, target.dtype, tile.slot))
        context.stream.finish_tile(tile)


def _matrices(context: Context, channels: int) -> int:
    """Tile ``e * channels + c`` picks what entry e of the result takes from channel c's inputs."""
    block = context.block
    tiles = np.zeros((channels, channels, block, block), np.int8)
    flat = np.arange(channels * block)
    position, channel = np.divmod(flat, channels)
    tiles[flat // block, channel, flat % block, position] = 1
    return context.pool.add(tiles)
