"""A row of a tile on its way out: int32 registers, or narrowed and packed into one long vector."""

from __future__ import annotations

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


def words(isa: Isa, row: Row) -> tuple[Expr, ...]:
    """The row as clipped int32 registers."""
    lanes = isa.lanes
    if isinstance(row, Packed):
        parts = [_part(row, i * lanes, lanes) for i in range(row.lanes // lanes)]
        return tuple(vector.bind(vector.cast(p, "int32", lanes)) for p in parts)
    if row.bounds is None:
        return row.registers
    low, high = row.bounds
    return tuple(vector.bind(vector.clip(r, low, high, "int32", lanes)) for r in row.registers)


def packed(isa: Isa, row: Row, dtype: str) -> Packed:
    """The row as one vector of ``dtype``, into which its clipped values fit."""
    if isinstance(row, Packed):
        value = row.value if row.dtype == dtype else vector.cast(row.value, dtype, row.lanes)
        return Packed(value, dtype, row.lanes)
    count = 1 << (len(row.registers) - 1).bit_length()
    lanes = count * isa.lanes
    if row.bounds is not None and _packs(isa, row.bounds, dtype, count):
        filled = [*row.registers, *[row.registers[-1]] * (count - len(row.registers))]
        narrow = _saturated8(isa, filled) if dtype == "int8" else _saturated16(isa, filled)
        return Packed(vector.bind(_clip(narrow, row.bounds, dtype, lanes)), dtype, lanes)
    narrow = [vector.cast(r, dtype, isa.lanes) for r in words(isa, row)]
    narrow += [narrow[-1]] * (count - len(narrow))
    return Packed(vector.bind(vector.concat(narrow, isa.lanes)), dtype, lanes)


def store(isa: Isa, row: Row, dtype: str, out: Buffer, offset: Expr, valid: int) -> None:
    """The first ``valid`` elements of the row to ``out``, as ``dtype``."""
    vectors = packed(isa, row, dtype)
    done = 0
    while done < valid:
        left = valid - done
        size = vectors.lanes if left >= vectors.lanes else max(_floor_power(left), isa.lanes)
        part = _part(vectors, done, size)
        vector.store_some(out, offset + done, part, size, left)
        done += size


def _floor_power(count: int) -> int:
    return 1 << (count.bit_length() - 1)


def _part(row: Packed, start: int, lanes: int) -> Expr:
    if lanes == row.lanes:
        return row.value
    return vector.shuffle([row.value], range(start, start + lanes))


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


def _saturated8(isa: Isa, registers: list[Expr]) -> Expr:
    """int32 -> int8, four registers to one; the instructions leave 32-bit pieces interleaved."""
    assert isa.packs is not None
    blocks = isa.lanes // 4
    order = [block * 4 + number for number in range(4) for block in range(blocks)]
    done = []
    for i in range(0, len(registers), 4):
        halves = [_pair(isa, registers[j], registers[j + 1]) for j in (i, i + 2)]
        mixed = vector.intrinsic(isa.packs[1], "int8", isa.bytes, *halves)
        pieces = vector.reinterpret(mixed, "int32", isa.lanes)
        done.append(vector.reinterpret(vector.shuffle([pieces], order), "int8", isa.bytes))
    return vector.concat(done, isa.bytes)


def _saturated16(isa: Isa, registers: list[Expr]) -> Expr:
    """int32 -> int16, two registers to one; the instruction leaves 64-bit pieces interleaved."""
    blocks = isa.lanes // 4
    order = [block * 2 + number for number in range(2) for block in range(blocks)]
    done = []
    for i in range(0, len(registers), 2):
        mixed = _pair(isa, registers[i], registers[i + 1])
        pieces = vector.reinterpret(mixed, "int64", isa.lanes // 2)
        done.append(vector.reinterpret(vector.shuffle([pieces], order), "int16", isa.lanes * 2))
    return vector.concat(done, isa.lanes * 2)


def _pair(isa: Isa, a: Expr, b: Expr) -> Expr:
    assert isa.packs is not None
    return vector.intrinsic(isa.packs[0], "int16", isa.lanes * 2, a, b)
