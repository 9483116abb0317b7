"""Kernels in which a warp makes a row: every lane holds each 32nd element of it in registers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from schedules.cuda import words
from schedules.cuda.words import Expr

LANES = 32
WARPS = 4
WIDEST = 1024
"""Elements of a row that fit the registers of a warp."""


@dataclass(frozen=True)
class Row:
    """``each(i)`` gives the position of a lane's i-th element, and whether it exists."""

    base: Expr
    lane: Expr
    length: int

    @property
    def shares(self) -> int:
        """Elements of a lane."""
        return -(-self.length // LANES)

    def each(self, i: int) -> tuple[Expr, Expr]:
        """Position in the row, and whether there is one."""
        position = self.lane + LANES * i
        return position, words.below(position, self.length, self.shares * LANES)


@contextmanager
def rows(count: int, length: int) -> Iterator[Row]:
    """A launch with a warp for each of ``count`` rows."""
    blocks = -(-count // WARPS)
    with words.grid((blocks,), LANES * WARPS) as (block, thread):
        number = words.bind(block * WARPS + thread // LANES)
        lane = words.bind(thread % LANES)
        # All 32 lanes of a warp are in or out together.
        with words.when(words.below(number, count, blocks * WARPS)):
            yield Row(words.bind(number * length), lane, length)


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
