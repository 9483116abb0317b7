"""Register tiles: rows of pixels by registers of channels, summed over the reduction.

Weights are packed so that the loop over the reduction reads them front to back: for each strip of
registers, ``[groups][registers][lanes][group]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedules.llvm import vector
from schedules.llvm.isa import Isa
from schedules.llvm.vector import Buffer, Expr

BIAS = 128
"""What a biased operand is stored with."""


@dataclass(frozen=True)
class Shape:
    """``rows`` pixels by up to ``registers`` registers of channels."""

    rows: int
    registers: int


@dataclass(frozen=True)
class Strips:
    """``count`` strips of ``registers`` registers each, from register ``first`` on.

    valid: channels in each; less than all lanes only in a last strip of its own.
    """

    first: int
    count: int
    registers: int
    valid: int


@dataclass(frozen=True)
class Reduction:
    """``groups`` groups one behind the other, in a nest of loops ``(count, step)`` around them.

    A step is the distance in elements of activations; weights lie in the nest's order. unroll:
    groups in the body of the innermost loop.
    """

    groups: int
    loops: tuple[tuple[int, int], ...] = ()
    unroll: int = 1

    @property
    def total(self) -> int:
        """Groups in all."""
        return self.groups * prod(count for count, _ in self.loops)


def cut(channels: int, lanes: int, widest: int) -> list[Strips]:
    """All channels in strips of at most ``widest`` registers, as even as they come."""
    full, rest = divmod(channels, lanes)
    registers = full + (rest > 0)
    count = -(-registers // widest)
    narrow, wide = registers // count, registers % count
    strips = [(narrow + 1, wide), (narrow, count - wide)]
    done: list[Strips] = []
    first = 0
    for width, number in strips:
        last = first + number * width == registers and rest > 0
        whole = number - 1 if last else number
        if whole > 0:
            done.append(Strips(first, whole, width, width * lanes))
        if last and number:
            valid = (width - 1) * lanes + rest
            done.append(Strips(first + whole * width, 1, width, valid))
        first += number * width
    return done


_LOAD = 0.95
_LATENCY = 5.0
_REQUANTIZE = 3.5
_ROW = 6.0
_MOST = 24


@lru_cache(maxsize=1024)
def choose(isa: Isa, rows: int, channels: int, groups: int, tiled: int = 0) -> Shape:
    """The tile with the fewest cycles for ``rows`` pixels and ``groups`` groups to sum.

    tiled: rows that tiles must not cross (a row of an image), 0 for none.
    """
    run = tiled or rows
    return min(shapes(isa, run), key=lambda s: (_cost(isa, s, run, channels, groups), -s.rows))


def shapes(isa: Isa, run: int) -> list[Shape]:
    """Tiles whose sums leave registers for weights, activations and the epilogue."""
    most = _MOST if isa.registers > 16 else 12
    return [
        Shape(rows, width)
        for width in ((4, 3, 2, 1) if isa.registers > 16 else (2, 1))
        for rows in range(1, min(most // width, run) + 1)
    ]


def _cost(isa: Isa, shape: Shape, run: int, channels: int, groups: int) -> float:
    """Cycles: products, but not fewer than loads and latency allow, and what follows the sums."""
    cycles = 0.0
    for strip in cut(channels, isa.lanes, shape.registers):
        products = shape.rows * strip.registers
        loads = shape.rows + strip.registers
        summed = groups * max(products, _LOAD * loads, _LATENCY)
        cycles += strip.count * (summed + products * _REQUANTIZE + shape.rows * _ROW)
    return -(-run // shape.rows) * cycles


def pack_weights(weight: NDArray[Any], isa: Isa, strips: Sequence[Strips]) -> NDArray[Any]:
    """``weight [channels, runs, elements]`` for ``accumulate``, elements padded to whole groups."""
    channels, runs, elements = weight.shape
    groups = -(-elements // isa.group)
    registers = -(-channels // isa.lanes)
    padded = np.zeros((registers * isa.lanes, runs, groups * isa.group), weight.dtype)
    padded[:channels, :, :elements] = weight
    # [registers, lanes, runs * groups, group]
    cells = padded.reshape(registers, isa.lanes, runs * groups, isa.group)
    parts = []
    for strip in strips:
        for i in range(strip.count):
            first = strip.first + i * strip.registers
            part = cells[first : first + strip.registers]
            parts.append(part.transpose(2, 0, 1, 3).reshape(-1))
    return np.concatenate(parts)


def accumulate(
    isa: Isa,
    reduction: Reduction,
    activations: Buffer,
    rows: Sequence[Expr],
    weights: Buffer,
    panel: Expr,
    starts: Sequence[Expr],
) -> list[list[Expr]]:
    """The sums of a tile, ``[row][register]``.

    activations: in the instruction set's operand type; ``rows``: where each row's first run
    starts. panel: where the strip's weights start. starts: what the sums of a register start at.
    """
    lanes = isa.lanes
    totals = [[vector.local(isa.sums, lanes) for _ in starts] for _ in rows]
    for row in totals:
        for total, start in zip(row, starts, strict=True):
            vector.store(total, 0, start, lanes)
    size = lanes * isa.group

    def add(offset: Expr, stretch: Expr, group: Expr) -> None:
        cell = (stretch * reduction.groups + group) * len(starts)
        loaded = [
            vector.bind(isa.weights(weights, panel + (cell + i) * size)) for i in range(len(starts))
        ]
        for row, sums in zip(rows, totals, strict=True):
            value = vector.bind(isa.broadcast(activations, row + offset + group * isa.group))
            for total, weight in zip(sums, loaded, strict=True):
                vector.store(total, 0, isa.dot(vector.load(total, 0, lanes), value, weight), lanes)

    with ExitStack() as nest:
        offset, stretch = _enter(nest, reduction)
        turns = reduction.groups // reduction.unroll
        with vector.loop(turns) as turn:
            for i in range(reduction.unroll):
                add(offset, stretch, turn * reduction.unroll + i)
        for group in range(turns * reduction.unroll, reduction.groups):
            add(offset, stretch, group)
    return [[vector.bind(vector.load(t, 0, lanes)) for t in sums] for sums in totals]


def _enter(nest: ExitStack, reduction: Reduction) -> tuple[Expr, Expr]:
    """Opens the loops around the groups: offset of the activations, number of the stretch."""
    offset: Expr = 0
    number: Expr = 0
    for count, step in reduction.loops:
        if count > 1:
            index = nest.enter_context(vector.loop(count))
            offset, number = offset + index * step, number * count + index
    return offset, number
