"""The functional simulator behind the registers of a device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.vta.arch import DEFAULT, VTAConfig
from hyq_tvm.vta.driver.protocol import (
    MEMORY_LIMIT,
    PROTOCOL,
    REGISTERS,
    Control,
    Register,
    State,
)
from hyq_tvm.vta.faults import FaultCode, StreamError
from hyq_tvm.vta.isa import table
from hyq_tvm.vta.machine import Machine
from hyq_tvm.vta.program import Program
from hyq_tvm.vta.simulator import Simulator

WORD_BYTES = 16


class SimulatedDevice:
    """A device of ``config`` with a memory window of ``memory_bytes``, which grows by itself.

    A run is over when the doorbell's write returns. CYCLES stays 0: the functional simulator has
    no clock. Reads of memory that neither the host nor this run wrote are a fault.
    """

    memory_address = 0

    def __init__(
        self, config: VTAConfig = DEFAULT, memory_bytes: int = 1 << 20, kernels: str = "auto"
    ) -> None:
        self.config = config
        self._simulator = Simulator(config, kernels=kernels)
        self._memory = np.zeros(memory_bytes, np.uint8)
        self._host_wrote = np.zeros(memory_bytes, np.uint8)
        self._decoded: tuple[bytes, Program] | None = None
        self._explanation = ""
        self._registers: dict[Register, int] = {}
        self._reset()

    @property
    def memory_bytes(self) -> int:
        """The most that the window can grow to."""
        return MEMORY_LIMIT

    def read(self, register: Register) -> int:
        """See ``Device``."""
        return self._registers[register]

    def write(self, register: Register, value: int) -> None:
        """See ``Device``; writes to read-only registers change nothing, as on a board."""
        if register is Register.CONTROL:
            self._control(value)
        elif REGISTERS[register].writable:
            self._registers[register] = value & 0xFFFFFFFF

    def write_memory(self, address: int, data: NDArray[Any]) -> None:
        """See ``Device``."""
        raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        self._grow(address + raw.size)
        self._memory[address : address + raw.size] = raw
        self._host_wrote[address : address + raw.size] = 1

    def read_memory(self, address: int, count: int) -> NDArray[Any]:
        """See ``Device``."""
        self._grow(address + count)
        return self._memory[address : address + count].copy()

    def explain(self) -> str:
        """The simulator's own words about the last fault."""
        return self._explanation

    def _reset(self) -> None:
        fingerprint = int(self.config.fingerprint, 16)
        self._registers = {register: access.reset for register, access in REGISTERS.items()}
        self._registers[Register.VERSION] = table.VERSION << 16 | PROTOCOL
        self._registers[Register.FINGERPRINT_LOW] = fingerprint & 0xFFFFFFFF
        self._registers[Register.FINGERPRINT_HIGH] = fingerprint >> 32
        self._explanation = ""

    def _grow(self, wanted: int) -> None:
        missing = wanted - len(self._memory)
        if missing > 0:
            self._memory = np.concatenate([self._memory, np.zeros(missing, np.uint8)])
            self._host_wrote = np.concatenate([self._host_wrote, np.zeros(missing, np.uint8)])

    def _control(self, value: int) -> None:
        if value == Control.RESET:
            self._reset()
        elif value == Control.START:
            self._start()

    def _start(self) -> None:
        self._registers[Register.FAULT] = FaultCode.NONE
        self._registers[Register.FAULT_INDEX] = 0
        self._explanation = ""
        try:
            cycles = self._execute(self._program(), self._machine())
            self._registers[Register.CYCLES_LOW] = cycles & 0xFFFFFFFF
            self._registers[Register.CYCLES_HIGH] = cycles >> 32
            self._registers[Register.STATUS] = State.DONE
        except StreamError as error:
            self._registers[Register.STATUS] = State.FAULT
            self._registers[Register.FAULT] = error.code
            self._registers[Register.FAULT_INDEX] = error.index
            self._explanation = str(error)

    def _execute(self, program: Program, machine: Machine) -> int:
        """Run on the machine's memory; the cycles that it took. Raises ``StreamError``."""
        self._simulator.execute(program, machine)
        return 0

    def _machine(self) -> Machine:
        """Fresh on-chip buffers around the device's memory."""
        fresh = Machine.create(self.config, 0)
        size = self._registers[Register.MEMORY_SIZE]
        memory = {**fresh.memory, "dram": self._memory[:size]}
        written = {**fresh.written, "dram": self._host_wrote[:size].copy()}
        return replace(fresh, memory=memory, written=written)

    def _program(self) -> Program:
        """The instructions in memory, decoded and checked once as long as they do not change."""
        start, count = self._registers[Register.PROGRAM], self._registers[Register.COUNT]
        size = self._registers[Register.MEMORY_SIZE]
        end = start + count * WORD_BYTES
        if end > size:
            problem = f"instructions up to {end:#x}, the memory window has {size:#x}"
            raise StreamError(problem, FaultCode.RANGE, 0)
        self._grow(size)
        raw = self._memory[start:end].tobytes()
        key = raw + size.to_bytes(8, "little")
        if self._decoded is None or self._decoded[0] != key:
            words = np.frombuffer(raw, "<u8").astype(np.uint64).reshape(-1, 2)
            program = Program(self.config, words, np.zeros(0, np.uint8), size, {})
            self._decoded = key, program
        return self._decoded[1]
