"""docs/isa.md, generated from the instruction table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hyq_tvm.vta.isa import table
from hyq_tvm.vta.isa.records import WORD_BITS, Enumeration, Format, Function

_INTRODUCTION = f"""\
# The instruction set of HyQ-VTA

Generated from `hyq_tvm/vta/isa/table.py` by `python -m hyq_tvm.vta.isa`; do not edit. Version \
{table.VERSION}.

## Machine

Three units work side by side, each through its own queue, which the fetch unit fills in program
order: *load* (LOAD), *compute* (GEMM, VECTOR, SOFTMAX, FINISH) and *store* (STORE); SET goes to the
unit that owns the register. Four token queues order them: load to compute, compute to load, compute
to store, store to compute. An instruction first takes the tokens that it pops, then executes, then
gives the tokens that it pushes. Between units nothing else is ordered, not even accesses to one
buffer or to the same DRAM bytes. Load comes before compute, compute before store: `prev` and `next`
mean these neighbours. A queue that is full makes whoever fills it wait. A loop nest of more than
{table.MAX_STEPS} steps is illegal.

BLOCK is the number of lanes. On-chip buffers: micro-ops (one word an entry), `inp` (BLOCK bytes an
entry), `wgt` (BLOCK x BLOCK bytes: `wgt[entry][output][input]`), `acc` (BLOCK int32), `tbl` (one
16-bit word), `prm` (BLOCK parameters of {table.PARAMETER_BYTES} bytes). All DRAM data is
little-endian; addresses are bytes and need no alignment.

`rshift(x, s)` is `(x + (1 << s >> 1)) >> s` with an arithmetic shift; `rdiv(n, d)` is
`(n + (d >> 1)) div d`; `clip(x)` is `min(max(x, LOW), HIGH)`; `bitlen(x)` is the number of bits of
x; `int64(e, i)` is lane i of an entry as the low word and lane i + 1 as the high word.
"""


def document() -> str:
    """The whole text of docs/isa.md."""
    parts = [_INTRODUCTION, "## Instructions\n", _opcodes()]
    parts += [_format(form) for form in table.FORMATS]
    parts += [
        "## Micro-ops\n",
        _fields(table.UOP),
        "## Functions of VECTOR\n",
        _functions(),
        *(_enumeration(e) for e in (table.OPERAND, table.TARGET, table.MEMORY)),
        *(_enumeration(e) for e in (table.EXPONENTIAL, table.RESULT)),
        "## Registers\n",
        _registers(),
    ]
    return "\n".join(parts)


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")


def _opcodes() -> str:
    rows = [(f"`{f.name}`", f.opcode, f.unit, f.used_bits, f.summary) for f in table.FORMATS]
    return _table(("instruction", "opcode", "unit", f"bits of {WORD_BITS}", "what it does"), rows)


def _format(form: Format) -> str:
    semantics = "\n".join(("```", *form.semantics, "```"))
    title = f"### {form.name}: {form.summary}\n"
    return "\n".join((title, _fields(form), semantics, ""))


def _fields(form: Format) -> str:
    rows = []
    for placed in form.placed:
        field = placed.field
        last = placed.offset + field.bits - 1
        bits = f"{last}:{placed.offset}" if field.bits > 1 else f"{last}"
        least = f"; at least {field.minimum}" if field.minimum else ""
        sign = "; signed" if field.signed else ""
        rows.append((f"`{field.name}`", bits, field.meaning + least + sign))
    return _table(("field", "bits", "meaning"), rows)


def _functions() -> str:
    rows = [
        (code, f"`{f.name}`", f.kind, f.third or "-", "; ".join(f"`{m}`" for m in _lines(f)))
        for code, f in enumerate(table.FUNCTIONS)
    ]
    note = (
        "`binary` functions read a from the destination; `unary` and `move` functions do not, and "
        "may write the input buffer unless they write the numbers of a row "
        f"({', '.join(table.STATISTICS)}).\n\n"
    )
    return note + _table(("code", "function", "kind", "third index", "meaning"), rows)


def _lines(function: Function) -> Sequence[str]:
    return function.meaning


def _enumeration(enumeration: Enumeration) -> str:
    rows = [(c.code, f"`{c.name}`", c.meaning) for c in enumeration.choices]
    return f"## {enumeration.name}\n\n" + _table(("code", "name", "meaning"), rows)


def _registers() -> str:
    rows = [
        (code, f"`{r.name}`", r.unit, f"{r.low} .. {r.high}", r.reset, r.meaning)
        for code, r in enumerate(table.REGISTERS)
    ]
    return _table(("code", "register", "unit", "values", "at reset", "meaning"), rows)
