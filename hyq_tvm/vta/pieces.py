"""How the load and the store unit cut a transfer: pieces of one word of the bus and one entry.

A piece takes a cycle. One that begins a word of the bus needs a beat of the DRAM port; a load asks
once for a word that several pieces are in. An entry of padding is a piece without a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.vta.isa.table import ELEMENT_BYTES, FLAT, MATRICES
from hyq_tvm.vta.transfer import Transfer

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Pieces:
    """beats: which pieces of a load need the port. done: which complete an entry; ``[pieces]``."""

    beats: Flags
    done: Flags

    def __len__(self) -> int:
        return len(self.beats)

    @cached_property
    def beats_before(self) -> NDArray[np.int64]:
        """Beats of the first ``i`` pieces, ``[pieces + 1]``."""
        return np.concatenate([[0], np.cumsum(self.beats)])

    @cached_property
    def turns_before(self) -> NDArray[np.int64]:
        """Of the first ``i`` pieces, those that take a beat right after the one before did."""
        return np.concatenate([[0, 0], np.cumsum(self.beats[1:] & self.beats[:-1])])

    @cached_property
    def entries(self) -> NDArray[np.int64]:
        """Which entry, counted from the transfer's first, each piece is a part of."""
        return np.cumsum(self.done) - self.done


def load_pieces(move: Transfer, block: int, bus: int) -> Pieces:
    """Of a LOAD."""
    return _cut(_shape(move, bus), _entry_bytes(move.memory, block), bus)


def store_pieces(move: Transfer, block: int, bus: int) -> int:
    """How many a STORE has; each of them takes a beat."""
    return len(_cut(_shape(move, bus), _entry_bytes(move.memory, block), bus))


def _entry_bytes(memory: str, block: int) -> int:
    """DRAM bytes that fill an entry; of matrices, a row of one."""
    size = ELEMENT_BYTES[memory]
    return size if memory in FLAT and memory != "PRM" else size * block


@dataclass(frozen=True)
class _Shape:
    """What the cutting of a transfer depends on."""

    offset: int
    y: int
    x: int
    y_stride: int
    x_stride: int
    run_bytes: int
    pads: tuple[int, int, int, int]


def _shape(move: Transfer, bus: int) -> _Shape:
    pads = (0, 0, 0, 0) if move.memory in (*MATRICES, *FLAT) else move.pads
    return _Shape(
        move.dram % bus, move.y, move.x, move.y_stride, move.x_stride, move.run_bytes, pads
    )


@lru_cache(maxsize=4096)
def _cut(shape: _Shape, entry: int, bus: int) -> Pieces:
    rows, columns = np.arange(shape.y)[:, None], np.arange(shape.x)
    start = (shape.offset + rows * shape.y_stride + columns * shape.x_stride).reshape(-1)
    patterns = {o: _run(o, shape.run_bytes, entry, bus) for o in set((start % bus).tolist())}
    runs = [patterns[o] for o in (start % bus).tolist()]
    beats = np.concatenate([beat for beat, _ in runs])
    done = np.concatenate([finished for _, finished in runs])
    first = np.cumsum([0, *(len(beat) for beat, _ in runs[:-1])])
    last = (start + shape.run_bytes - 1) // bus
    beats[first[1:]] = start[1:] // bus != last[:-1]
    return _padded(Pieces(beats, done), shape, first, -(-shape.run_bytes // entry))


def _run(offset: int, run_bytes: int, entry: int, bus: int) -> tuple[Flags, Flags]:
    """Beats and completed entries of a run that begins ``offset`` bytes into a word."""
    cuts = np.union1d(np.arange(bus - offset, run_bytes, bus), np.arange(entry, run_bytes, entry))
    begin, end = np.concatenate([[0], cuts]), np.concatenate([cuts, [run_bytes]])
    words = (offset + begin) // bus
    beats = np.concatenate([[True], words[1:] != words[:-1]])
    return beats, (end % entry == 0) | (end == run_bytes)


def _padded(inner: Pieces, shape: _Shape, first: NDArray[np.int64], each: int) -> Pieces:
    """With the entries of padding around and between rows; a run has ``each`` entries."""
    top, bottom, left, right = shape.pads
    if not any(shape.pads):
        return inner
    row = (left + shape.x + right) * each
    ends = [*first[:: shape.x][1:].tolist(), len(inner)]
    places = [0] * (top * row)
    for begin, end in zip(first[:: shape.x].tolist(), ends, strict=True):
        places += [begin] * (left * each) + [end] * (right * each)
    places += [len(inner)] * (bottom * row)
    return Pieces(np.insert(inner.beats, places, False), np.insert(inner.done, places, True))
