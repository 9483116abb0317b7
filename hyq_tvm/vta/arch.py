"""The architecture record: one set of sizes from which every part of the accelerator follows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hyq_tvm import documents
from hyq_tvm.errors import ConfigError
from hyq_tvm.vta.isa import table

ACC_BYTES = 4
UOP_BYTES = 4
TABLE_BYTES = 2

_JSON_NAMES = {
    "log_batch": "LOG_BATCH",
    "log_block": "LOG_BLOCK",
    "log_uop_buffer": "LOG_UOP_BUFF_SIZE",
    "log_inp_buffer": "LOG_INP_BUFF_SIZE",
    "log_wgt_buffer": "LOG_WGT_BUFF_SIZE",
    "log_acc_buffer": "LOG_ACC_BUFF_SIZE",
    "log_table_buffer": "LOG_TBL_BUFF_SIZE",
    "log_parameter_buffer": "LOG_PRM_BUFF_SIZE",
    "log_command_queue": "LOG_CMD_QUEUE",
    "log_bus_width": "LOG_BUS_WIDTH",
    "softmax_lanes": "SOFTMAX_LANES",
    "dividers": "DIVIDERS",
    "clock_mhz": "CLOCK_MHZ",
    "dram_latency": "DRAM_LATENCY",
}
_FIXED = {"LOG_INP_WIDTH": 3, "LOG_WGT_WIDTH": 3, "LOG_ACC_WIDTH": 5}


@dataclass(frozen=True)
class VTAConfig:
    """Sizes of a device, most of them as base-2 logarithms (bytes for buffers), as in VTA's JSON.

    log_batch: input rows that the array takes at once; this core takes one, so 0.
    log_block: rows and columns of the multiplier array and lanes of the vector unit, 2 to 6.
    log_*_buffer: bytes of on-chip memory for micro-ops, inputs, weights, accumulators, tables and
        parameters.
    log_command_queue: instructions that a unit's queue holds, and tokens that a token queue holds.
    log_bus_width: bits of the DRAM port, 5 to 9. dram_latency: cycles from a read's address to its
        first data. clock_mhz: what the cycle model reports times at.
    softmax_lanes: logits a cycle, 1 to BLOCK, a power of two. dividers: rows whose roots or
        reciprocals the vector unit computes at a time, 1 to BLOCK.

    Raises ``ConfigError`` naming the size that is out of range or that instructions cannot address.
    """

    log_batch: int = 0
    log_block: int = 4
    log_uop_buffer: int = 15
    log_inp_buffer: int = 15
    log_wgt_buffer: int = 18
    log_acc_buffer: int = 17
    log_table_buffer: int = 14
    log_parameter_buffer: int = 15
    log_command_queue: int = 9
    log_bus_width: int = 7
    softmax_lanes: int = 16
    dividers: int = 8
    clock_mhz: int = 200
    dram_latency: int = 64

    def __post_init__(self) -> None:
        self._check_integers()
        self._check_ranges()
        for name, entries, bits in self._addressed():
            if entries < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: not one entry fits the buffer")
            if entries > 1 << bits:
                raise ConfigError(
                    f"{name}={getattr(self, name)}: {entries} entries, but instructions address "
                    f"{1 << bits} with {bits} bits"
                )

    def _check_integers(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise ConfigError(f"{entry.name}={value!r}: an integer is needed")

    def _check_ranges(self) -> None:
        ranges = {
            "log_batch": (0, 0),
            "log_block": (2, 6),
            "log_command_queue": (2, 12),
            "log_bus_width": (5, 9),
            "clock_mhz": (1, 2000),
            "dram_latency": (0, 10_000),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name}={getattr(self, name)}: choose {low} to {high}")
        lanes = self.softmax_lanes
        if not 1 <= lanes <= self.block or lanes & (lanes - 1):
            raise ConfigError(f"softmax_lanes={lanes}: choose a power of two up to {self.block}")
        if not 1 <= self.dividers <= self.block:
            raise ConfigError(f"dividers={self.dividers}: choose 1 to {self.block}")

    def _addressed(self) -> list[tuple[str, int, int]]:
        return [
            ("log_uop_buffer", self.uop_entries, table.UOP_INDEX_BITS),
            ("log_inp_buffer", self.inp_entries, table.SRC_BITS),
            ("log_wgt_buffer", self.wgt_entries, table.THIRD_BITS),
            ("log_acc_buffer", self.acc_entries, min(table.DST_BITS, table.SRC_BITS)),
            ("log_table_buffer", self.table_entries, table.SRAM_BITS),
            ("log_parameter_buffer", self.parameter_entries, table.THIRD_BITS),
        ]

    @property
    def block(self) -> int:
        """Lanes of an entry."""
        return 1 << self.log_block

    @property
    def uop_entries(self) -> int:
        """Micro-ops on chip."""
        return (1 << max(self.log_uop_buffer, 0)) // UOP_BYTES

    @property
    def inp_entries(self) -> int:
        """Input entries, BLOCK bytes each."""
        return (1 << max(self.log_inp_buffer, 0)) // self.block

    @property
    def wgt_entries(self) -> int:
        """Weight entries, BLOCK x BLOCK bytes each."""
        return (1 << max(self.log_wgt_buffer, 0)) // self.block**2

    @property
    def acc_entries(self) -> int:
        """Accumulator entries, BLOCK int32 each."""
        return (1 << max(self.log_acc_buffer, 0)) // (self.block * ACC_BYTES)

    @property
    def table_entries(self) -> int:
        """Table entries of 16 bits."""
        return (1 << max(self.log_table_buffer, 0)) // TABLE_BYTES

    @property
    def parameter_entries(self) -> int:
        """Parameter entries, BLOCK lanes of 16 bytes each."""
        return (1 << max(self.log_parameter_buffer, 0)) // (self.block * table.PARAMETER_BYTES)

    @property
    def queue_depth(self) -> int:
        """Instructions of a unit's queue; tokens of a token queue."""
        return 1 << self.log_command_queue

    @property
    def bus_bytes(self) -> int:
        """DRAM bytes a cycle."""
        return 1 << (self.log_bus_width - 3)

    def entries(self, memory: str) -> int:
        """Entries of the buffer behind a memory kind of the instruction set."""
        return {
            "UOP": self.uop_entries,
            "WGT": self.wgt_entries,
            "WGT_T": self.wgt_entries,
            "INP": self.inp_entries,
            "TBL": self.table_entries,
            "PRM": self.parameter_entries,
        }.get(memory, self.acc_entries)

    @property
    def fingerprint(self) -> str:
        """What a program and a device must share: a digest of sizes and ISA version."""
        timing = ("clock_mhz", "dram_latency", "log_bus_width", "softmax_lanes", "dividers")
        sizes = {key: value for key, value in asdict(self).items() if key not in timing}
        text = json.dumps({"isa": table.VERSION, **sizes}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The record with VTA's names."""
        data = {_JSON_NAMES[key]: value for key, value in asdict(self).items()}
        return json.dumps({"TARGET": "hyq-vta", **_FIXED, **data}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> VTAConfig:
        """The inverse of ``to_json``; sizes left out keep their defaults.

        Raises ``ConfigError`` on other widths, unknown names and text that is not a JSON object.
        """
        try:
            data = documents.parse(text)
        except ValueError as error:
            raise ConfigError(f"the architecture record is not JSON: {error}") from error
        if not isinstance(data, dict):
            raise ConfigError("the architecture record is not a JSON object")
        return cls(**_sizes(data))

    @classmethod
    def load(cls, path: str | Path) -> VTAConfig:
        """Read a JSON file; raises ``ConfigError`` when it cannot be read."""
        try:
            return cls.from_json(documents.read_text(path))
        except ConfigError:
            raise
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: {error}") from error


def _sizes(data: Mapping[str, Any]) -> dict[str, Any]:
    names = {json_name: name for name, json_name in _JSON_NAMES.items()}
    sizes: dict[str, Any] = {}
    for key, value in data.items():
        if key in _FIXED and value != _FIXED[key]:
            raise ConfigError(f"{key}={value!r}: this core has {_FIXED[key]}")
        if key in names:
            sizes[names[key]] = value
        elif key not in _FIXED and key != "TARGET":
            raise ConfigError(f"unknown name {key!r} in an architecture record")
    return sizes


DEFAULT = VTAConfig()
"""16 x 16 multipliers, 512 KiB on chip."""

TINY = VTAConfig(
    log_block=2,
    log_uop_buffer=11,
    log_inp_buffer=11,
    log_wgt_buffer=12,
    log_acc_buffer=13,
    log_table_buffer=13,
    log_parameter_buffer=12,
    log_command_queue=4,
    log_bus_width=5,
    softmax_lanes=4,
    dividers=1,
)
"""4 x 4 multipliers and small buffers, for tests of the hardware."""
