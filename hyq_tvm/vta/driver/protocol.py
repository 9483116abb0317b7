"""What every device looks like to the host: a page of registers and a window of memory.

docs/vta.md says in prose what these tables mean; a simulator, the RTL and a board implement them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

from numpy.typing import NDArray

from hyq_tvm.vta.faults import FAULT_MEANINGS

ID = 0x56515948
"""``HYQV`` in ASCII, first letter lowest."""

PROTOCOL = 1
"""Version of this protocol: the low half of the register VERSION."""

PAGE_BYTES = 0x40
"""Bytes of the register page."""

MEMORY_LIMIT = (1 << 32) - 1
"""Bytes of memory that a device can be given."""


class Register(IntEnum):
    """Byte offsets of the registers, 32 bits each."""

    ID = 0x00
    VERSION = 0x04
    FINGERPRINT_LOW = 0x08
    FINGERPRINT_HIGH = 0x0C
    CONTROL = 0x10
    STATUS = 0x14
    FAULT = 0x18
    FAULT_INDEX = 0x1C
    PROGRAM = 0x20
    COUNT = 0x24
    MEMORY_LOW = 0x28
    MEMORY_HIGH = 0x2C
    MEMORY_SIZE = 0x30
    WATCHDOG = 0x34
    CYCLES_LOW = 0x38
    CYCLES_HIGH = 0x3C


@dataclass(frozen=True)
class Access:
    """Whether the host may write a register, what it holds after reset, and what it means."""

    writable: bool
    reset: int
    meaning: str


REGISTERS: dict[Register, Access] = {
    Register.ID: Access(False, ID, "`HYQV` in ASCII, first letter lowest"),
    Register.VERSION: Access(False, PROTOCOL, "protocol version + 2^16 * ISA version"),
    Register.FINGERPRINT_LOW: Access(False, 0, "low half of the configuration's fingerprint"),
    Register.FINGERPRINT_HIGH: Access(False, 0, "its high half"),
    Register.CONTROL: Access(
        True, 0, "doorbell: 1 starts a run, 2 resets; reads as 0 once that is taken"
    ),
    Register.STATUS: Access(False, 0, "0 idle, 1 running, 2 done, 3 fault"),
    Register.FAULT: Access(False, 0, "why the last run stopped; valid while STATUS is 3"),
    Register.FAULT_INDEX: Access(False, 0, "the instruction that stopped it, counted from 0"),
    Register.PROGRAM: Access(True, 0, "address of the first instruction"),
    Register.COUNT: Access(True, 0, "how many instructions the program has"),
    Register.MEMORY_LOW: Access(True, 0, "low half of the memory window's address on the bus"),
    Register.MEMORY_HIGH: Access(True, 0, "its high half"),
    Register.MEMORY_SIZE: Access(True, 0, "bytes of the window; accesses beyond are a fault"),
    Register.WATCHDOG: Access(
        True, 1 << 30, "cycles without a finished instruction that are a deadlock; 0: no limit"
    ),
    Register.CYCLES_LOW: Access(False, 0, "cycles from the last start to its end, low half"),
    Register.CYCLES_HIGH: Access(False, 0, "high half"),
}


class Control(IntEnum):
    """What the host writes to CONTROL."""

    START = 1
    RESET = 2


class State(IntEnum):
    """What STATUS holds."""

    IDLE = 0
    RUNNING = 1
    DONE = 2
    FAULT = 3


class Device(Protocol):
    """A device as the host reaches it."""

    def read(self, register: Register) -> int:
        """A register's value, 0 to 2^32 - 1."""

    def write(self, register: Register, value: int) -> None:
        """Write a register; STATUS speaks of a START or RESET once CONTROL reads as 0."""

    def write_memory(self, address: int, data: NDArray[Any]) -> None:
        """Copy an array's bytes into the memory window, from ``address`` on."""

    def read_memory(self, address: int, count: int) -> NDArray[Any]:
        """A uint8 copy of ``count`` bytes of the window from ``address`` on."""

    @property
    def memory_bytes(self) -> int:
        """Size of the memory window."""

    @property
    def memory_address(self) -> int:
        """Where the window lies on the device's bus."""

    def explain(self) -> str:
        """What the device can say about the last fault beyond its registers; may be empty."""


def program_address(dram_bytes: int) -> int:
    """Where the driver puts the instructions: behind all tensors, at a multiple of 64."""
    return -(-dram_bytes // 64) * 64


def register_table() -> str:
    """The register map as Markdown, for docs/vta.md."""
    lines = ["| offset | register | host | at reset | meaning |", "|---|---|---|---|---|"]
    for register, access in REGISTERS.items():
        way = "read, write" if access.writable else "read"
        lines.append(
            f"| {register.value:#04x} | `{register.name}` | {way} | {access.reset:#x} "
            f"| {access.meaning} |"
        )
    return "\n".join(lines)


def fault_table() -> str:
    """The fault codes as Markdown, for docs/vta.md."""
    lines = ["| code | fault | meaning |", "|---|---|---|"]
    lines += [f"| {c.value} | `{c.name}` | {m} |" for c, m in FAULT_MEANINGS.items()]
    return "\n".join(lines)
