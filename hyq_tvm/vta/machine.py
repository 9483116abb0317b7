"""The state of a simulated device, shared by the kernels in C and in NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.vta.arch import VTAConfig
from hyq_tvm.vta.isa.table import REGISTERS

PARAMETER = np.dtype([("multiplier", "<i4"), ("second", "<i4"), ("offset", "<i8")])

BUFFERS = ("uop", "inp", "wgt", "acc", "tbl", "prm", "dram")
"""Memories in the order of every list that speaks of them."""

COUNTERS = (
    "macs",
    *(f"{name}_reads" for name in BUFFERS),
    *(f"{name}_writes" for name in BUFFERS),
)
"""What kernels count: multiply-adds, entries read and written on chip, bytes of DRAM."""


class Status(IntEnum):
    """Why a kernel stopped; ``detail`` is the cell or value it stopped at."""

    OK = 0
    UNWRITTEN_UOP = 1
    UNWRITTEN_INP = 2
    UNWRITTEN_WGT = 3
    UNWRITTEN_ACC = 4
    UNWRITTEN_TBL = 5
    UNWRITTEN_PRM = 6
    UNWRITTEN_DRAM = 7
    DST_RANGE = 8
    SRC_RANGE = 9
    THIRD_RANGE = 10
    TABLE_RANGE = 11
    VARIANCE = 12
    LENGTH = 13


_MESSAGES = {
    **{
        Status(index): f"reads {name} entry {{}}, which was never written"
        for index, name in enumerate(BUFFERS, start=1)
        if name != "dram"
    },
    Status.UNWRITTEN_DRAM: "reads DRAM byte {:#x}, which was never written",
    Status.DST_RANGE: "destination entry {} is beyond the buffer",
    Status.SRC_RANGE: "source entry {} is beyond the buffer",
    Status.THIRD_RANGE: "weight, parameter or row entry {} is beyond the buffer",
    Status.TABLE_RANGE: "table entries up to {} are beyond the buffer",
    Status.VARIANCE: "the variance {} is 2^62 or more",
    Status.LENGTH: "{} logits need sums beyond int32",
}


class Fault(Exception):
    """A kernel cannot go on; the simulator turns this into an error that names the instruction."""

    def __init__(self, status: Status, detail: int) -> None:
        super().__init__(_MESSAGES[status].format(detail))
        self.status = status
        self.detail = detail


@dataclass(frozen=True, eq=False)
class Machine:
    """Buffers and, one byte a cell, which cells were written; registers; counters.

    memory: name of ``BUFFERS`` -> array. written: name -> uint8, an entry (of DRAM a byte) each.
    """

    config: VTAConfig
    memory: dict[str, NDArray[Any]]
    written: dict[str, NDArray[np.uint8]]
    registers: NDArray[np.int64]
    counters: NDArray[np.int64]

    @classmethod
    def create(cls, config: VTAConfig, dram_bytes: int) -> Machine:
        """A device after reset, with an empty DRAM."""
        block = config.block
        memory: dict[str, NDArray[Any]] = {
            "uop": np.zeros(config.uop_entries, np.uint32),
            "inp": np.zeros((config.inp_entries, block), np.int8),
            "wgt": np.zeros((config.wgt_entries, block, block), np.int8),
            "acc": np.zeros((config.acc_entries, block), np.int32),
            "tbl": np.zeros(config.table_entries, np.int16),
            "prm": np.zeros((config.parameter_entries, block), PARAMETER),
            "dram": np.zeros(dram_bytes, np.uint8),
        }
        return cls(
            config=config,
            memory=memory,
            written={name: np.zeros(len(array), np.uint8) for name, array in memory.items()},
            registers=np.array([register.reset for register in REGISTERS], np.int64),
            counters=np.zeros(len(COUNTERS), np.int64),
        )

    def fill(self, address: int, data: NDArray[np.uint8]) -> None:
        """Write bytes into DRAM from outside."""
        self.memory["dram"][address : address + data.size] = data
        self.written["dram"][address : address + data.size] = 1
