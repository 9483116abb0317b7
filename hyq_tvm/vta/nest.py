"""The steps of a GEMM or VECTOR one by one: what they write, and how long they wait for each other.

A step reads its operands ``DEPTH`` cycles before the entry that it writes can be read: one that
reads what a step shortly before it writes has to wait.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.vta.cycles import steps
from hyq_tvm.vta.isa.table import FUNCTIONS, GEMM, OPERAND, TARGET, VECTOR

DEPTH = 4
"""Cycles from a step to the first one that can read its result."""
MOST_STEPS = 1 << 17
"""Longer nests write every entry many times over: they are taken to wait for nothing."""

Uops = NDArray[np.int64]
"""Micro-ops of a device: dst, src and third, ``[entries, 3]``."""

_NAMES = {GEMM.opcode: ("dst", "src", "wgt"), VECTOR.opcode: ("dst", "src", "third")}
_FORMS = {GEMM.opcode: GEMM, VECTOR.opcode: VECTOR}
_KINDS = {code: FUNCTIONS[code].kind for code in range(len(FUNCTIONS))}
_ROWS = frozenset(code for code, f in enumerate(FUNCTIONS) if f.third == "row")
_PASSED_ON = next(code for code, f in enumerate(FUNCTIONS) if f.name == "MOMENTS")


def indices(row: Sequence[int], uops: Uops, operand: int) -> NDArray[np.int64]:
    """The entry of each step: operand 0 is dst, 1 src, 2 the third; int64 ``[steps]``."""
    columns, name = _FORMS[row[0]].columns, _NAMES[row[0]][operand]
    y = np.arange(row[columns["iter_out"]])[:, None, None] * row[columns[f"{name}_out"]]
    x = np.arange(row[columns["iter_in"]])[:, None] * row[columns[f"{name}_in"]]
    chosen = uops[row[columns["uop_begin"]] : row[columns["uop_end"]], operand]
    return (y + x + chosen).reshape(-1)


def starts(row: Sequence[int], uops: Uops) -> NDArray[np.int64]:
    """When each step begins, counted from the first; int64 ``[steps]``."""
    count = steps(row)
    free = np.arange(count)
    if row[0] == GEMM.opcode or count > MOST_STEPS:
        return free
    before = _dependences(row, uops)
    return _delayed(before) if before.any() else free


def _dependences(row: Sequence[int], uops: Uops) -> NDArray[np.bool_]:
    """``[steps, DEPTH - 1]``: whether a step reads what the one ``d + 1`` before it writes."""
    columns = VECTOR.columns
    written = indices(row, uops, 0)
    result = np.zeros((written.size, DEPTH - 1), np.bool_)
    if row[columns["target"]] != TARGET["ACC"]:
        return result
    reads = _reads(row)
    for operand in reads:
        read = indices(row, uops, operand)
        for distance in range(1, min(DEPTH, written.size)):
            result[distance:, distance - 1] |= read[distance:] == written[:-distance]
    return result


def _reads(row: Sequence[int]) -> list[int]:
    """The operands that have to wait for accumulators."""
    op, operand = (row[VECTOR.columns[name]] for name in ("op", "operand"))
    result = []
    if _KINDS[op] == "binary" and op != _PASSED_ON:
        result.append(0)
    if operand == OPERAND["ACC"]:
        result.append(1)
    if op in _ROWS:
        result.append(2)
    return result


def _delayed(before: NDArray[np.bool_]) -> NDArray[np.int64]:
    result: list[int] = []
    for waits in before.tolist():
        earliest = result[-1] + 1 if result else 0
        for distance, needed in enumerate(waits, start=1):
            if needed:
                earliest = max(earliest, result[-distance] + DEPTH)
        result.append(earliest)
    return np.array(result, np.int64)
