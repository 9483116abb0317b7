"""The functional simulator: executes a program's instructions, checks them and counts.

Three units take instructions from their queues as tokens allow, as on the device. Whatever a
correct program computes does not depend on which unit goes first; ``priority`` chooses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import ConfigError, DeviceProgramError
from hyq_tvm.vta.arch import VTAConfig
from hyq_tvm.vta.faults import FaultCode, StreamError
from hyq_tvm.vta.isa.table import FINISH, FORMATS, UNITS
from hyq_tvm.vta.kernels_native import NativeKernels, NativeUnavailable
from hyq_tvm.vta.kernels_numpy import NumpyKernels
from hyq_tvm.vta.machine import COUNTERS, Fault, Machine, Status
from hyq_tvm.vta.program import Place, Program
from hyq_tvm.vta.units import FIRST_FLAG, FLAGS_END, TOKEN_QUEUES, pops, pushes, unit_of_row
from hyq_tvm.vta.verify import describe

KERNELS = ("auto", "native", "numpy")

_VALUES = (Status.VARIANCE, Status.LENGTH)


@dataclass(frozen=True)
class Run:
    """What a program made: its outputs, and how often what happened.

    counters: ``machine.COUNTERS`` and ``instructions_<NAME>``. kernels: which ones ran.
    """

    outputs: Mapping[str, NDArray[Any]]
    counters: Mapping[str, int]
    kernels: str


@dataclass(frozen=True)
class Simulator:
    """A device of ``config``.

    kernels: ``"native"`` (C, compiled at first use), ``"numpy"``, or ``"auto"``, which takes
    NumPy where there is no compiler. priority: the order in which units are tried.
    """

    config: VTAConfig
    kernels: str = "auto"
    priority: tuple[str, ...] = UNITS

    def __post_init__(self) -> None:
        if self.kernels not in KERNELS:
            raise ConfigError(f"kernels={self.kernels!r}: choose one of {list(KERNELS)}")
        if sorted(self.priority) != sorted(UNITS):
            raise ConfigError(f"priority={self.priority!r}: an order of {list(UNITS)}")

    def run(self, program: Program, inputs: Mapping[str, NDArray[Any]]) -> Run:
        """Execute ``program``; inputs by name, of the places' shapes and dtypes.

        Raises ``InputError`` on wrong inputs, ``DeviceProgramError`` naming the instruction where
        the program is for another device, deadlocks, or reads what nobody wrote.
        """
        program.check_device(self.config)
        machine = Machine.create(self.config, program.dram_bytes)
        machine.fill(program.image_address, program.image)
        for address, raw in program.placed_inputs(inputs):
            machine.fill(address, raw)
        name = self.execute(program, machine)
        outputs = {n: _read(machine, n, place) for n, place in program.places("output").items()}
        return Run(outputs, _counters(machine, program), name)

    def execute(self, program: Program, machine: Machine) -> str:
        """Execute the instructions on a machine as it is; which kernels ran.

        Raises ``StreamError`` naming the instruction that cannot go on.
        """
        name, execute = self._executor(machine, program)
        _Execution(program, self.config, self.priority, execute).run()
        return name

    def _executor(self, machine: Machine, program: Program) -> tuple[str, Callable[[int], None]]:
        if self.kernels != "numpy":
            try:
                return "native", _native(machine, program)
            except NativeUnavailable as error:
                if self.kernels == "native":
                    raise ConfigError(f"kernels='native': {error}") from error
        rows, kernels = program.rows.tolist(), NumpyKernels(machine)
        return "numpy", lambda index: kernels.execute(rows[index])


def _native(machine: Machine, program: Program) -> Callable[[int], None]:
    kernels, rows = NativeKernels(machine), np.ascontiguousarray(program.rows)
    base, step = rows.ctypes.data, rows.strides[0]

    def execute(index: int, _keep: Any = rows) -> None:
        kernels.execute(base + index * step)

    return execute


def _read(machine: Machine, name: str, place: Place) -> NDArray[Any]:
    where = slice(place.address, place.address + place.nbytes)
    if not machine.written["dram"][where].all():
        raise DeviceProgramError(f"the program ended without writing all of output {name!r}")
    return machine.memory["dram"][where].view(place.dtype).reshape(place.shape).copy()


def _counters(machine: Machine, program: Program) -> dict[str, int]:
    counters = {name: int(n) for name, n in zip(COUNTERS, machine.counters, strict=True)}
    counters.update({f"instructions_{f.name}": program.count(f.name) for f in FORMATS})
    return counters


def _code(status: Status) -> FaultCode:
    if status.name.startswith("UNWRITTEN"):
        return FaultCode.UNWRITTEN
    return FaultCode.VALUE if status in _VALUES else FaultCode.RANGE


class _Execution:
    """Queues and tokens of one run."""

    def __init__(
        self,
        program: Program,
        config: VTAConfig,
        priority: Sequence[str],
        execute: Callable[[int], None],
    ) -> None:
        self._program = program
        self._depth = config.queue_depth
        self._priority = priority
        self._execute = execute
        self._rows: list[list[int]] = program.rows.tolist()
        self._fetched = 0
        self._queues: dict[str, deque[int]] = {unit: deque() for unit in UNITS}
        self._tokens = dict.fromkeys(TOKEN_QUEUES, 0)

    def run(self) -> None:
        """Until FINISH; raises ``DeviceProgramError`` naming where units wait for ever."""
        while True:
            self._fetch()
            unit = next((u for u in self._priority if self._ready(u)), None)
            if unit is None:
                raise StreamError(self._deadlock(), FaultCode.DEADLOCK, self._first_waiting())
            while self._ready(unit):
                if self._step(unit):
                    return

    def _fetch(self) -> None:
        """In program order; a full queue stops the fetch unit, as on the device."""
        while self._fetched < len(self._rows):
            queue = self._queues[unit_of_row(self._rows[self._fetched])]
            if len(queue) == self._depth:
                return
            queue.append(self._fetched)
            self._fetched += 1

    def _ready(self, unit: str) -> bool:
        queue = self._queues[unit]
        return bool(queue) and not self._waits(unit, self._rows[queue[0]])

    def _waits(self, unit: str, row: Sequence[int]) -> str:
        """What keeps an instruction from executing; empty if nothing does."""
        if not any(row[FIRST_FLAG:FLAGS_END]):
            return ""
        for queue in pops(unit, row):
            if not self._tokens[queue]:
                return f"waits for a token from {queue[0]}"
        for queue in pushes(unit, row):
            if self._tokens[queue] == self._depth:
                return f"waits for room in the token queue to {queue[1]}"
        return ""

    def _step(self, unit: str) -> bool:
        """Execute the head of a queue; whether it was FINISH."""
        index = self._queues[unit].popleft()
        row = self._rows[index]
        flagged = any(row[FIRST_FLAG:FLAGS_END])
        for queue in pops(unit, row) if flagged else ():
            self._tokens[queue] -= 1
        if row[0] == FINISH.opcode:
            self._check_finished(index, row)
            return True
        try:
            self._execute(index)
        except Fault as fault:
            problem = self._describe(index, str(fault))
            raise StreamError(problem, _code(fault.status), index) from fault
        for queue in pushes(unit, row) if flagged else ():
            self._tokens[queue] += 1
        return False

    def _check_finished(self, index: int, row: Sequence[int]) -> None:
        busy = [f"instruction {queue[0]}" for queue in self._queues.values() if queue]
        if busy:
            problem = describe(index, row, f"ends before {', '.join(busy)}")
            raise StreamError(problem, FaultCode.TOKENS, index)
        left = [f"{count} from {a} to {b}" for (a, b), count in self._tokens.items() if count]
        if left or pushes("compute", row):
            problem = describe(index, row, f"tokens are left: {', '.join(left) or 'its own'}")
            raise StreamError(problem, FaultCode.TOKENS, index)

    def _describe(self, index: int, problem: str) -> str:
        layer = self._program.layer_of(index)
        text = describe(index, self._rows[index], problem)
        return f"{layer}: {text}" if layer else text

    def _first_waiting(self) -> int:
        return min((queue[0] for queue in self._queues.values() if queue), default=self._fetched)

    def _deadlock(self) -> str:
        heads = [
            describe(queue[0], self._rows[queue[0]], self._waits(unit, self._rows[queue[0]]))
            for unit, queue in sorted(self._queues.items(), key=lambda item: list(item[1])[:1])
            if queue
        ]
        return "deadlock: " + "; ".join(heads)
