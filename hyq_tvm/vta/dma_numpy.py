"""LOAD and STORE in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.vta.checks_numpy import count
from hyq_tvm.vta.isa.table import ELEMENT_BYTES, FLAT, MATRICES, REGISTER
from hyq_tvm.vta.machine import PARAMETER, Fault, Machine, Status
from hyq_tvm.vta.transfer import Transfer

_DTYPES: dict[str, Any] = {
    "UOP": "<u4",
    "WGT": "i1",
    "WGT_T": "i1",
    "INP": "i1",
    "ACC": "<i4",
    "ACC8": "i1",
    "ACC16": "<i2",
    "ACCU8": "u1",
    "TBL": "<i2",
    "PRM": PARAMETER,
}
_BUFFERS = {"UOP": "uop", "WGT": "wgt", "WGT_T": "wgt", "INP": "inp", "TBL": "tbl", "PRM": "prm"}


def load(machine: Machine, row: list[int]) -> None:
    """LOAD; raises ``Fault`` on DRAM bytes that were never written."""
    move = _transfer(machine, row, "LOAD")
    runs = _read_runs(machine, move)
    if move.memory in MATRICES:
        filled = _matrices(runs, machine.config.block, transposed=move.memory == "WGT_T")
    elif move.memory in FLAT:
        filled = runs.reshape(-1, machine.config.block) if move.memory == "PRM" else runs.ravel()
    else:
        filled = _padded(machine, move, runs)
    buffer = _BUFFERS.get(move.memory, "acc")
    where = slice(move.sram, move.sram + len(filled))
    machine.memory[buffer][where] = filled
    machine.written[buffer][where] = 1
    count(machine, f"{buffer}_writes", len(filled))
    count(machine, "dram_reads", move.moved_bytes)


def store(machine: Machine, row: list[int]) -> None:
    """STORE; raises ``Fault`` on accumulators that were never written."""
    move, block = _transfer(machine, row, "STORE"), machine.config.block
    where = slice(move.sram, move.sram + move.entries(block))
    holes = np.flatnonzero(machine.written["acc"][where] == 0)
    if holes.size:
        raise Fault(Status.UNWRITTEN_ACC, move.sram + int(holes[0]))
    values = machine.memory["acc"][where].reshape(move.y, move.x, -1)[..., : move.length]
    dtype = np.dtype(_DTYPES[move.memory])
    info = np.iinfo(dtype)
    data = np.clip(values, info.min, info.max).astype(dtype)
    raw = np.ascontiguousarray(data).view(np.uint8).reshape(move.y * move.x, -1)
    for start, run in zip(_starts(move).ravel(), raw, strict=True):
        machine.memory["dram"][start : start + run.size] = run
        machine.written["dram"][start : start + run.size] = 1
    count(machine, "acc_reads", move.entries(block))
    count(machine, "dram_writes", move.moved_bytes)


def _transfer(machine: Machine, row: list[int], unit: str) -> Transfer:
    strides = (int(machine.registers[REGISTER[f"{unit}_{axis}_STRIDE"]]) for axis in "YX")
    return Transfer.of(row, *strides)


def _starts(move: Transfer) -> NDArray[np.int64]:
    """Byte addresses of the runs, ``[y, x]``."""
    y, x = np.arange(move.y)[:, None], np.arange(move.x)
    return np.asarray(move.dram + y * move.y_stride + x * move.x_stride, dtype=np.int64)


def _read_runs(machine: Machine, move: Transfer) -> NDArray[Any]:
    """The elements ``[y, x, length]``."""
    index = _starts(move)[..., None] + np.arange(move.length * ELEMENT_BYTES[move.memory])
    written = machine.written["dram"][index]
    if not written.all():
        raise Fault(Status.UNWRITTEN_DRAM, int(index[written == 0][0]))
    return np.asarray(machine.memory["dram"][index].view(_DTYPES[move.memory]))


def _padded(machine: Machine, move: Transfer, runs: NDArray[Any]) -> NDArray[Any]:
    """Entries ``[n, BLOCK]`` with LOAD_PAD around the runs and in unfilled lanes."""
    block = machine.config.block
    top, bottom, left, right = move.pads
    rest = -move.length % block
    pad = int(machine.registers[REGISTER["LOAD_PAD"]])
    wide = np.pad(
        runs.astype(np.int64), ((top, bottom), (left, right), (0, rest)), constant_values=pad
    )
    return wide.reshape(-1, block).astype(np.int8 if move.memory == "INP" else np.int32)


def _matrices(runs: NDArray[Any], block: int, transposed: bool) -> NDArray[Any]:
    """Entries ``[n, output, input]`` of ``runs [matrix, row, column]``, unfilled cells 0."""
    count, rows, columns = runs.shape
    wide = np.pad(runs, ((0, 0), (0, -rows % block), (0, -columns % block)))
    tiles = wide.reshape(count, -(-rows // block), block, -(-columns // block), block)
    order = (0, 3, 1, 4, 2) if transposed else (0, 1, 3, 2, 4)
    return tiles.transpose(order).reshape(-1, block, block)
