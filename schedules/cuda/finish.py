"""Code of an epilogue for one thread: 32-bit sums in registers, the operator's results out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import tirx

from schedules.cuda import words
from schedules.cuda.words import Buffer, Expr
from schedules.llvm.stages import Add, Epilogue, Lookup, Requantize, Stage
from schedules.rule import Array, Constant

_BYTES = {"int8": 1, "uint8": 1, "int16": 2, "int32": 4}


class Finisher:
    """Emits an epilogue of ``schedules.llvm.stages`` for neighbouring channels.

    channels: what to pad the constants to, so that threads beyond the last channel read them too.
    """

    def __init__(self, epilogue: Epilogue, channels: int) -> None:
        self._epilogue = epilogue
        self._channels = channels
        self._constants: Buffer = None
        self._tables: Sequence[Buffer] = ()
        self._others: Sequence[Buffer] = ()
        self._out: Buffer = None

    @property
    def arguments(self) -> list[int | Constant]:
        """What it adds to a kernel's arguments, in the order of ``bind``."""
        tables = [Constant(table) for table in self._epilogue.tables]
        return [Constant(self._padded()), *tables, *self._epilogue.others]

    def _padded(self) -> Array:
        rows = self._epilogue.constants
        padded = np.ones((len(rows), self._channels), np.int32)
        padded[:, : rows.shape[1]] = rows
        return padded

    def bind(self, buffers: Sequence[Buffer], out: Buffer) -> None:
        """The kernel's buffers of ``arguments``, and its output."""
        tables = len(self._epilogue.tables)
        self._constants = buffers[0]
        self._tables, self._others = buffers[1 : 1 + tables], buffers[1 + tables :]
        self._out = out

    def start(self, channel: Expr) -> Expr:
        """Where the sum of a channel starts."""
        return self._constant(0, channel)

    def _constant(self, row: int, channel: Expr) -> Expr:
        return self._constants[row * self._channels + channel]

    def finish(
        self,
        sums: Sequence[Sequence[Expr]],
        channel: Expr,
        places: Sequence[Expr],
        inside: Sequence[Expr],
        count: Callable[[int], Expr],
        whole: bool,
    ) -> None:
        """Stores the rows ``sums[row][channel]``.

        channel: the first. places: where in the output each row's first channel is. inside:
        whether a row exists. count(i): whether channel i does; whole: whether all do or none, and
        places are multiples of their number.
        """
        stages = self._epilogue.stages
        for values, place, exists in zip(sums, places, inside, strict=True):
            with words.when(words.every(exists, count(0))):
                done = list(values)
                for stage in stages:
                    done = self._apply(done, stage, channel, place, whole)
                self._store(done, place, count, whole)

    def _apply(
        self, values: list[Expr], stage: Stage, channel: Expr, place: Expr, whole: bool
    ) -> list[Expr]:
        if isinstance(stage, Requantize):
            return [self._requantized(v, stage, channel + i) for i, v in enumerate(values)]
        if isinstance(stage, Lookup):
            table = self._tables[stage.table]
            return [words.bind(words.cast(table[v - stage.low], "int32")) for v in values]
        others = self._loaded(stage, place, len(values), whole)
        return [
            words.bind(words.clip(v + self._scaled(o, stage), stage.low, stage.high))
            for v, o in zip(values, others, strict=True)
        ]

    def _requantized(self, v: Expr, stage: Requantize, channel: Expr) -> Expr:
        m, second = (self._constant(stage.field + i, channel) for i in range(2))
        if stage.narrow:
            shifted = v << words.const(stage.pre_shift) if stage.pre_shift else v
            high = words.value("hyq_high_product", shifted, m)
            scaled = (high + second) >> self._constant(stage.field + 2, channel)
            return words.bind(words.clip(scaled, stage.low, stage.high))
        wide = words.value("hyq_requantize", v, m, second, dtype="int64")
        moved = wide + words.const(stage.zero_point, "int64")
        return words.bind(words.cast(words.clip(moved, stage.low, stage.high, "int64"), "int32"))

    def _scaled(self, other: Expr, stage: Add) -> Expr:
        if stage.plain:
            return other
        m, rounding, shift = self._factors(stage)
        if stage.wide:
            wide = words.cast(other, "int64") * words.const(m, "int64")
            moved = (wide + words.const(rounding, "int64")) >> words.const(shift, "int64")
            return words.cast(moved, "int32")
        return (other * words.const(m) + words.const(rounding)) >> words.const(shift)

    def _factors(self, stage: Add) -> tuple[int, int, int]:
        """Equal for all channels."""
        rows = self._epilogue.constants[stage.field : stage.field + 3]
        return int(rows[0, 0]), int(rows[1, 0]), int(rows[2, 0])

    def _loaded(self, stage: Add, place: Expr, count: int, whole: bool) -> list[Expr]:
        """What an ``Add`` reads; the channels behind the last one repeat it."""
        buffer = self._others[stage.other]
        size = _BYTES[stage.other_dtype]
        if whole and count * size in (4, 8, 16):
            words_read = words.local(count * size // 4)
            name = f"hyq_read_{count * size}"
            words.call(name, words.at(words_read, 0), words.at(buffer, place))
            return [_part(words_read, i, size) for i in range(count)]
        last = buffer.shape[0] - 1
        return [words.cast(buffer[_least(place + i, last)], "int32") for i in range(count)]

    def _store(
        self, values: Sequence[Expr], place: Expr, count: Callable[[int], Expr], whole: bool
    ) -> None:
        dtype = self._epilogue.dtype
        size = _BYTES[dtype] * len(values)
        if whole and size in (4, 8, 16):
            packed = _packed(values, _BYTES[dtype])
            words.call(f"hyq_write_{size}", words.at(self._out, place), *packed)
            return
        for i, v in enumerate(values):
            with words.when(count(i)):
                words.store(self._out, place + i, words.cast(v, dtype))


def _part(buffer: Buffer, index: int, size: int) -> Expr:
    """One signed element of ``size`` bytes among words."""
    word, offset = divmod(index * size, 4)
    if size == 4:
        return buffer[word]
    left = 32 - 8 * (offset + size)
    shifted = buffer[word] << words.const(left) if left else buffer[word]
    return shifted >> words.const(32 - 8 * size)


def _packed(values: Sequence[Expr], size: int) -> list[Expr]:
    """Elements of ``size`` bytes in words."""
    if size == 4:
        return list(values)
    each = 4 // size
    name = "hyq_pack" if size == 1 else "hyq_pack_pair"
    groups = [values[i : i + each] for i in range(0, len(values), each)]
    return [words.value(name, *group) for group in groups]


def _least(index: Expr, limit: Any) -> Expr:
    return tirx.min(index, limit)
