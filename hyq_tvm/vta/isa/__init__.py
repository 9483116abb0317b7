"""The instruction set: ``table`` is its definition, the other modules derive from it.

``python -m hyq_tvm.vta.isa`` writes docs/isa.md and the SystemVerilog package; with ``--check`` it
only says whether they are current.
"""

from hyq_tvm.vta.isa.assembly import assemble, disassemble, listing
from hyq_tvm.vta.isa.encoding import (
    Instruction,
    decode,
    decode_uops,
    encode,
    encode_uops,
    instruction,
)
from hyq_tvm.vta.isa.table import BY_NAME, FORMATS, FUNCTIONS, REGISTERS

__all__ = [
    "BY_NAME",
    "FORMATS",
    "FUNCTIONS",
    "REGISTERS",
    "Instruction",
    "assemble",
    "decode",
    "decode_uops",
    "disassemble",
    "encode",
    "encode_uops",
    "instruction",
    "listing",
]
