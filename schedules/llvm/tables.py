"""Lookups of whole rows: by permutations of registers where those reach, else entry by entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schedules.llvm import vector
from schedules.llvm.arithmetic import permuted
from schedules.llvm.isa import Isa
from schedules.llvm.row import Packed, Row, Rows, Words
from schedules.llvm.stages import Lookup
from schedules.llvm.vector import Buffer, Expr
from schedules.rule import Array

_BYTES = 256
_STEPS = 16
_MIDDLE = _BYTES * _STEPS // 2
_MOST_TABLES = 9


class Table(Protocol):
    """A lookup: the constant it reads, and its code."""

    @property
    def constant(self) -> Array:
        """What the kernel gets as a table."""
        ...

    def look(self, rows: Rows, row: Row, buffer: Buffer) -> Row:
        """The entries of ``row``; ``buffer`` holds the constant."""
        ...


def table_of(isa: Isa, stage: Lookup, table: Array) -> Table:
    """The fastest code for a table on an instruction set."""
    if not isa.permute or table.dtype not in (np.int8, np.int16):
        return Gathered(stage.low, table)
    if -128 <= stage.low <= 128 - len(table):
        return (
            _ByteTable(_by_byte(stage.low, table))
            if table.dtype == np.int8
            else _word_table(stage.low, table)
        )
    stepped = _stepped_table(stage.low, table)
    return Gathered(stage.low, table) if stepped is None else stepped


def _by_byte(low: int, table: Array) -> Array:
    """Entries in the order of the index's byte read without sign."""
    ordered = np.zeros(_BYTES, table.dtype)
    ordered[(low + np.arange(len(table))) & (_BYTES - 1)] = table
    return ordered


@dataclass(frozen=True, eq=False)
class Gathered:
    """Any table: one load an entry."""

    low: int
    constant: Array

    def look(self, rows: Rows, row: Row, buffer: Buffer) -> Row:
        """See ``Table``."""
        lanes = rows.isa.lanes
        low = vector.constant(self.low, "int32", lanes)
        entries = [vector.gather(buffer, register - low) for register in rows.words(row)]
        return Words(tuple(vector.bind(vector.cast(e, "int32", lanes)) for e in entries))


@dataclass(frozen=True, eq=False)
class _ByteTable:
    """int8 to int8: 256 bytes in four registers."""

    constant: Array

    def look(self, rows: Rows, row: Row, buffer: Buffer) -> Row:
        index = rows.packed(row, "int8")
        found = _permuted(rows.isa, index.value, index.lanes, buffer, 0)
        return _first(found, "int8", index.lanes)


@dataclass(frozen=True, eq=False)
class _WordTable:
    """int8 to int16: the lower and the upper bytes apart, 256 each."""

    constant: Array

    def look(self, rows: Rows, row: Row, buffer: Buffer) -> Row:
        index = rows.packed(row, "int8")
        size = rows.isa.bytes
        parts = [_permuted(rows.isa, index.value, index.lanes, buffer, i) for i in range(2)]
        order = [i + part * size for i in range(size) for part in range(2)]
        words = vector.reinterpret(vector.shuffle(parts, order), "int16", size)
        return _first(vector.bind(words), "int16", index.lanes)


def _word_table(low: int, table: Array) -> _WordTable:
    ordered = np.ascontiguousarray(_by_byte(low, table)).view(np.int8).reshape(_BYTES, 2)
    return _WordTable(np.ascontiguousarray(ordered.T.reshape(-1)))


@dataclass(frozen=True, eq=False)
class _SteppedTable:
    """Up to 4,096 int8 entries that seldom change from one to the next.

    Sixteen neighbours start from one of 256 bytes and step up or down by one wherever the index
    passes a place; further tables say where. It is the table itself, in another form. Indices
    count from ``middle``, so that the numbers of groups are signed bytes.
    """

    middle: int
    ups: int
    downs: int
    constant: Array

    def look(self, rows: Rows, row: Row, buffer: Buffer) -> Row:
        isa, size = rows.isa, rows.isa.bytes
        count = len(rows.words(row)) if isinstance(row, Words) else row.lanes // isa.lanes
        half = isa.lanes * 2
        middle = vector.constant(self.middle, "int16", half)
        index = [vector.bind(pair - middle) for pair in rows.pairs(row)]
        shift, rest = (vector.constant(n, "int16", half) for n in (4, _STEPS - 1))
        group = vector.bind(rows.joined([i >> shift for i in index]))
        step = vector.bind(rows.joined([i & rest for i in index]))
        found = _permuted(isa, group, size, buffer, 0)
        for number in range(1, 1 + self.ups + self.downs):
            place = _permuted(isa, group, size, buffer, number)
            change = vector.constant(1 if number <= self.ups else -1, "int8", size)
            found = vector.bind(vector.select(step >= place, found + change, found))
        return _first(found, "int8", count * isa.lanes)


def _stepped_table(low: int, table: Array) -> _SteppedTable | None:
    """The table as steps; None where it has too many entries, or steps."""
    middle, info = low + _MIDDLE, np.iinfo(np.int16)
    if table.dtype != np.int8 or len(table) > 2 * _MIDDLE:
        return None
    if low < info.min or max(middle, low + len(table) - 1) > info.max:
        return None
    padded = np.full(_BYTES * _STEPS, table[-1], np.int64)
    padded[: len(table)] = table
    groups = padded.reshape(_BYTES, _STEPS)
    changes = np.diff(groups, axis=1)
    ups = int(np.maximum(changes, 0).sum(axis=1).max())
    downs = int(np.maximum(-changes, 0).sum(axis=1).max())
    if 1 + ups + downs > _MOST_TABLES:
        return None
    tables = [groups[:, 0], *_places(changes, ups), *_places(-changes, downs)]
    ordered = [_by_byte(-(_BYTES // 2), t.astype(np.int8)) for t in tables]
    return _SteppedTable(middle, ups, downs, np.concatenate(ordered))


def _places(changes: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """Where each group changes by one for the first time, the second time and so on."""
    places = np.full((count, _BYTES), _STEPS, np.int64)
    for group, row in enumerate(np.maximum(changes, 0)):
        steps = np.repeat(np.arange(1, _STEPS), row)
        places[: len(steps), group] = steps
    return list(places)


def _permuted(isa: Isa, index: Expr, lanes: int, buffer: Buffer, number: int) -> Expr:
    """Bytes of table ``number`` in ``buffer`` for each of ``lanes`` bytes, in a whole register."""
    size = isa.bytes
    start = number * _BYTES
    registers = [vector.load(buffer, start + size * i, size) for i in range(_BYTES // size)]
    filled = vector.concat([index] * (size // lanes), lanes)
    return vector.bind(permuted(filled, registers, isa.permute))


def _first(value: Expr, dtype: str, lanes: int) -> Packed:
    """A row of the first ``lanes`` of a register's worth of bytes."""
    power = 1 << (lanes - 1).bit_length()
    if power == 64:
        return Packed(value, dtype, power)
    return Packed(vector.shuffle([value], range(power)), dtype, power)


def tables_of(isa: Isa, stages: Sequence[object], tables: Sequence[Array]) -> list[Table]:
    """The code of every lookup among the stages, in order."""
    lookups = [stage for stage in stages if isinstance(stage, Lookup)]
    return [table_of(isa, stage, tables[stage.table]) for stage in lookups]
