"""Assembler text: one instruction a line, ``NAME field=value ...``; fields that are 0 are left out.

``#`` starts a comment. Enumerations are written by name, token flags by their bare name:

    LOAD pop_next memory=INP sram=0 dram=0x1000 y_size=1 x_size=16 length=64
"""

from __future__ import annotations

from collections.abc import Iterable

from hyq_tvm.errors import DeviceProgramError
from hyq_tvm.vta.isa.encoding import Instruction, Words, decode, from_row, instruction
from hyq_tvm.vta.isa.records import Field

_HIDDEN = "opcode"


def disassemble(made: Instruction) -> str:
    """The text of an instruction."""
    parts = [made.name]
    parts += [_part(f, made[f.name]) for f in made.format.fields if _shown(f, made[f.name])]
    return " ".join(parts)


def listing(words: Words) -> str:
    """The text of a program; raises ``DeviceProgramError`` on illegal words."""
    return "\n".join(disassemble(from_row(row)) for row in decode(words)) + "\n"


def assemble(text: str) -> list[Instruction]:
    """The instructions of a listing; raises ``DeviceProgramError`` naming the line."""
    lines = enumerate(text.splitlines(), start=1)
    return list(_parsed((number, line.split("#")[0].split()) for number, line in lines))


def _shown(field: Field, value: int) -> bool:
    return field.name != _HIDDEN and (value != 0 or field.choices is not None)


def _part(field: Field, value: int) -> str:
    if field.choices is not None:
        return f"{field.name}={field.choices.by_code[value].name}"
    if field.bits == 1:
        return field.name
    return f"{field.name}={value:#x}" if field.name == "dram" else f"{field.name}={value}"


def _parsed(lines: Iterable[tuple[int, list[str]]]) -> Iterable[Instruction]:
    for number, words in lines:
        if not words:
            continue
        try:
            yield instruction(words[0], **dict(_value(word) for word in words[1:]))
        except DeviceProgramError as error:
            raise DeviceProgramError(f"line {number}: {error}") from error


def _value(word: str) -> tuple[str, int | str]:
    name, equals, text = word.partition("=")
    if not equals:
        return name, 1
    try:
        return name, int(text, 0)
    except ValueError:
        return name, text
