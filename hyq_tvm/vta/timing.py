"""The cycle model: when each instruction of a program runs, without computing anything.

Units overlap as tokens and queues allow; loads and stores share one DRAM port, whose latency
overlaps with the data of others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hyq_tvm.errors import DeviceProgramError
from hyq_tvm.vta.cycles import cost, steps
from hyq_tvm.vta.isa.table import BY_OPCODE, GEMM, REGISTER, SET, UNITS
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


class _Schedule:
    def __init__(self, program: Program) -> None:
        self._config = program.config
        self._rows: list[list[int]] = program.rows.tolist()
        self._queues: dict[str, deque[int]] = {unit: deque() for unit in UNITS}
        self._tokens: dict[tuple[str, str], deque[int]] = {q: deque() for q in TOKEN_QUEUES}
        self._free = dict.fromkeys(UNITS, 0)
        self._strides = {unit: [0, 0] for unit in ("load", "store")}
        self._dram_free = 0
        self._fetched = 0
        self._events: list[Event] = []

    def run(self) -> Timing:
        while self._fetched < len(self._rows) or any(self._queues.values()):
            self._fetch()
            starts = {u: s for u in UNITS if (s := self._start(u)) is not None}
            if not starts:
                raise DeviceProgramError("deadlock: run the functional simulator to see where")
            unit = min(starts, key=lambda u: (starts[u], UNITS.index(u)))
            self._execute(unit, starts[unit])
        products = sum(steps(row) for row in self._rows if row[0] == GEMM.opcode)
        cycles = max((event.end for event in self._events), default=0)
        return Timing(cycles, products, self._config.clock_mhz, tuple(self._events))

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
        return max([self._free[unit], *(tokens[0] for tokens in waits)])

    def _execute(self, unit: str, start: int) -> None:
        index = self._queues[unit].popleft()
        row = self._rows[index]
        for queue in pops(unit, row):
            self._tokens[queue].popleft()
        end = self._end(unit, row, start)
        self._free[unit] = end
        for queue in pushes(unit, row):
            self._tokens[queue].append(end)
        self._events.append(Event(index, BY_OPCODE[row[0]].name, unit, start, end))

    def _end(self, unit: str, row: Sequence[int], start: int) -> int:
        if row[0] == SET.opcode and row[SET.columns["register"]] in _STRIDES:
            owner, position = _STRIDES[row[SET.columns["register"]]]
            self._strides[owner][position] = row[SET.columns["value"]]
        y, x = self._strides.get(unit, (0, 0))
        taken = cost(row, (y, x), self._config)
        if not taken.beats:
            return start + taken.cycles
        data = max(start + taken.cycles - taken.beats, self._dram_free)
        self._dram_free = data + taken.beats
        return self._dram_free
