"""Static checks of a program against a device: addresses, sizes and the final FINISH."""

from __future__ import annotations

from collections.abc import Sequence

from hyq_tvm.vta.arch import VTAConfig
from hyq_tvm.vta.faults import FaultCode, StreamError
from hyq_tvm.vta.isa.assembly import disassemble
from hyq_tvm.vta.isa.encoding import Rows, from_row
from hyq_tvm.vta.isa.table import (
    BY_NAME,
    GEMM,
    REGISTER,
    REGISTERS,
    RESULT,
    SET,
    SOFTMAX,
    TARGET,
    VECTOR,
)
from hyq_tvm.vta.transfer import Transfer

Row = Sequence[int]
Registers = dict[str, int]


def verify(rows: Rows, config: VTAConfig, dram_bytes: int) -> None:
    """Raises ``StreamError`` naming the first instruction that ``config`` cannot execute.

    What micro-ops select, and what was never written, shows only when the program runs.
    """
    finish = BY_NAME["FINISH"].opcode
    listed = rows.tolist()
    if not listed or listed[-1][0] != finish:
        problem = "the program is truncated: its last instruction is not FINISH"
        raise StreamError(problem, FaultCode.TRUNCATED, max(len(listed) - 1, 0))
    registers: Registers = {register.name: register.reset for register in REGISTERS}
    for index, row in enumerate(listed):
        problem = _problem(row, registers, config, dram_bytes)
        if row[0] == finish and index + 1 < len(listed):
            problem = describe(index, row, "FINISH is not the last instruction")
            raise StreamError(problem, FaultCode.ILLEGAL, index)
        if problem:
            raise StreamError(describe(index, row, problem), FaultCode.RANGE, index)
        problem = _overwritten(row, config) if row[0] == SOFTMAX.opcode else ""
        if problem:
            raise StreamError(describe(index, row, problem), FaultCode.ILLEGAL, index)


def describe(index: int, row: Row, problem: str) -> str:
    """An error's text: which instruction, and what is wrong with it."""
    return f"instruction {index} ({disassemble(from_row(row))}): {problem}"


def _problem(row: Row, registers: Registers, config: VTAConfig, dram_bytes: int) -> str:
    opcode = row[0]
    if opcode == SET.opcode:
        return _set(row, registers, config)
    if opcode in (BY_NAME["LOAD"].opcode, BY_NAME["STORE"].opcode):
        unit = "LOAD" if opcode == BY_NAME["LOAD"].opcode else "STORE"
        strides = registers[f"{unit}_Y_STRIDE"], registers[f"{unit}_X_STRIDE"]
        return _transfer(Transfer.of(row, *strides), config, dram_bytes)
    if opcode in (GEMM.opcode, VECTOR.opcode):
        end = row[GEMM.columns["uop_end"] if opcode == GEMM.opcode else VECTOR.columns["uop_end"]]
        if end > config.uop_entries:
            return f"micro-ops up to {end}, the buffer has {config.uop_entries}"
        return ""
    return _softmax(row, config) if opcode == SOFTMAX.opcode else ""


def _set(row: Row, registers: Registers, config: VTAConfig) -> str:
    name = REGISTER.by_code[row[SET.columns["register"]]].name
    registers[name] = row[SET.columns["value"]]
    if name == "LANES" and registers[name] > config.block:
        return f"the device has {config.block} lanes"
    return ""


def _transfer(move: Transfer, config: VTAConfig, dram_bytes: int) -> str:
    if move.end > dram_bytes:
        return f"DRAM bytes up to {move.end:#x}, the memory has {dram_bytes:#x}"
    if move.memory == "PRM" and move.length % config.block:
        return f"runs of parameters are multiples of {config.block} lanes"
    last = move.sram + move.entries(config.block)
    available = config.entries(move.memory)
    if last > available:
        return f"entries up to {last}, the buffer has {available}"
    return ""


def _overwritten(row: Row, config: VTAConfig) -> str:
    """SOFTMAX may read rows ahead, so it overwrites no logits but a row's own, in place."""
    field = _softmax_fields(row)
    blocks, wide = -(-field["length"] // config.block), field["result"] == RESULT["WEIGHT_WIDE"]
    src, dst = field["src"], field["dst"]
    logits = range(src, src + (field["rows"] - 1) * field["src_step"] + blocks)
    width = (field["rows"] - 1) * field["dst_step"] + blocks
    sums = range(field["total"], field["total"] + field["rows"])
    if (wide or field["result"] == RESULT["WEIGHT"]) and _meet(logits, sums):
        return "sums overwrite logits"
    if field["target"] != TARGET["ACC"]:
        return ""
    planes = [dst, dst + field["plane"]] if wide else [dst]
    apart = field["rows"] == 1 or field["src_step"] >= blocks
    if dst == src and field["dst_step"] == field["src_step"] and apart:
        planes = planes[1:]
    if any(_meet(logits, range(first, first + width)) for first in planes):
        return "results overwrite logits of other rows"
    return ""


def _meet(a: range, b: range) -> bool:
    return a.start < b.stop and b.start < a.stop


def _softmax_fields(row: Row) -> dict[str, int]:
    return {name: row[column] for name, column in SOFTMAX.columns.items()}


def _softmax(row: Row, config: VTAConfig) -> str:
    field = _softmax_fields(row)
    blocks = -(-field["length"] // config.block)
    steps = field["rows"] - 1
    source = field["src"] + steps * field["src_step"] + blocks
    if source > config.acc_entries:
        return f"source entries up to {source}, the buffer has {config.acc_entries}"
    last = field["dst"] + steps * field["dst_step"] + blocks
    if field["result"] == RESULT["WEIGHT_WIDE"]:
        last += field["plane"]
    to_inputs = field["target"] == TARGET["INP"]
    available = config.inp_entries if to_inputs else config.acc_entries
    if last > available:
        return f"destination entries up to {last}, the buffer has {available}"
    if field["total"] + field["rows"] > config.acc_entries:
        return f"sums up to entry {field['total'] + field['rows']} of {config.acc_entries}"
    return ""
