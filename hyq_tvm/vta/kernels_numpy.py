"""The kernels in NumPy: the same bits as those in C, for machines without a C compiler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.vta import lanes
from hyq_tvm.vta.checks_numpy import count, need, need_table
from hyq_tvm.vta.dma_numpy import load, store
from hyq_tvm.vta.isa import table
from hyq_tvm.vta.isa.encoding import decode_uops
from hyq_tvm.vta.isa.records import Function
from hyq_tvm.vta.machine import Fault, Machine, Status
from hyq_tvm.vta.softmax_numpy import softmax

Int64 = NDArray[np.int64]
Row = list[int]

GEMM_CHUNK = 1 << 12
"""Products gathered at once."""


class NumpyKernels:
    """Executes decoded instructions on a machine; raises ``Fault``."""

    name = "numpy"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._execute: dict[int, Callable[[Machine, Row], None]] = {
            table.LOAD.opcode: load,
            table.STORE.opcode: store,
            table.GEMM.opcode: _gemm,
            table.VECTOR.opcode: _vector,
            table.SOFTMAX.opcode: softmax,
            table.SET.opcode: _set,
            table.FINISH.opcode: _nothing,
        }

    def execute(self, row: Row) -> None:
        """Execute a decoded row."""
        self._execute[row[0]](self._machine, row)


def _nothing(_: Machine, __: Row) -> None:
    return None


def _set(machine: Machine, row: Row) -> None:
    columns = table.SET.columns
    machine.registers[row[columns["register"]]] = row[columns["value"]]


@dataclass(frozen=True)
class _Nest:
    """The indices that a loop nest visits, in order, each ``[n]``."""

    dst: Int64
    src: Int64
    third: Int64

    @classmethod
    def of(cls, machine: Machine, row: Row, form: Any, third: str) -> _Nest:
        field = {name: row[column] for name, column in form.columns.items()}
        selected = np.arange(field["uop_begin"], field["uop_end"])
        need(machine, "uop", selected, Status.UNWRITTEN_UOP)
        uops = decode_uops(machine.memory["uop"][selected])
        y, x = np.arange(field["iter_out"])[:, None, None], np.arange(field["iter_in"])[:, None]
        parts = [
            (uops[:, i] + y * field[f"{name}_out"] + x * field[f"{name}_in"]).ravel()
            for i, name in enumerate(("dst", "src", third))
        ]
        count(machine, "uop_reads", parts[0].size)
        return cls(*parts)


def _gemm(machine: Machine, row: Row) -> None:
    nest = _Nest.of(machine, row, table.GEMM, "wgt")
    init = bool(row[table.GEMM.columns["init"]])
    need(machine, "inp", nest.src, Status.SRC_RANGE)
    need(machine, "wgt", nest.third, Status.THIRD_RANGE)
    acc, block = machine.memory["acc"], machine.config.block
    if nest.dst.max() >= len(acc):
        raise Fault(Status.DST_RANGE, int(nest.dst[nest.dst >= len(acc)][0]))
    if not init:
        need(machine, "acc", nest.dst, Status.DST_RANGE)
    unsigned = row[table.GEMM.columns["inp_u8"]]
    inputs = machine.memory["inp"].view(np.uint8) if unsigned else machine.memory["inp"]
    for start in range(0, nest.dst.size, GEMM_CHUNK):
        part = slice(start, start + GEMM_CHUNK)
        x = inputs[nest.src[part]].astype(np.int32)
        w = machine.memory["wgt"][nest.third[part]].astype(np.int32)
        products = np.einsum("ni,noi->no", x, w)
        if init:
            acc[nest.dst[part]] = products
        else:
            np.add.at(acc, nest.dst[part], products)
    machine.written["acc"][nest.dst] = 1
    steps = nest.dst.size
    count(machine, "macs", steps * block * block)
    for name in ("inp_reads", "wgt_reads", "acc_writes"):
        count(machine, name, steps)
    count(machine, "acc_reads", 0 if init else steps)


@dataclass(frozen=True)
class _Vector:
    """A VECTOR instruction: what it computes and where its numbers come from."""

    function: Function
    operand: str
    target: str
    registers: lanes.Registers

    @property
    def binary(self) -> bool:
        return self.function.kind == "binary"

    @property
    def reads_table(self) -> bool:
        return self.function.name in ("LOOKUP", "REQ_LOOKUP")

    @property
    def reads_parameters(self) -> bool:
        return self.function.third == "parameter" or self.operand == "PRM"


def _vector(machine: Machine, row: Row) -> None:
    columns = table.VECTOR.columns
    made = _Vector(
        function=table.FUNCTIONS[row[columns["op"]]],
        operand=table.OPERAND.by_code[row[columns["operand"]]].name,
        target=table.TARGET.by_code[row[columns["target"]]].name.lower(),
        registers=lanes.registers_of(machine.registers),
    )
    if made.reads_table:
        need_table(machine, made.registers["TABLE_BASE"], made.registers["TABLE_SIZE"])
    nest = _Nest.of(machine, row, table.VECTOR, "third")
    _check_static(machine, made, nest)
    pieces = [slice(None)] if _independent(made, nest) else _single(nest.dst.size)
    for piece in pieces:
        part = _Nest(nest.dst[piece], nest.src[piece], nest.third[piece])
        _vector_part(machine, made, part)
    _count_vector(machine, made, nest.dst.size)


def _single(n: int) -> list[slice]:
    return [slice(i, i + 1) for i in range(n)]


def _check_static(machine: Machine, made: _Vector, nest: _Nest) -> None:
    entries = len(machine.written[made.target])
    if nest.dst.max() >= entries:
        raise Fault(Status.DST_RANGE, int(nest.dst[nest.dst >= entries][0]))
    if made.reads_parameters:
        need(machine, "prm", nest.third, Status.THIRD_RANGE)


def _independent(made: _Vector, nest: _Nest) -> bool:
    """Whether no step reads what an earlier one wrote, so that all can run at once."""
    if made.target == "inp":
        return True
    if np.unique(nest.dst).size < nest.dst.size:
        return False
    sources = [nest.src] if made.operand == "ACC" else []
    if made.function.third == "row":
        sources.append(nest.third)
    return all(
        np.array_equal(source, nest.dst) or not np.isin(source, nest.dst).any()
        for source in sources
    )


def _vector_part(machine: Machine, made: _Vector, nest: _Nest) -> None:
    acc, block = machine.memory["acc"], machine.config.block
    zeros = np.zeros((nest.dst.size, block), dtype=np.int64)
    a, b, row = zeros, zeros, zeros
    if made.binary:
        need(machine, "acc", nest.dst, Status.DST_RANGE)
        a = acc[nest.dst].astype(np.int64)
    if made.operand == "ACC":
        need(machine, "acc", nest.src, Status.SRC_RANGE)
        b = acc[nest.src].astype(np.int64)
    elif made.operand == "IMM":
        b = zeros + made.registers["IMMEDIATE"]
    else:
        b = machine.memory["prm"]["second"][nest.third].astype(np.int64)
    if made.function.third == "row":
        need(machine, "acc", nest.third, Status.THIRD_RANGE)
        row = acc[nest.third].astype(np.int64)
    result = _lane_results(machine, made, nest, a, b, row)
    low = result.astype(np.int8) if made.target == "inp" else result.astype(np.int32)
    machine.memory[made.target][nest.dst] = low
    machine.written[made.target][nest.dst] = 1


def _lane_results(
    machine: Machine, made: _Vector, nest: _Nest, a: Int64, b: Int64, row: Int64
) -> Int64:
    reg, name = made.registers, made.function.name
    if name in lanes.SIMPLE:
        return lanes.SIMPLE[name](a, b, row, reg)
    if name == "LOOKUP":
        return _looked_up(machine, b, reg)
    parameters = machine.memory["prm"][nest.third]
    multiplier, second = (parameters[k].astype(np.int64) for k in ("multiplier", "second"))
    if name == "SCALE_ADD":
        shifted = (a * multiplier + b * second + parameters["offset"]) >> reg["SHIFT"]
    else:
        shifted = (b * multiplier + parameters["offset"]) >> (second & lanes.LANES_MASK)
    result = lanes.clip(shifted + reg["ZERO_POINT"], reg)
    return _looked_up(machine, result, reg) if name == "REQ_LOOKUP" else result


def _looked_up(machine: Machine, b: Int64, reg: lanes.Registers) -> Int64:
    index = np.minimum(np.maximum(b - reg["TABLE_LOW"], 0), reg["TABLE_SIZE"] - 1)
    return np.asarray(machine.memory["tbl"][reg["TABLE_BASE"] + index], dtype=np.int64)


def _count_vector(machine: Machine, made: _Vector, steps: int) -> None:
    reads = made.binary + (made.function.third == "row") + (made.operand == "ACC")
    count(machine, "acc_reads", steps * reads)
    count(machine, "prm_reads", steps * made.reads_parameters)
    lookups = steps * machine.config.block if made.reads_table else 0
    count(machine, "tbl_reads", lookups)
    count(machine, f"{made.target}_writes", steps)
