"""Code of an epilogue: rows of int32 registers in, the operator's results out to memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedules.llvm import vector
from schedules.llvm.arithmetic import requantize_narrow, requantize_wide, scaled
from schedules.llvm.isa import Isa
from schedules.llvm.row import Packed, Row, Rows, Words
from schedules.llvm.stages import Add, Epilogue, Lookup, Requantize, Stage
from schedules.llvm.tables import tables_of
from schedules.llvm.vector import Buffer, Expr
from schedules.rule import Array, Constant

_WIDTH = 4


@dataclass(frozen=True)
class _Line:
    """A row on its way to ``offset``; columns: its registers of channels."""

    row: Row
    columns: Sequence[Expr]
    offset: Expr
    valid: int


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
        self._lookups = tables_of(isa, epilogue.stages, epilogue.tables)
        self._constants: Buffer = None
        self._tables: Sequence[Buffer] = ()
        self._others: Sequence[Buffer] = ()
        self._out: Buffer = None

    @property
    def arguments(self) -> list[int | Constant]:
        """What it adds to a kernel's arguments, in the order of ``bind``."""
        tables = [Constant(table.constant) for table in self._lookups]
        return [Constant(self._packed_constants()), *tables, *self._epilogue.others]

    def _packed_constants(self) -> Array:
        """``[registers, rows, lanes]``; lanes without a channel get shifts of 1."""
        values = self._epilogue.constants[:, self._channels]
        values = np.where(self._channels < 0, np.int32(1), values)
        ordered = values.reshape(self._epilogue.rows, -1, self._isa.lanes).swapaxes(0, 1)
        return np.ascontiguousarray(ordered)

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
        adjacent: bool = False,
    ) -> None:
        """Stores the rows ``totals[row][register]``.

        first: number of their first register of channels. offsets: where in the output each row's
        first channel is. valid: how many channels to store; the rest is padding. adjacent: rows
        lie one behind the other in the output.
        """
        columns = [first + i for i in range(len(totals[0]))]
        rows: list[Row] = [Words(tuple(registers)) for registers in totals]
        stages = self._epilogue.stages
        if stages and isinstance(stages[0], Requantize):
            rows = self._requantize(rows, stages[0], columns)
            stages = stages[1:]
        lines = [_Line(r, columns, o, valid) for r, o in zip(rows, offsets, strict=True)]
        for line in self._joined(lines) if adjacent else lines:
            row = line.row
            for stage in stages:
                row = self._apply(row, stage, line)
            self._rows.store(row, self._epilogue.dtype, self._out, line.offset, line.valid)

    def _joined(self, lines: Sequence[_Line]) -> list[_Line]:
        """Adjacent lines as lines of four registers, which narrow and look up at once."""
        lanes, width = self._isa.lanes, len(lines[0].columns)
        if self._rows.mixed or lines[0].valid != width * lanes:
            return list(lines)
        bounds = [line.row.bounds for line in lines if isinstance(line.row, Words)]
        cells = [
            (register, column, line.offset + i * lanes)
            for line in lines
            if isinstance(line.row, Words)
            for i, (register, column) in enumerate(
                zip(line.row.registers, line.columns, strict=True)
            )
        ]
        joined = []
        for start in range(0, len(cells), _WIDTH):
            registers, columns, offsets = zip(*cells[start : start + _WIDTH], strict=True)
            row = Words(registers, bounds[0])
            joined.append(_Line(row, columns, offsets[0], len(registers) * lanes))
        return joined

    def _apply(self, row: Row, stage: Stage, line: _Line) -> Row:
        if isinstance(stage, Requantize):
            return self._requantize([row], stage, line.columns)[0]
        if isinstance(stage, Lookup):
            return self._lookups[stage.table].look(self._rows, row, self._tables[stage.table])
        return self._add(row, stage, line)

    def _requantize(
        self, rows: Sequence[Row], stage: Requantize, columns: Sequence[Expr]
    ) -> list[Row]:
        """Column by column, so that a column's constants stay in registers for all rows."""
        values = [self._rows.words(row) for row in rows]
        done: list[list[Expr]] = [[] for _ in rows]
        for number, column in enumerate(columns):
            scale = self._scale(stage, column)
            for i, registers in enumerate(values):
                done[i].append(vector.bind(scale(registers[number])))
        return [Words(tuple(registers), (stage.low, stage.high)) for registers in done]

    def _scale(self, stage: Requantize, register: Expr) -> Callable[[Expr], Expr]:
        lanes, fields = self._isa.lanes, 3 if stage.narrow else 2
        rows = [self._constant(register, stage.field + i) for i in range(fields)]
        if stage.narrow:
            return lambda v: requantize_narrow(v, rows[0], rows[1], rows[2], stage.pre_shift, lanes)
        limits = (stage.zero_point, stage.low, stage.high)
        return lambda v: requantize_wide(v, rows[0], rows[1], *limits, lanes)

    def _add(self, row: Row, stage: Add, line: _Line) -> Row:
        values = self._rows.words(row)
        others = self._other(stage, line, len(values))
        if not stage.plain:
            others = [
                self._scaled(o, stage, column)
                for o, column in zip(others, line.columns, strict=True)
            ]
        totals = [vector.bind(v + o) for v, o in zip(values, others, strict=True)]
        return Words(tuple(totals), (stage.low, stage.high))

    def _scaled(self, other: Expr, stage: Add, register: Expr) -> Expr:
        multiplier, rounding, shift = (self._constant(register, stage.field + i) for i in range(3))
        return scaled(other, multiplier, rounding, shift, stage.wide, self._isa.lanes)

    def _other(self, stage: Add, line: _Line, registers: int) -> Sequence[Expr]:
        """What an ``Add`` reads, as int32 registers; lanes behind the row repeat its end."""
        lanes, parts = self._isa.lanes, []
        for i in range(registers):
            left = max(1, line.valid - i * lanes)
            start = line.offset + min(i * lanes, line.valid - 1)
            buffer = self._others[stage.other]
            parts.append(vector.load_some(buffer, start, lanes, left, stage.other_dtype))
        joined = Packed(vector.concat(parts, lanes), stage.other_dtype, registers * lanes)
        return self._rows.words(joined)
