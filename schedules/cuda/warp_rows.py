"""Kernels in which lanes of a warp make a row, each of them with its share in registers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

from tvm import tirx

from schedules.cuda import words
from schedules.cuda.words import Expr
from schedules.llvm.choices import default_first

_WARP = 32
_MOST_SHARES = 32
WIDEST = _WARP * _MOST_SHARES
"""Elements of a row that fit the registers of a warp."""

_WARPS, _LANES = (4, 1, 2, 8), (32, 16, 8)


@dataclass(frozen=True)
class Choice:
    """``warps`` of a block; ``lanes`` of a warp that make a row."""

    warps: int
    lanes: int


OWN = Choice(_WARPS[0], _LANES[0])
"""The rules' own choice."""


def space(length: int) -> Sequence[Choice]:
    """Choices for rows of so many elements, the rules' own first."""
    lanes = [n for n in _LANES if -(-length // n) <= _MOST_SHARES]
    return default_first(OWN, (Choice(*both) for both in product(_WARPS, lanes)))


@dataclass(frozen=True)
class Row:
    """``each(i)`` gives the position of a lane's i-th element, and whether it exists.

    inside: whether the row is one of its own; others repeat the last one and write nothing.
    """

    base: Expr
    lane: Expr
    length: int
    lanes: int
    inside: Expr

    @property
    def shares(self) -> int:
        """Elements of a lane."""
        return -(-self.length // self.lanes)

    def each(self, i: int) -> tuple[Expr, Expr]:
        """Position in the row, and whether there is one."""
        position = self.lane + self.lanes * i
        return position, words.below(position, self.length, self.shares * self.lanes)

    def written(self, i: int) -> tuple[Expr, Expr]:
        """Position in the row, and whether this lane writes it."""
        position, exists = self.each(i)
        return position, words.every(exists, self.inside)


@contextmanager
def rows(count: int, length: int, choice: Choice) -> Iterator[Row]:
    """A launch with lanes for each of ``count`` rows."""
    threads, lanes = _WARP * choice.warps, choice.lanes
    blocks = -(-count * lanes // threads)
    most = blocks * threads // lanes
    with words.grid((blocks,), threads) as (block, thread):
        number = words.bind(block * (threads // lanes) + thread // lanes)
        lane = words.bind(thread % lanes)
        exists = words.below(number, count, most)
        if lanes == _WARP:
            # All lanes of a warp are in or out together.
            with words.when(exists):
                yield Row(words.bind(number * length), lane, length, lanes, True)
            return
        # Lanes exchange values with those of other rows' too: none may leave.
        held = number if exists is True else tirx.min(number, count - 1)
        yield Row(words.bind(held * length), lane, length, lanes, exists)


def guarded(row: Row, i: int, value: Callable[[Expr], Expr], otherwise: Expr) -> Expr:
    """``value(position)`` of a lane's i-th element, or ``otherwise`` where there is none."""
    position, exists = row.each(i)
    if exists is True:
        return words.bind(value(position))
    held = words.local(1)
    words.store(held, 0, otherwise)
    with words.when(exists):
        words.store(held, 0, value(position))
    return words.bind(held[0])
