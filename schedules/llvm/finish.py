"""Code of an epilogue: rows of int32 registers in, the operator's results out to memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedules.llvm import vector
from schedules.llvm.arithmetic import permuted, requantize_narrow, requantize_wide, scaled
from schedules.llvm.isa import Isa
from schedules.llvm.row import Packed, Row, Rows, Words
from schedules.llvm.stages import Add, Epilogue, Lookup, Requantize, Stage
from schedules.llvm.vector import Buffer, Expr
from schedules.rule import Array, Constant

_BYTES = 256


class Finisher:
    """Emits an epilogue.

    channels: of every lane of every register of channels its channel, -1 where there is none.
    mixed: see ``schedules.llvm.row.Rows``.
    """

    def __init__(
        self, isa: Isa, epilogue: Epilogue, channels: NDArray[np.integer[Any]], mixed: int = 0
    ) -> None:
        self._isa = isa
        self._epilogue = epilogue
        self._channels = channels
        self._rows = Rows(isa, mixed)
        self._constants: Buffer = None
        self._tables: Sequence[Buffer] = ()
        self._others: Sequence[Buffer] = ()
        self._out: Buffer = None

    @property
    def arguments(self) -> list[int | Constant]:
        """What it adds to a kernel's arguments, in the order of ``bind``."""
        lookups = [s for s in self._epilogue.stages if isinstance(s, Lookup)]
        tables = [Constant(self._table(s)) for s in lookups]
        return [Constant(self._packed_constants()), *tables, *self._epilogue.others]

    def _packed_constants(self) -> Array:
        """``[registers, rows, lanes]``; lanes without a channel get shifts of 1."""
        values = self._epilogue.constants[:, self._channels]
        values = np.where(self._channels < 0, np.int32(1), values)
        ordered = values.reshape(self._epilogue.rows, -1, self._isa.lanes).swapaxes(0, 1)
        return np.ascontiguousarray(ordered)

    def _table(self, stage: Lookup) -> Array:
        table = self._epilogue.tables[stage.table]
        if not self._permutes(stage):
            return table
        by_byte = np.zeros(_BYTES, table.dtype)
        by_byte[(stage.low + np.arange(len(table))) & (_BYTES - 1)] = table
        return by_byte

    def _permutes(self, stage: Lookup) -> bool:
        """Whether the table is read by permutations of registers."""
        table = self._epilogue.tables[stage.table]
        small = table.dtype == np.int8 and len(table) <= _BYTES
        return bool(self._isa.permute) and small and -128 <= stage.low <= 128 - len(table)

    def bind(self, buffers: Sequence[Buffer], out: Buffer) -> None:
        """The kernel's buffers of ``arguments``, and its output."""
        tables = len(self._epilogue.tables)
        self._constants = buffers[0]
        self._tables, self._others = buffers[1 : 1 + tables], buffers[1 + tables :]
        self._out = out

    def start(self, register: Expr) -> Expr:
        """Where the accumulators of a register of channels start."""
        return self._constant(register, 0)

    def _constant(self, register: Expr, field: int) -> Expr:
        lanes = self._isa.lanes
        offset = (register * self._epilogue.rows + field) * lanes
        return vector.bind(vector.load(self._constants, offset, lanes))

    def finish(
        self,
        totals: Sequence[Sequence[Expr]],
        first: Expr,
        offsets: Sequence[Expr],
        valid: int,
    ) -> None:
        """Stores the rows ``totals[row][register]``.

        first: number of their first register of channels. offsets: where in the output each row's
        first channel is. valid: how many channels to store; the rest is padding.
        """
        stages = self._epilogue.stages
        rows: list[Row] = [Words(tuple(registers)) for registers in totals]
        if stages and isinstance(stages[0], Requantize):
            rows = self._requantize(rows, stages[0], first)
            stages = stages[1:]
        for row, offset in zip(rows, offsets, strict=True):
            for stage in stages:
                row = self._apply(row, stage, first, offset, valid)
            self._rows.store(row, self._epilogue.dtype, self._out, offset, valid)

    def _apply(self, row: Row, stage: Stage, first: Expr, offset: Expr, valid: int) -> Row:
        if isinstance(stage, Requantize):
            return self._requantize([row], stage, first)[0]
        if isinstance(stage, Lookup):
            return self._lookup(row, stage)
        return self._add(row, stage, first, offset, valid)

    def _requantize(self, rows: Sequence[Row], stage: Requantize, first: Expr) -> list[Row]:
        """Column by column, so that a column's constants stay in registers for all rows."""
        values = [self._rows.words(row) for row in rows]
        done: list[list[Expr]] = [[] for _ in rows]
        for column in range(len(values[0])):
            scale = self._scale(stage, first + column)
            for i, registers in enumerate(values):
                done[i].append(vector.bind(scale(registers[column])))
        return [Words(tuple(registers), (stage.low, stage.high)) for registers in done]

    def _scale(self, stage: Requantize, register: Expr) -> Callable[[Expr], Expr]:
        lanes, fields = self._isa.lanes, 3 if stage.narrow else 2
        rows = [self._constant(register, stage.field + i) for i in range(fields)]
        if stage.narrow:
            return lambda v: requantize_narrow(v, rows[0], rows[1], rows[2], stage.pre_shift, lanes)
        limits = (stage.zero_point, stage.low, stage.high)
        return lambda v: requantize_wide(v, rows[0], rows[1], *limits, lanes)

    def _lookup(self, row: Row, stage: Lookup) -> Row:
        table = self._tables[stage.table]
        if self._permutes(stage):
            index = self._rows.packed(row, "int8")
            return Packed(self._permuted(index, table), "int8", index.lanes)
        lanes = self._isa.lanes
        low = vector.constant(stage.low, "int32", lanes)
        entries = [vector.gather(table, r - low) for r in self._rows.words(row)]
        return Words(tuple(vector.bind(vector.cast(e, "int32", lanes)) for e in entries))

    def _permuted(self, index: Packed, table: Buffer) -> Expr:
        size = self._isa.bytes
        registers = [vector.load(table, size * i, size) for i in range(_BYTES // size)]
        filled = vector.concat([index.value] * (size // index.lanes), index.lanes)
        found = vector.bind(permuted(filled, registers, self._isa.permute))
        return found if index.lanes == size else vector.shuffle([found], range(index.lanes))

    def _add(self, row: Row, stage: Add, first: Expr, offset: Expr, valid: int) -> Row:
        values = self._rows.words(row)
        others = self._other(stage, offset, valid, len(values))
        if not stage.plain:
            others = [self._scaled(o, stage, first + i) for i, o in enumerate(others)]
        totals = [vector.bind(v + o) for v, o in zip(values, others, strict=True)]
        return Words(tuple(totals), (stage.low, stage.high))

    def _scaled(self, other: Expr, stage: Add, register: Expr) -> Expr:
        multiplier, rounding, shift = (self._constant(register, stage.field + i) for i in range(3))
        return scaled(other, multiplier, rounding, shift, stage.wide, self._isa.lanes)

    def _other(self, stage: Add, offset: Expr, valid: int, registers: int) -> Sequence[Expr]:
        """What an ``Add`` reads, as int32 registers; lanes behind the row repeat its end."""
        lanes, parts = self._isa.lanes, []
        for i in range(registers):
            left = max(1, valid - i * lanes)
            start = offset + min(i * lanes, valid - 1)
            buffer = self._others[stage.other]
            parts.append(vector.load_some(buffer, start, lanes, left, stage.other_dtype))
        joined = Packed(vector.concat(parts, lanes), stage.other_dtype, registers * lanes)
        return self._rows.words(joined)
