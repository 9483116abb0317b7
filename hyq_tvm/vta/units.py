"""The units of a device: who executes an instruction, and which token queues it touches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hyq_tvm.vta.isa.table import BY_OPCODE, COMMON, REGISTERS, SET, UNITS

TOKEN_QUEUES = tuple(pair for a, b in pairwise(UNITS) for pair in ((a, b), (b, a)))
"""``(from, to)`` of each token queue."""

FIRST_FLAG, FLAGS_END = 1, len(COMMON)
"""The columns of the token flags in a decoded row."""

_AFTER = dict(pairwise(UNITS))
_BEFORE = {after: before for before, after in _AFTER.items()}
_COLUMNS = {field.name: index for index, field in enumerate(COMMON)}
_UNIT_OF_OPCODE = {code: form.unit for code, form in BY_OPCODE.items()}
_UNIT_OF_REGISTER = [register.unit for register in REGISTERS]
_REGISTER = SET.columns["register"]


def unit_of_row(row: Sequence[int]) -> str:
    """The unit that executes a decoded instruction."""
    return _UNIT_OF_REGISTER[row[_REGISTER]] if row[0] == SET.opcode else _UNIT_OF_OPCODE[row[0]]


def pops(unit: str, row: Sequence[int]) -> list[tuple[str, str]]:
    """The token queues that an instruction takes from."""
    return [(other, unit) for other in _partners(unit, row, "pop")]


def pushes(unit: str, row: Sequence[int]) -> list[tuple[str, str]]:
    """The token queues that an instruction gives to."""
    return [(unit, other) for other in _partners(unit, row, "push")]


def _partners(unit: str, row: Sequence[int], verb: str) -> list[str]:
    result = []
    if row[_COLUMNS[f"{verb}_prev"]]:
        result.append(_BEFORE[unit])
    if row[_COLUMNS[f"{verb}_next"]]:
        result.append(_AFTER[unit])
    return result
