"""The cycle model: when each instruction of a program runs, without computing anything.

Units overlap as tokens and queues allow; loads and stores share one DRAM port, whose latency
overlaps with the data of others. A load waits for its first data, a store for its confirmation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hyq_tvm.errors import DeviceProgramError
from hyq_tvm.vta.cycles import cost, steps
from hyq_tvm.vta.isa.table import BY_OPCODE, GEMM, REGISTER, SET, UNITS
from hyq_tvm.vta.port import Burst, Port
from hyq_tvm.vta.program import Program
from hyq_tvm.vta.units import TOKEN_QUEUES, pops, pushes, unit_of_row

_STRIDES = {
    REGISTER[f"{unit.upper()}_{axis}_STRIDE"]: (unit, position)
    for unit in ("load", "store")
    for position, axis in enumerate("YX")
}


@dataclass(frozen=True)
class Event:
    """Instruction ``index`` keeps ``unit`` busy from cycle ``start`` to ``end``."""

    index: int
    name: str
    unit: str
    start: int
    end: int


@dataclass(frozen=True)
class Timing:
    """A program's schedule.

    cycles: of the whole program. products: cycles in which the multiplier array has work.
    """

    cycles: int
    products: int
    clock_mhz: int
    events: tuple[Event, ...]

    @property
    def milliseconds(self) -> float:
        """At the clock of the architecture record."""
        return self.cycles / self.clock_mhz / 1000

    @property
    def busy(self) -> Mapping[str, int]:
        """Cycles by instruction."""
        total: dict[str, int] = {}
        for event in self.events:
            total[event.name] = total.get(event.name, 0) + event.end - event.start
        return total

    @property
    def product_utilisation(self) -> float:
        """Steps of GEMM instructions over the cycles that they take."""
        return self.products / max(self.busy.get("GEMM", 0), 1)

    @property
    def utilisation(self) -> float:
        """Steps of GEMM instructions over all cycles."""
        return self.products / max(self.cycles, 1)


def time_program(program: Program) -> Timing:
    """Schedule a program; raises ``DeviceProgramError`` where its tokens deadlock."""
    return _Schedule(program).run()


@dataclass(frozen=True)
class _Task:
    """An instruction that was scheduled. Its end moves while another one shares the port with it.

    least: its end if it had the port for itself. after: cycles from its last beat to its end.
    """

    index: int
    name: str
    unit: str
    start: int
    least: int
    burst: Burst | None = None
    after: int = 0

    @property
    def end(self) -> int:
        return max(self.least, self.burst.end + self.after) if self.burst else self.least


class _Schedule:
    def __init__(self, program: Program) -> None:
        self._config = program.config
        self._rows: list[list[int]] = program.rows.tolist()
        self._queues: dict[str, deque[int]] = {unit: deque() for unit in UNITS}
        self._tokens: dict[tuple[str, str], deque[_Task]] = {q: deque() for q in TOKEN_QUEUES}
        self._last: dict[str, _Task] = {}
        self._strides = {unit: [0, 0] for unit in ("load", "store")}
        self._port = Port()
        self._fetched = 0
        self._tasks: list[_Task] = []

    def run(self) -> Timing:
        while self._fetched < len(self._rows) or any(self._queues.values()):
            self._fetch()
            starts = {u: s for u in UNITS if (s := self._start(u)) is not None}
            if not starts:
                raise DeviceProgramError("deadlock: run the functional simulator to see where")
            unit = min(starts, key=lambda u: (starts[u], UNITS.index(u)))
            self._execute(unit, starts[unit])
        products = sum(steps(row) for row in self._rows if row[0] == GEMM.opcode)
        events = tuple(Event(t.index, t.name, t.unit, t.start, t.end) for t in self._tasks)
        cycles = max((event.end for event in events), default=0)
        return Timing(cycles, products, self._config.clock_mhz, events)

    def _fetch(self) -> None:
        """Fetching is taken to be faster than execution; full queues hold it up."""
        while self._fetched < len(self._rows):
            queue = self._queues[unit_of_row(self._rows[self._fetched])]
            if len(queue) == self._config.queue_depth:
                return
            queue.append(self._fetched)
            self._fetched += 1

    def _start(self, unit: str) -> int | None:
        """When the head of a queue can start; None while tokens are missing."""
        if not self._queues[unit]:
            return None
        row = self._rows[self._queues[unit][0]]
        waits = [self._tokens[queue] for queue in pops(unit, row)]
        if not all(waits):
            return None
        before = [self._last[unit]] if unit in self._last else []
        return max((task.end for task in (*before, *(w[0] for w in waits))), default=0)

    def _execute(self, unit: str, start: int) -> None:
        index = self._queues[unit].popleft()
        row = self._rows[index]
        for queue in pops(unit, row):
            self._tokens[queue].popleft()
        task = self._task(index, unit, row, start)
        self._last[unit] = task
        for queue in pushes(unit, row):
            self._tokens[queue].append(task)
        self._tasks.append(task)

    def _task(self, index: int, unit: str, row: Sequence[int], start: int) -> _Task:
        if row[0] == SET.opcode and row[SET.columns["register"]] in _STRIDES:
            owner, position = _STRIDES[row[SET.columns["register"]]]
            self._strides[owner][position] = row[SET.columns["value"]]
        y, x = self._strides.get(unit, (0, 0))
        taken = cost(row, (y, x), self._config)
        name, least = BY_OPCODE[row[0]].name, start + taken.cycles
        if not taken.beats:
            return _Task(index, name, unit, start, least)
        latency = self._config.dram_latency
        before, after = (latency, 0) if unit == "load" else (0, latency)
        burst = self._port.take(unit, start + before, taken.beats)
        return _Task(index, name, unit, start, least, burst, after)
