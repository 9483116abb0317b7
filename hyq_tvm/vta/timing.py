"""The cycle model: when each instruction of a program runs, without computing anything.

Units overlap as tokens and queues allow; an instruction is fetched a cycle, or as fast as the bus
is wide. Loads and stores move piece by piece (``hyq_tvm.vta.port``), everything else takes what its
formula says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hyq_tvm.errors import DeviceProgramError
from hyq_tvm.vta.cycles import LOAD_START, STORE_START, steps
from hyq_tvm.vta.isa.table import BY_OPCODE, GEMM, LOAD, REGISTER, SET, STORABLE, STORE, UNITS
from hyq_tvm.vta.pieces import load_pieces, store_pieces
from hyq_tvm.vta.port import Load, Port, Store
from hyq_tvm.vta.program import Program
from hyq_tvm.vta.transfer import Transfer
from hyq_tvm.vta.units import TOKEN_QUEUES, pops, pushes, unit_of_row
from hyq_tvm.vta.writes import Computing

FAR = 1 << 62
INSTRUCTION_BYTES = 16
FETCH_AGAIN = 2
"""Cycles from when a full queue gives an instruction away to when it shows the next one."""

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


@dataclass(frozen=True, eq=False)
class _Task:
    """An instruction that has started; ``moving`` knows its end, where ``fixed`` does not."""

    index: int
    name: str
    unit: str
    start: int
    fixed: int = 0
    moving: Load | Store | None = None

    @property
    def end(self) -> int | None:
        """The cycle after it; None while a transfer is under way."""
        return self.moving.end if self.moving else self.fixed


class _Schedule:
    def __init__(self, program: Program) -> None:
        self._config = program.config
        self._rows: list[list[int]] = program.rows.tolist()
        self._queues: dict[str, deque[int]] = {unit: deque() for unit in UNITS}
        self._tokens: dict[tuple[str, str], deque[_Task]] = {q: deque() for q in TOKEN_QUEUES}
        self._last: dict[str, _Task] = {}
        self._strides = {unit: [0, 0] for unit in ("load", "store")}
        self._port = Port()
        self._computing = Computing(program)
        self._ready: list[int] = []
        self._fetch_free = 0
        self._fetch_cycles = max(1, INSTRUCTION_BYTES // self._config.bus_bytes)
        self._tasks: list[_Task] = []

    def run(self) -> Timing:
        while len(self._tasks) < len(self._rows) or self._port.busy:
            self._fetch()
            starts = {u: s for u in UNITS if (s := self._start(u)) is not None}
            if not starts and not self._port.busy:
                raise DeviceProgramError("deadlock: run the functional simulator to see where")
            unit = min(starts, key=lambda u: (starts[u], UNITS.index(u)), default="")
            if not self._port.advance(starts[unit] if unit else FAR):
                self._execute(unit, starts[unit])
        products = sum(steps(row) for row in self._rows if row[0] == GEMM.opcode)
        events = tuple(Event(t.index, t.name, t.unit, t.start, t.end or 0) for t in self._tasks)
        cycles = max((event.end for event in events), default=0)
        return Timing(cycles, products, self._config.clock_mhz, events)

    def _fetch(self) -> None:
        """A word of the bus a cycle; a full queue holds up all behind it."""
        while (fetched := len(self._ready)) < len(self._rows):
            queue = self._queues[unit_of_row(self._rows[fetched])]
            if len(queue) == self._config.queue_depth:
                return
            queue.append(fetched)
            self._ready.append(self._fetch_free)
            self._fetch_free += self._fetch_cycles

    def _start(self, unit: str) -> int | None:
        """When the head of a queue can start; None while tokens are missing or an end unknown."""
        if not self._queues[unit]:
            return None
        index = self._queues[unit][0]
        waits = [self._tokens[queue] for queue in pops(unit, self._rows[index])]
        if not all(waits):
            return None
        before = [self._last[unit]] if unit in self._last else []
        ends = [task.end for task in (*before, *(w[0] for w in waits))]
        known = [end for end in ends if end is not None]
        return max(self._ready[index], *known, 0) if len(known) == len(ends) else None

    def _execute(self, unit: str, start: int) -> None:
        if len(self._queues[unit]) == self._config.queue_depth:
            self._fetch_free = max(self._fetch_free, start + FETCH_AGAIN)
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
        name = BY_OPCODE[row[0]].name
        if row[0] in (LOAD.opcode, STORE.opcode):
            move = Transfer.of(row, *self._strides[unit])
            moving = self._load(move, start) if unit == "load" else self._store(move, start)
            return _Task(index, name, unit, start, moving=moving)
        if row[0] == SET.opcode and row[SET.columns["register"]] in _STRIDES:
            owner, position = _STRIDES[row[SET.columns["register"]]]
            self._strides[owner][position] = row[SET.columns["value"]]
        end = start + self._computing.cycles(row)
        if unit == "compute" and (writes := self._computing.writes(row, start, end)):
            self._port.computes(writes)
        return _Task(index, name, unit, start, end)

    def _load(self, move: Transfer, start: int) -> Load:
        if move.memory == "UOP":
            self._computing.load_uops(move)
        pieces = load_pieces(move, self._config.block, self._config.bus_bytes)
        begin = start + LOAD_START + self._config.dram_latency
        memory = "inp" if move.memory == "INP" else "acc" if move.memory in STORABLE else ""
        self._port.load = Load(pieces, begin, memory, move.sram)
        return self._port.load

    def _store(self, move: Transfer, start: int) -> Store:
        count = store_pieces(move, self._config.block, self._config.bus_bytes)
        self._port.store = Store(count, start + STORE_START, self._config.dram_latency)
        return self._port.store
