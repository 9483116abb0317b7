"""The compute unit cycle by cycle: how long its instructions take, and what they write when."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.vta.arch import VTAConfig
from hyq_tvm.vta.cycles import STEP_CYCLES, STREAM_GAP, VECTOR_PIPELINE, cost
from hyq_tvm.vta.isa.encoding import decode_uops
from hyq_tvm.vta.isa.table import FUNCTIONS, GEMM, RESULT, SOFTMAX, TARGET, UOP_FIELDS, VECTOR
from hyq_tvm.vta.nest import Uops, indices, starts
from hyq_tvm.vta.port import NO_BANK, Banks, Writes, bank
from hyq_tvm.vta.program import Program
from hyq_tvm.vta.transfer import Transfer

FIRST_WRITE = 6
"""Cycles from the start of a GEMM or VECTOR to its first write."""
LAST_WEIGHT = 2
"""Cycles from the last weights that SOFTMAX writes to its end."""

_UOP_BYTES = 4
_ITERATIVE = frozenset(code for code, f in enumerate(FUNCTIONS) if f.name in STEP_CYCLES)
_MOST_CYCLES = 1 << 17


class Computing:
    """Follows the micro-ops on chip, which say in which order entries are written."""

    def __init__(self, program: Program) -> None:
        self._config: VTAConfig = program.config
        self._image = program.image
        self._image_address = program.image_address
        self._uops: Uops = np.zeros((program.config.uop_entries, len(UOP_FIELDS)), np.int64)
        self._starts: dict[tuple[object, ...], NDArray[np.int64]] = {}

    def load_uops(self, move: Transfer) -> None:
        """A LOAD of micro-ops; those that the program's image does not hold count as zeros."""
        entry = move.sram
        for y in range(move.y):
            for x in range(move.x):
                words = self._words(move.dram + y * move.y_stride + x * move.x_stride, move.length)
                self._uops[entry : entry + move.length] = decode_uops(words)
                entry += move.length

    def _words(self, address: int, length: int) -> NDArray[np.uint32]:
        begin = address - self._image_address
        raw = np.zeros(length * _UOP_BYTES, np.uint8)
        found = self._image[max(begin, 0) : max(begin + raw.size, 0)]
        if begin >= 0:
            raw[: found.size] = found
        return raw.view("<u4")

    def cycles(self, row: Sequence[int]) -> int:
        """How long an instruction keeps the unit busy."""
        if row[0] != VECTOR.opcode or row[VECTOR.columns["op"]] in _ITERATIVE:
            return cost(row, (0, 0), self._config)
        return int(self._begins(row)[-1]) + 1 + VECTOR_PIPELINE

    def writes(self, row: Sequence[int], start: int, end: int) -> Writes | None:
        """What an instruction writes, if it writes often enough to hold a load up."""
        if row[0] == SOFTMAX.opcode:
            return self._weights(row, end)
        iterative = row[0] == VECTOR.opcode and row[VECTOR.columns["op"]] in _ITERATIVE
        if row[0] not in (GEMM.opcode, VECTOR.opcode) or iterative or end - start > _MOST_CYCLES:
            return None
        into_inputs = row[0] == VECTOR.opcode and row[VECTOR.columns["target"]] == TARGET["INP"]
        memory = "inp" if into_inputs else "acc"
        begins = self._begins(row)
        make = partial(_entry_banks, begins, indices(row, self._uops, 0), memory)
        first = start + FIRST_WRITE
        return Writes(memory, first, first + int(begins[-1]) + 1, make)

    def _begins(self, row: Sequence[int]) -> NDArray[np.int64]:
        columns = VECTOR.columns
        used = self._uops[row[columns["uop_begin"]] : row[columns["uop_end"]]]
        key = (*row, used.tobytes())
        if key not in self._starts:
            self._starts[key] = starts(row, self._uops)
        return self._starts[key]

    def _weights(self, row: Sequence[int], end: int) -> Writes | None:
        """Of a SOFTMAX that streams: the words of a row one after the other."""
        columns = SOFTMAX.columns
        rows, length, result = (row[columns[name]] for name in ("rows", "length", "result"))
        if result != RESULT["WEIGHT"] or row[columns["target"]] != TARGET["INP"]:
            return None
        words = -(-length // self._config.softmax_lanes)
        last = end - LAST_WEIGHT + 1
        make = partial(_word_banks, rows, words, self._config.block // self._config.softmax_lanes)
        return Writes("inp", last - rows * (words + STREAM_GAP) + STREAM_GAP, last, make)


def _entry_banks(begins: NDArray[np.int64], entries: NDArray[np.int64], memory: str) -> Banks:
    result = np.full(int(begins[-1]) + 1, NO_BANK, np.uint8)
    result[begins] = bank(entries) if memory == "acc" else 0
    return result


def _word_banks(rows: int, words: int, each: int) -> Banks:
    """An entry is written with the last of its ``each`` words."""
    row = np.full(words + STREAM_GAP, NO_BANK, np.uint8)
    row[each - 1 : words : each] = 0
    row[words - 1] = 0
    return np.tile(row, rows)[:-STREAM_GAP]
