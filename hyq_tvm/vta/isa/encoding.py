"""Instructions as records, as 128-bit words, and as rows of a decoded program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import DeviceProgramError
from hyq_tvm.vta.faults import FaultCode, StreamError
from hyq_tvm.vta.isa.records import WORD_BITS, Field, Format, Placed
from hyq_tvm.vta.isa.table import (
    BY_NAME,
    BY_OPCODE,
    FLAT,
    FORMATS,
    FUNCTIONS,
    IMMEDIATE_FUNCTIONS,
    MATRICES,
    MAX_STEPS,
    MEMORY,
    OPCODE_BITS,
    OPERAND,
    REGISTER,
    REGISTERS,
    RESULT,
    STATISTICS,
    STORABLE,
    TARGET,
    UOP,
    neighbours,
)

Words = NDArray[np.uint64]
Rows = NDArray[np.int64]

COLUMNS = max(len(f.fields) for f in FORMATS)
"""Width of a decoded row; an instruction's fields come first, zeros follow."""

_HALF = WORD_BITS // 2
_IMMEDIATE_CODES = frozenset(
    code for code, f in enumerate(FUNCTIONS) if f.name in IMMEDIATE_FUNCTIONS
)


@dataclass(frozen=True)
class Instruction:
    """``name`` of ``table.FORMATS`` and the fields that are not 0; enumerations by code."""

    name: str
    fields: Mapping[str, int] = field(default_factory=dict)

    @property
    def format(self) -> Format:
        """The row of the instruction table."""
        return BY_NAME[self.name]

    def __getitem__(self, name: str) -> int:
        return self.fields.get(name, 0)


def instruction(name: str, **fields: int | str) -> Instruction:
    """An instruction; enumerations may be given by name, omitted fields are 0.

    Raises ``DeviceProgramError`` on unknown names and values that do not fit.
    """
    if name not in BY_NAME:
        raise DeviceProgramError(f"unknown instruction {name!r}; known: {list(BY_NAME)}")
    form = BY_NAME[name]
    known = {f.name: f for f in form.fields}
    unknown = set(fields) - set(known)
    if unknown:
        raise DeviceProgramError(f"{name} has no fields {sorted(unknown)}; it has {list(known)}")
    values = {key: _code(known[key], value) for key, value in fields.items()}
    made = Instruction(name, {**values, "opcode": form.opcode})
    check(made)
    return made


def _code(form: Field, value: int | str) -> int:
    if not isinstance(value, str):
        return int(value)
    if form.choices is None or value not in form.choices.by_name:
        choices = list(form.choices.by_name) if form.choices else "numbers"
        raise DeviceProgramError(f"{form.name}={value!r}: choose one of {choices}")
    return form.choices[value]


def check(made: Instruction) -> None:
    """Raises ``DeviceProgramError`` unless every field is legal by itself and beside the others."""
    for form in made.format.fields:
        value = made[form.name]
        if form.name == "opcode":
            continue
        if not form.low <= value <= form.high:
            raise DeviceProgramError(
                f"{made.name}: {form.name}={value} is outside {form.low}..{form.high}"
            )
        if form.choices is not None and value not in form.choices.by_code:
            raise DeviceProgramError(f"{made.name}: {form.name}={value} is not one of its choices")
    _check_tokens(made)
    _CHECKS.get(made.name, _nothing)(made)


def unit_of(made: Instruction) -> str:
    """The unit that executes an instruction."""
    if made.name == "SET":
        return REGISTERS[made["register"]].unit
    return made.format.unit


def _check_tokens(made: Instruction) -> None:
    before, after = neighbours(unit_of(made))
    for side, present in (("prev", before), ("next", after)):
        if not present and (made[f"pop_{side}"] or made[f"push_{side}"]):
            raise DeviceProgramError(f"{made.name}: its unit has no neighbour {side!r}")


def _nothing(_: Instruction) -> None:
    return None


def _check_load(made: Instruction) -> None:
    kind = MEMORY.by_code[made["memory"]].name
    pads = [made[f"pad_{side}"] for side in ("top", "bottom", "left", "right")]
    if any(pads) and (kind in FLAT or kind in MATRICES):
        raise DeviceProgramError(f"LOAD of {kind} takes no padding")


def _check_store(made: Instruction) -> None:
    kind = MEMORY.by_code[made["memory"]].name
    if kind not in STORABLE:
        raise DeviceProgramError(f"STORE from {kind}: only {list(STORABLE)} can be stored")


def _check_loops(made: Instruction) -> None:
    if made["uop_end"] <= made["uop_begin"]:
        raise DeviceProgramError(
            f"{made.name}: micro-ops {made['uop_begin']}..{made['uop_end']} are none"
        )
    steps = made["iter_out"] * made["iter_in"] * (made["uop_end"] - made["uop_begin"])
    if steps > MAX_STEPS:
        raise DeviceProgramError(f"{made.name}: {steps} steps, {MAX_STEPS} is the limit")


def _check_vector(made: Instruction) -> None:
    _check_loops(made)
    function = FUNCTIONS[made["op"]]
    if made["operand"] != OPERAND["ACC"] and made["op"] not in _IMMEDIATE_CODES:
        raise DeviceProgramError(f"VECTOR {function.name} reads an accumulator entry only")
    fixed = function.kind == "binary" or function.name in STATISTICS
    if made["target"] != TARGET["ACC"] and fixed:
        raise DeviceProgramError(f"VECTOR {function.name} writes accumulators only")


