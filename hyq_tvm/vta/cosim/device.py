"""The hardware, simulated, behind the registers of a device."""

from __future__ import annotations

from hyq_tvm.vta.arch import DEFAULT, VTAConfig
from hyq_tvm.vta.cosim.core import Core
from hyq_tvm.vta.driver.simulated import SimulatedDevice
from hyq_tvm.vta.machine import Machine
from hyq_tvm.vta.program import Program


class CoreDevice(SimulatedDevice):
    """As ``SimulatedDevice``, but instructions run on the core, and CYCLES says how long they took.

    The host's decoder and verifier still see a program first; reads of cells that nobody wrote are
    not found. Raises ``ToolUnavailable`` at the first run where the core cannot be built.
    """

    def __init__(self, config: VTAConfig = DEFAULT, memory_bytes: int = 1 << 20) -> None:
        super().__init__(config, memory_bytes)
        self._core = Core(config)

    def _execute(self, program: Program, machine: Machine) -> int:
        events = self._core.execute(machine, program.words, program.rows.tolist())
        return max(event.end for event in events)
