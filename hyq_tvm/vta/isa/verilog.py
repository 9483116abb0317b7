"""The SystemVerilog package of the instruction set, generated from the table."""

from __future__ import annotations

from hyq_tvm.vta.isa import table
from hyq_tvm.vta.isa.records import WORD_BITS, Enumeration, Format

_HEADER = """\
// Generated from hyq_tvm/vta/isa/table.py by `python -m hyq_tvm.vta.isa`; do not edit.
"""

_ENUMERATIONS = (
    table.MEMORY,
    table.OPERAND,
    table.FUNCTION,
    table.TARGET,
    table.EXPONENTIAL,
    table.RESULT,
    table.REGISTER,
)


def package() -> str:
    """The text of hyq_vta_pkg.sv."""
    lines = [
        _HEADER.rstrip(),
        "package hyq_vta_pkg;",
        f"  localparam int unsigned IsaVersion = {table.VERSION};",
        f"  localparam int unsigned InsnWidth = {WORD_BITS};",
        f"  localparam int unsigned UopWidth = {table.UOP_BITS};",
        f"  localparam int unsigned ParameterBytes = {table.PARAMETER_BYTES};",
        "",
        *_opcodes(),
    ]
    for enumeration in _ENUMERATIONS:
        lines += _enumeration(enumeration)
    for form in (*table.FORMATS, table.UOP):
        lines += _struct(form)
    lines += _resets()
    return "\n".join((*lines, "endpackage", ""))


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _opcodes() -> list[str]:
    names = [f"    Op{_camel(f.name)} = {table.OPCODE_BITS}'d{f.opcode}" for f in table.FORMATS]
    return _typedef_enum(table.OPCODE_BITS, names, "opcode_e")


def _typedef_enum(bits: int, names: list[str], type_name: str) -> list[str]:
    return [f"  typedef enum logic [{bits - 1}:0] {{", ",\n".join(names), f"  }} {type_name};", ""]


def _width(enumeration: Enumeration) -> int:
    for form in table.FORMATS:
        for field in form.fields:
            if field.choices is enumeration:
                return field.bits
    raise ValueError(f"no field holds the enumeration {enumeration.name}")


def _enumeration(enumeration: Enumeration) -> list[str]:
    bits, prefix = _width(enumeration), _camel(enumeration.name)
    names = [f"    {prefix}{_camel(c.name)} = {bits}'d{c.code}" for c in enumeration.choices]
    return _typedef_enum(bits, names, f"{enumeration.name.lower()}_e")


def _struct(form: Format) -> list[str]:
    """A packed structure: SystemVerilog lists the highest bits first."""
    total = table.UOP_BITS if form is table.UOP else WORD_BITS
    spare = total - form.used_bits
    lines = ["  typedef struct packed {"]
    if spare:
        lines.append(f"    logic [{spare - 1}:0] unused;")
    for placed in reversed(form.placed):
        field = placed.field
        sign = "signed " if field.signed else ""
        span = f"[{field.bits - 1}:0] " if field.bits > 1 else ""
        lines.append(f"    logic {sign}{span}{field.name};")
    return [*lines, f"  }} {form.name.lower()}_t;", ""]


def _resets() -> list[str]:
    return [
        f"  localparam logic signed [63:0] Reset{_camel(r.name)} = {_number(r.reset)};"
        for r in table.REGISTERS
    ]


def _number(value: int) -> str:
    return f"-64'sd{-value}" if value < 0 else f"64'sd{value}"