def _check_softmax(made: Instruction) -> None:
    weights = made["result"] in (RESULT["WEIGHT"], RESULT["WEIGHT_WIDE"])
    if weights != (made["exponential"] == 0):
        raise DeviceProgramError(
            "SOFTMAX: the exponential WEIGHTS and the results WEIGHT, WEIGHT_WIDE belong together"
        )


def _check_set(made: Instruction) -> None:
    register = REGISTERS[made["register"]]
    if not register.low <= made["value"] <= register.high:
        raise DeviceProgramError(
            f"SET {register.name}={made['value']}: outside {register.low}..{register.high}"
        )


_CHECKS = {
    "LOAD": _check_load,
    "STORE": _check_store,
    "GEMM": _check_loops,
    "VECTOR": _check_vector,
    "SOFTMAX": _check_softmax,
    "SET": _check_set,
}


def word(made: Instruction) -> int:
    """The 128 bits of an instruction."""
    result = 0
    for placed in made.format.placed:
        mask = (1 << placed.field.bits) - 1
        result |= (made[placed.field.name] & mask) << placed.offset
    return result


def encode(program: Iterable[Instruction]) -> Words:
    """The words of a program, ``[N, 2]`` with the lower half first."""
    half = (1 << _HALF) - 1
    halves = [(value & half, value >> _HALF) for value in map(word, program)]
    return np.array(halves, dtype=np.uint64).reshape(-1, 2)


def decode(words: Words) -> Rows:
    """The fields of every instruction, int64 ``[N, COLUMNS]`` in the order of its format.

    Raises ``DeviceProgramError`` naming the first instruction that is not legal.
    """
    rows = np.zeros((len(words), COLUMNS), dtype=np.int64)
    opcodes = (words[:, 0] & np.uint64((1 << OPCODE_BITS) - 1)).astype(np.int64)
    legal = np.zeros(len(words), dtype=bool)
    for form in FORMATS:
        chosen = opcodes == form.opcode
        part = words[chosen]
        fields = np.stack([_extract(part, placed) for placed in form.placed], axis=1)
        rows[chosen, : fields.shape[1]] = fields
        legal[chosen] = ~_rest(part, form)
    if not legal.all():
        index = int(np.argmin(legal))
        problem = f"instruction {index}: {_illegal(int(opcodes[index]))}"
        raise StreamError(problem, FaultCode.ILLEGAL, index)
    _check_rows(rows)
    return rows


def _illegal(opcode: int) -> str:
    if opcode not in BY_OPCODE:
        return f"opcode {opcode} does not exist"
    form = BY_OPCODE[opcode]
    return f"{form.name} has bits set above its {form.used_bits}"


def _extract(words: Words, placed: Placed) -> Rows:
    offset, bits = placed.offset, placed.field.bits
    low, high = words[:, 0], words[:, 1]
    if offset >= _HALF:
        value = high >> np.uint64(offset - _HALF)
    elif offset + bits <= _HALF:
        value = low >> np.uint64(offset)
    else:
        value = (low >> np.uint64(offset)) | (high << np.uint64(_HALF - offset))
    if bits < _HALF:
        value = value & np.uint64((1 << bits) - 1)
    result = value.astype(np.int64)
    if placed.field.signed and bits < _HALF:
        result = np.where(result >= 1 << (bits - 1), result - (1 << bits), result)
    return result


def _rest(words: Words, form: Format) -> NDArray[np.bool_]:
    """Whether bits above the fields are set."""
    used = form.used_bits
    if used >= WORD_BITS:
        return np.zeros(len(words), dtype=bool)
    if used >= _HALF:
        return np.asarray((words[:, 1] >> np.uint64(used - _HALF)) != 0)
    return np.asarray(((words[:, 0] >> np.uint64(used)) | words[:, 1]) != 0)


def _check_rows(rows: Rows) -> None:
    """Distinct headers are checked once: programs repeat few of them."""
    seen: set[tuple[int, ...]] = set()
    for index, row in enumerate(rows.tolist()):
        key = tuple(row)
        if key in seen:
            continue
        seen.add(key)
        try:
            check(from_row(row))
        except DeviceProgramError as error:
            problem = f"instruction {index}: {error}"
            raise StreamError(problem, FaultCode.ILLEGAL, index) from error


def from_row(row: Sequence[Any]) -> Instruction:
    """The instruction of a decoded row."""
    form = BY_OPCODE[int(row[0])]
    names = (f.name for f in form.fields)
    return Instruction(form.name, {n: int(v) for n, v in zip(names, row, strict=False) if v})


def encode_uops(uops: Iterable[tuple[int, int, int]]) -> NDArray[np.uint32]:
    """Micro-ops ``(dst, src, third)`` as 32-bit words; raises ``DeviceProgramError``."""
    table = np.array(list(uops), dtype=np.int64).reshape(-1, len(UOP.fields))
    result = np.zeros(len(table), dtype=np.int64)
    for column, placed in enumerate(UOP.placed):
        values = table[:, column]
        if values.size and (values.min() < 0 or values.max() > placed.field.high):
            raise DeviceProgramError(
                f"micro-op {placed.field.name} {values.min()}..{values.max()} does not fit "
                f"{placed.field.bits} bits"
            )
        result |= values << placed.offset
    return result.astype(np.uint32)


def decode_uops(words: NDArray[np.uint32]) -> Rows:
    """``(dst, src, third)`` of each micro-op, int64 ``[N, 3]``."""
    wide = words.astype(np.int64)
    parts = [(wide >> p.offset) & p.field.high for p in UOP.placed]
    return np.stack(parts, axis=-1)


def register_code(name: str) -> int:
    """The code of a register."""
    return REGISTER[name]
