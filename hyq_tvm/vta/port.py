"""Loads and stores piece by piece: they share the DRAM port, and a load gives way to computing.

A load's data comes ``latency`` cycles after it began. Where both units want the port, they take
turns. A load whose entry lies in the bank that the compute unit writes in this cycle waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.vta.pieces import Pieces

NO_BANK = 255

Banks = NDArray[np.uint8]


def bank(entries: NDArray[np.int64]) -> Banks:
    """Of accumulator entries: pairs of an entry's bits, added without carry."""
    result = np.zeros(entries.shape, np.int64)
    rest = entries
    while rest.any():
        result ^= rest & 3
        rest = rest >> 2
    return result.astype(np.uint8)


@dataclass(eq=False)
class Load:
    """A load under way, whose first data comes in cycle ``begin``.

    first: the entry that it begins with. memory: ``"acc"``, ``"inp"`` or nothing that the compute
    unit writes. next: the piece that comes next.
    """

    pieces: Pieces
    begin: int
    memory: str = ""
    first: int = 0
    next: int = 0
    end: int | None = None

    @cached_property
    def banks(self) -> list[int]:
        """The bank that each piece writes; the input buffer is one bank."""
        entries = self.pieces.entries + self.first
        banks = bank(entries) if self.memory == "acc" else np.zeros(entries.shape, np.uint8)
        return [int(found) for found in np.where(self.pieces.done, banks, NO_BANK)]

    @cached_property
    def beats(self) -> list[bool]:
        """Which pieces need the port."""
        return [bool(beat) for beat in self.pieces.beats]


@dataclass(eq=False)
class Store:
    """A store whose first piece comes in cycle ``begin``; it ends ``after`` its last one."""

    left: int
    begin: int
    after: int
    end: int | None = None


@dataclass(frozen=True, eq=False)
class Writes:
    """What the compute unit writes into ``memory`` from cycle ``begin`` to before ``end``.

    make: the bank of each of these cycles; ``NO_BANK`` where it writes nothing. Called if a load
    meets it.
    """

    memory: str
    begin: int
    end: int
    make: Callable[[], Banks]

    @cached_property
    def banks(self) -> bytes:
        """What ``make`` gives."""
        return self.make().tobytes()


@dataclass(eq=False)
class Port:
    """One beat a cycle. Cycles before ``now`` have passed."""

    now: int = 0
    load: Load | None = None
    store: Store | None = None
    _writes: deque[Writes] = field(default_factory=deque)
    _was_read: bool = False

    @property
    def busy(self) -> bool:
        """Whether a transfer is under way."""
        return self.load is not None or self.store is not None

    def computes(self, writes: Writes) -> None:
        """Tell what an instruction of the compute unit will write; later ones come later."""
        self._writes.append(writes)

    def advance(self, until: int) -> bool:
        """Go on to cycle ``until``, or until a transfer's end is known: whether one is."""
        while self.now < until and self.busy:
            while self._writes and self._writes[0].end <= self.now:
                self._writes.popleft()
            if self._step(self._limit(until)):
                return True
        self.now = max(self.now, until)
        return False

    def _limit(self, until: int) -> int:
        """The next cycle in which something begins or ends."""
        marks = [until, *(moving.begin for moving in (self.load, self.store) if moving)]
        if self._writes:
            marks += [self._writes[0].begin, self._writes[0].end]
        return min(mark for mark in marks if mark > self.now)

    def _step(self, limit: int) -> bool:
        load = self.load if self.load and self.load.begin <= self.now else None
        store = self.store if self.store and self.store.begin <= self.now else None
        if load is None:
            self._drain(store, limit)
        elif self._meets(load):
            self._contend(load, store, limit)
        elif store is None:
            self._fill(load, limit - self.now)
        else:
            self._alternate(load, store, limit - self.now)
        return self._ended()

    def _meets(self, load: Load) -> bool:
        found = self._writes and self._writes[0].begin <= self.now
        return bool(found) and self._writes[0].memory == load.memory

    def _drain(self, store: Store | None, limit: int) -> None:
        """A store alone, or nothing at all."""
        taken = limit - self.now
        if store is not None:
            taken = min(taken, store.left)
            store.left -= taken
            self._was_read = False
        self.now += taken

    def _fill(self, load: Load, cycles: int) -> None:
        """A load alone."""
        before = load.next
        load.next = min(before + cycles, len(load.pieces))
        self.now += load.next - before
        beats = load.pieces.beats_before
        self._was_read |= bool(beats[load.next] > beats[before])

    def _alternate(self, load: Load, store: Store, cycles: int) -> None:
        """Turns, for as many whole pieces of the load as leave something of the store."""
        pieces, at = load.pieces, load.next
        late = int(self._was_read and pieces.beats[at])
        turns = pieces.turns_before[at + 1 :] - pieces.turns_before[at + 1] + late
        taken = np.arange(1, len(turns) + 1) + turns
        stored = taken - (pieces.beats_before[at + 1 :] - pieces.beats_before[at])
        count = min(np.searchsorted(taken, cycles, "right"), np.searchsorted(stored, store.left))
        if count == 0:
            load.next += not pieces.beats[at]
            self._drain(store, self.now + 1)
            return
        self.now += int(taken[count - 1])
        store.left -= int(stored[count - 1])
        load.next += int(count)
        self._was_read = bool(pieces.beats[load.next - 1])

    def _contend(self, load: Load, store: Store | None, limit: int) -> None:
        """Cycle by cycle beside a computing instruction that writes the same memory."""
        written, offset = self._writes[0].banks, self._writes[0].begin
        beats, banks, count = load.beats, load.banks, len(load.pieces)
        left, at, now, was_read = store.left if store else 0, load.next, self.now, self._was_read
        wanted = left > 0
        while now < limit and at < count and (left > 0 or not wanted):
            moves = banks[at] == NO_BANK or banks[at] != written[now - offset]
            reads = moves and beats[at] and not (left > 0 and was_read)
            if reads:
                was_read = True
            elif left > 0:
                left -= 1
                was_read = False
            if moves and (reads or not beats[at]):
                at += 1
            now += 1
        self.now, load.next, self._was_read = now, at, was_read
        if store:
            store.left = left

    def _ended(self) -> bool:
        """Take away what has ended."""
        before = (self.load, self.store)
        if self.load and self.load.next == len(self.load.pieces):
            self.load.end, self.load = self.now, None
        if self.store and self.store.left == 0:
            self.store.end, self.store = self.now + self.store.after, None
        return before != (self.load, self.store)
