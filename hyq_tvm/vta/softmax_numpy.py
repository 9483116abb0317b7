"""SOFTMAX in NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.vta import lanes
from hyq_tvm.vta.checks_numpy import count, need, need_table
from hyq_tvm.vta.isa import table
from hyq_tvm.vta.machine import Fault, Machine, Status

Int64 = NDArray[np.int64]

INT32_MAX = 2**31 - 1
EXCLUDED = -(2**30)


def softmax(machine: Machine, row: list[int]) -> None:
    """SOFTMAX; raises ``Fault``."""
    field = {name: row[column] for name, column in table.SOFTMAX.columns.items()}
    reg = lanes.registers_of(machine.registers)
    kind = table.EXPONENTIAL.by_code[field["exponential"]].name
    sizes = {"WEIGHTS": reg["TABLE_SIZE"], "TABLE": 2 << reg["FRACTION_BITS"]}
    if kind in sizes:
        need_table(machine, reg["TABLE_BASE"], sizes[kind])
    for index in range(field["rows"]):
        _softmax_row(machine, field, index, kind, reg)
        reads = {"WEIGHTS": 1, "TABLE": 2}.get(kind, 0) * field["length"]
        count(machine, "tbl_reads", reads)


def _softmax_row(
    machine: Machine, field: dict[str, int], index: int, kind: str, reg: lanes.Registers
) -> None:
    n, block, acc = field["length"], machine.config.block, machine.memory["acc"]
    blocks = -(-n // block)
    entries = field["src"] + index * field["src_step"] + np.arange(blocks)
    need(machine, "acc", entries, Status.SRC_RANGE)
    t = acc[entries].astype(np.int64).reshape(1, -1)[:, :n]
    e = lanes.weights(np.minimum(t.max() - t, INT32_MAX), kind, reg, machine.memory["tbl"])
    if kind == "WEIGHTS":
        e = np.where(t <= EXCLUDED, 0, e)
    total = int(e.sum())
    if total > INT32_MAX:
        raise Fault(Status.LENGTH, n)
    name = table.RESULT.by_code[field["result"]].name
    values = lanes.results(e, np.array([[max(total, 1)]]), name, reg)
    dst = field["dst"] + index * field["dst_step"]
    target = table.TARGET.by_code[field["target"]].name.lower()
    _put_row(machine, target, dst, values)
    if name == "WEIGHT_WIDE":
        _put_row(machine, target, dst + field["plane"], e & 255)
    if name in ("WEIGHT", "WEIGHT_WIDE"):
        acc[field["total"] + index] = 0
        acc[field["total"] + index, 0] = total
        machine.written["acc"][field["total"] + index] = 1
        count(machine, "acc_writes", 1)
    count(machine, "acc_reads", blocks)


def _put_row(machine: Machine, target: str, entry: int, values: Int64) -> None:
    block = machine.config.block
    blocks = -(-values.size // block)
    lanes_ = np.zeros(blocks * block, dtype=np.int64)
    lanes_[: values.size] = values.ravel()
    dtype = np.int8 if target == "inp" else np.int32
    machine.memory[target][entry : entry + blocks] = lanes_.astype(dtype).reshape(blocks, block)
    machine.written[target][entry : entry + blocks] = 1
    count(machine, f"{target}_writes", blocks)
