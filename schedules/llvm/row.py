"""A row of a tile on its way out: int32 registers, or narrowed and packed into one long vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schedules.llvm import vector
from schedules.llvm.isa import Isa
from schedules.llvm.vector import Buffer, Expr


@dataclass(frozen=True)
class Words:
    """int32 registers, still to be clipped to ``[low, high]`` where bounds are given."""

    registers: tuple[Expr, ...]
    bounds: tuple[int, int] | None = None


@dataclass(frozen=True)
class Packed:
    """One vector of ``dtype`` whose first lanes are the row's; ``lanes`` is a power of two."""

    value: Expr
    dtype: str
    lanes: int


Row = Words | Packed


@dataclass(frozen=True)
class Rows:
    """How rows lie in registers.

    mixed: 0 where register after register holds consecutive elements. Else so many registers
    share their elements: four go to the first register, four to the next and so on, as x86
    interleaves bytes (4 registers) and 16-bit numbers (2).
    """

    isa: Isa
    mixed: int = 0

    def positions(self, registers: int) -> list[int]:
        """Of every lane, register by register, the element of the row that it holds."""
        lanes = self.isa.lanes
        if not self.mixed:
            return list(range(registers * lanes))
        return [
            first * lanes + (block * self.mixed + register) * 4 + lane
            for first in range(0, registers, self.mixed)
            for register in range(self.mixed)
            for block in range(lanes // 4)
            for lane in range(4)
        ]

    def words(self, row: Row) -> tuple[Expr, ...]:
        """The row as clipped int32 registers."""
        lanes = self.isa.lanes
        if isinstance(row, Packed):
            positions = self.positions(row.lanes // lanes)
            parts = [
                _select(row.value, positions[i : i + lanes], row.lanes)
                for i in range(0, row.lanes, lanes)
            ]
            return tuple(vector.bind(vector.cast(p, "int32", lanes)) for p in parts)
        if row.bounds is None:
            return row.registers
        low, high = row.bounds
        return tuple(vector.bind(vector.clip(r, low, high, "int32", lanes)) for r in row.registers)

    def packed(self, row: Row, dtype: str) -> Packed:
        """The row as one vector of ``dtype``, into which its clipped values fit."""
        if isinstance(row, Packed):
            value = row.value if row.dtype == dtype else vector.cast(row.value, dtype, row.lanes)
            return Packed(value, dtype, row.lanes)
        count = 1 << (len(row.registers) - 1).bit_length()
        lanes = count * self.isa.lanes
        direct = self.mixed != 4 or dtype == "int8"
        if row.bounds is not None and direct and _packs(self.isa, row.bounds, dtype, count):
            saturated = self._saturated8 if dtype == "int8" else self._saturated16
            value = _clip(saturated(_filled(row.registers, count)), row.bounds, dtype, lanes)
            return Packed(vector.bind(value), dtype, lanes)
        narrow = [vector.cast(r, dtype, self.isa.lanes) for r in self.words(row)]
        joined = vector.concat(_filled(narrow, count), self.isa.lanes)
        order = [int(i) for i in np.argsort(self.positions(count))]
        return Packed(vector.bind(_select(joined, order, lanes)), dtype, lanes)

    def store(self, row: Row, dtype: str, out: Buffer, offset: Expr, valid: int) -> None:
        """The first ``valid`` elements of the row to ``out``, as ``dtype``."""
        vectors = self.packed(row, dtype)
        done = 0
        while done < valid:
            left = valid - done
            fitting = max(1 << (left.bit_length() - 1), self.isa.lanes)
            size = min(vectors.lanes, fitting)
            part = _select(vectors.value, range(done, done + size), vectors.lanes)
            vector.store_some(out, offset + done, part, size, left)
            done += size

    def pairs(self, row: Row) -> list[Expr]:
        """The row as registers of int16 with pieces of two registers in turn, for ``joined``."""
        registers = _filled(self.words(row), 4)
        return [self.pair(registers[i], registers[i + 1]) for i in (0, 2)]

    def joined(self, pairs: Sequence[Expr]) -> Expr:
        """Two registers of ``pairs`` saturated to one of int8, its elements in order."""
        assert self.isa.packs is not None
        size = self.isa.bytes
        value = vector.intrinsic(self.isa.packs[1], "int8", size, *pairs)
        if self.mixed == 4:
            return value
        dtype, pieces = ("int64", size // 8) if self.mixed else ("int32", size // 4)
        return vector.reinterpret(self._sorted(value, dtype, pieces), "int8", size)

    def _saturated8(self, registers: Sequence[Expr]) -> Expr:
        """int32 -> int8, four registers to one."""
        done = []
        for i in range(0, len(registers), 4):
            pairs = [self.pair(registers[j], registers[j + 1]) for j in (i, i + 2)]
            done.append(self.joined(pairs))
        return vector.concat(done, self.isa.bytes)

    def _saturated16(self, registers: Sequence[Expr]) -> Expr:
        """int32 -> int16, two registers to one, whose pieces the instruction leaves interleaved."""
        lanes = self.isa.lanes
        done = []
        for i in range(0, len(registers), 2):
            value = self.pair(registers[i], registers[i + 1])
            if not self.mixed:
                value = self._sorted(value, "int64", lanes // 2)
                value = vector.reinterpret(value, "int16", lanes * 2)
            done.append(value)
        return vector.concat(done, lanes * 2)

    def pair(self, a: Expr, b: Expr) -> Expr:
        """Two int32 registers saturated to one of int16, 64 bits of each in turn."""
        assert self.isa.packs is not None
        return vector.intrinsic(self.isa.packs[0], "int16", self.isa.lanes * 2, a, b)

    def _sorted(self, value: Expr, dtype: str, pieces: int) -> Expr:
        """Pieces of several vectors, taken from 128 bits in turn, one vector after the other."""
        blocks = self.isa.lanes // 4
        vectors = pieces // blocks
        order = [block * vectors + number for number in range(vectors) for block in range(blocks)]
        return vector.shuffle([vector.reinterpret(value, dtype, pieces)], order)


def _filled(registers: Sequence[Expr], count: int) -> list[Expr]:
    return [*registers, *[registers[-1]] * (count - len(registers))]


def _select(value: Expr, lanes: Sequence[int], available: int) -> Expr:
    if list(lanes) == list(range(available)):
        return value
    return vector.shuffle([value], lanes)


def _clip(value: Expr, bounds: tuple[int, int], dtype: str, lanes: int) -> Expr:
    """Bounds tighter than the type's; saturation has done the rest."""
    info = np.iinfo(dtype)
    low, high = bounds
    if high < info.max:
        value = vector.minimum(value, high, dtype, lanes)
    if low > info.min:
        value = vector.maximum(value, low, dtype, lanes)
    return value


def _packs(isa: Isa, bounds: tuple[int, int], dtype: str, count: int) -> bool:
    """Whether saturating narrowing instructions make ``dtype`` of so many registers."""
    if isa.packs is None or dtype not in ("int8", "int16"):
        return False
    info = np.iinfo(dtype)
    inside = info.min <= bounds[0] and bounds[1] <= info.max
    return inside and count >= (4 if dtype == "int8" else 2)
