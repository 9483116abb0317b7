"""What the instruction table is made of: fields, enumerations and instruction formats."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

WORD_BITS = 128
"""Length of an instruction."""


@dataclass(frozen=True)
class Choice:
    """A named value of an enumeration."""

    name: str
    code: int
    meaning: str


@dataclass(frozen=True)
class Enumeration:
    """The values that a field may have; any other value makes the instruction illegal."""

    name: str
    choices: tuple[Choice, ...]

    @cached_property
    def by_name(self) -> dict[str, Choice]:
        """Name -> choice."""
        return {choice.name: choice for choice in self.choices}

    @cached_property
    def by_code(self) -> dict[int, Choice]:
        """Code -> choice."""
        return {choice.code: choice for choice in self.choices}

    def __getitem__(self, name: str) -> int:
        return self.by_name[name].code


@dataclass(frozen=True)
class Field:
    """``bits`` of an instruction. minimum: the smallest legal value of an unsigned field."""

    name: str
    bits: int
    meaning: str
    choices: Enumeration | None = None
    signed: bool = False
    minimum: int = 0

    @property
    def low(self) -> int:
        """The smallest legal value."""
        return -(1 << (self.bits - 1)) if self.signed else self.minimum

    @property
    def high(self) -> int:
        """The largest legal value."""
        return (1 << (self.bits - self.signed)) - 1


@dataclass(frozen=True)
class Placed:
    """A field and the position of its lowest bit."""

    field: Field
    offset: int


@dataclass(frozen=True)
class Format:
    """An instruction: its fields lie side by side from bit 0 up; the rest of 128 bits is zero.

    unit: the module that executes it, or ``"register"`` where the register decides.
    semantics: pseudo-code, one string a line.
    """

    name: str
    opcode: int
    unit: str
    summary: str
    fields: tuple[Field, ...]
    semantics: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.used_bits > WORD_BITS:
            raise ValueError(f"{self.name} needs {self.used_bits} bits of {WORD_BITS}")

    @property
    def used_bits(self) -> int:
        """How many bits the fields take."""
        return sum(field.bits for field in self.fields)

    @cached_property
    def placed(self) -> tuple[Placed, ...]:
        """The fields with their positions."""
        result, offset = [], 0
        for field in self.fields:
            result.append(Placed(field, offset))
            offset += field.bits
        return tuple(result)

    @cached_property
    def columns(self) -> dict[str, int]:
        """Field name -> its column in a decoded row."""
        return {field.name: index for index, field in enumerate(self.fields)}


@dataclass(frozen=True)
class Register:
    """A register that SET writes; ``reset`` is its value when a program starts."""

    name: str
    unit: str
    low: int
    high: int
    reset: int
    meaning: str


@dataclass(frozen=True)
class Function:
    """What VECTOR computes for each lane.

    kind: ``"move"`` (result of the operand alone), ``"binary"`` (of the destination and the
    operand) or ``"unary"`` (of the source entry). third: what the third index of a micro-op
    selects: ``""``, ``"parameter"`` or ``"row"`` (an accumulator entry with numbers of a row).
    Only functions other than ``"binary"`` may write the input buffer.
    """

    name: str
    kind: str
    third: str
    meaning: tuple[str, ...]
