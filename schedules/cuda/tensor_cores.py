"""Products on integer tensor cores: ``out[m, n] = epilogue(sum_k a[m, k] * b[n, k])``.

A block of threads makes a tile of the result. Slices of both operands come to shared memory in a
ring of stages, where the card can while the slices before them are multiplied (cp.async); warps
read them as matrices (ldmatrix) and multiply 16x32 by 32x8 bytes at once (mma). A warp's columns
are dealt out such that every lane ends up with neighbouring channels of its rows, and stores whole
words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from schedules.cuda import words
from schedules.cuda.finish import Finisher
from schedules.cuda.gather import Rows
from schedules.cuda.tiles import LANES, Tile
from schedules.cuda.words import Buffer, Expr

_STEP = 32


@dataclass(frozen=True)
class Operand:
    """Rows of bytes in a buffer; base: where they start."""

    rows: Rows
    buffer: Buffer
    base: Expr
    fill: Buffer


class TileProduct:
    """The code of one tile."""

    def __init__(self, tile: Tile, depth: int) -> None:
        self._tile = tile
        self._slices = -(-depth // tile.slice)
        self._stages = min(tile.stages, self._slices)
        self._reach = self._slices * tile.slice

    def emit(
        self,
        a: Operand,
        b: Operand,
        first: tuple[Expr, Expr],
        thread: Expr,
        finisher: Finisher,
        out: tuple[Expr, int, int],
    ) -> None:
        """``first``: the tile's first row and column. ``out``: base, rows, columns of the whole."""
        tile = self._tile
        self._left = words.shared(self._stages * tile.rows * tile.pitch)
        self._right = words.shared(self._stages * tile.columns * tile.pitch)
        copies = [
            self._copies(a, self._left, tile.rows, first[0], thread, lambda row: row),
            self._copies(b, self._right, tile.columns, first[1], thread, self._dealt),
        ]
        lane, warp = words.bind(thread % LANES), words.bind(thread // LANES)
        down, across = words.bind(warp // tile.warps_across), words.bind(warp % tile.warps_across)
        channel = words.bind(first[1] + (across * 4 + lane % 4) * (2 * tile.across))
        sums = self._sums(finisher, channel)
        self._multiply(copies, sums, lane, down, across)
        row = words.bind(first[0] + down * (16 * tile.down) + lane // 4)
        self._finish(sums, finisher, row, channel, out)

    def _dealt(self, slot: Expr) -> Expr:
        """Which column of the tile lies in a slot of shared memory: lane t of a warp's row gets
        the sums of slots 8f + 2t and 8f + 2t + 1 of every fragment f, which shall be neighbours.
        """
        wide = 8 * self._tile.across
        group, inside = slot // wide, slot % wide
        fragment, place = inside // 8, inside % 8
        return group * wide + (place // 2) * (2 * self._tile.across) + fragment * 2 + place % 2

    def _copies(
        self,
        operand: Operand,
        target: Buffer,
        rows: int,
        first: Expr,
        thread: Expr,
        dealt: Callable[[Expr], Expr],
    ) -> Callable[[Expr, Expr], None]:
        """``copy(number, stage)``: this thread's share of a slice on its way to shared memory."""
        chunk, pitch = operand.rows.chunk, self._tile.pitch
        each, threads = self._tile.slice // chunk, self._tile.threads
        shares = -(-rows * each // threads)
        places = []
        for i in range(shares):
            slot = words.bind((thread + i * threads) // each)
            places.append((slot, operand.rows.place(first + dealt(slot))))
        byte = words.bind(thread % each * chunk)

        def copy(number: Expr, stage: Expr) -> None:
            for slot, place in places:
                # Threads are a multiple of a row's chunks, so that a thread stays in its column.
                k = number * self._tile.slice + byte
                offset, exists = operand.rows.address(place, k, self._reach)
                to = words.at(target, stage * (rows * pitch) + slot * pitch + byte)
                with words.when(words.below(slot, rows, shares * threads // each)):
                    source = words.at(operand.buffer, operand.base + offset)
                    if exists is True:
                        words.call(f"hyq_copy_{chunk}", to, source)
                    else:
                        spare = words.at(operand.fill, 0)
                        words.call(f"hyq_copy_or_{chunk}", to, source, spare, exists)

        return copy

    def _sums(self, finisher: Finisher, channel: Expr) -> Buffer:
        """``[down][across][4]``; all start where their channel's sum does."""
        tile = self._tile
        sums = words.local(tile.down * tile.across * 4)
        for fragment in range(tile.across):
            for side in range(2):
                start = words.bind(finisher.start(channel + 2 * fragment + side))
                for i in range(tile.down):
                    for half in range(2):
                        at = (i * tile.across + fragment) * 4 + 2 * half + side
                        words.store(sums, at, start)
        return sums

    def _multiply(
        self,
        copies: Sequence[Callable[[Expr, Expr], None]],
        sums: Buffer,
        lane: Expr,
        down: Expr,
        across: Expr,
    ) -> None:
        ahead = self._stages - 1
        for number in range(ahead):
            self._fetch(copies, number, number)
        if not ahead:
            self._fetch(copies, 0, 0)
        with words.loop(self._slices) as number:
            words.call(f"hyq_copy_wait_{max(0, ahead - 1)}")
            words.barrier()
            if ahead:
                following = words.bind(number + ahead)
                with words.when(following < self._slices):
                    for copy in copies:
                        copy(following, words.bind(following % self._stages))
                words.call("hyq_copy_commit")
            stage = words.bind(number % self._stages)
            for step in range(self._tile.slice // _STEP):
                self._step(stage, step, sums, lane, down, across)

    def _fetch(
        self, copies: Sequence[Callable[[Expr, Expr], None]], number: int, stage: int
    ) -> None:
        for copy in copies:
            copy(words.const(number), words.const(stage))
        words.call("hyq_copy_commit")

    def _step(
        self, stage: Expr, step: int, sums: Buffer, lane: Expr, down: Expr, across: Expr
    ) -> None:
        """32 bytes of the reduction: matrices from shared memory, then all their products."""
        tile = self._tile
        left, right = words.local(tile.down * 4), words.local(tile.across * 2)
        for i in range(tile.down):
            row = down * (16 * tile.down) + 16 * i + lane % 16
            at = (stage * tile.rows + row) * tile.pitch + step * _STEP + lane // 16 * 16
            words.call("hyq_load_matrices", words.at(left, 4 * i), words.at(self._left, at))
        for i in range(0, tile.across, 2):
            row = across * (8 * tile.across) + 8 * i + lane // 16 * 8 + lane % 8
            at = (stage * tile.columns + row) * tile.pitch + step * _STEP + lane // 8 % 2 * 16
            words.call("hyq_load_matrices", words.at(right, 2 * i), words.at(self._right, at))
        for i in range(tile.down):
            for j in range(tile.across):
                words.call(
                    "hyq_mma",
                    words.at(sums, (i * tile.across + j) * 4),
                    words.at(left, 4 * i),
                    words.at(right, 2 * j),
                )

    def _finish(
        self,
        sums: Buffer,
        finisher: Finisher,
        row: Expr,
        channel: Expr,
        out: tuple[Expr, int, int],
    ) -> None:
        tile, (base, rows, columns) = self._tile, out
        values, places, inside = [], [], []
        width = 2 * tile.across
        for i in range(tile.down):
            for half in range(2):
                number = row + 16 * i + 8 * half
                values.append(
                    [
                        sums[(i * tile.across + fragment) * 4 + 2 * half + side]
                        for fragment in range(tile.across)
                        for side in range(2)
                    ]
                )
                places.append(words.bind(base + number * columns + channel))
                reach = -(-rows // tile.rows) * tile.rows
                inside.append(words.below(number, rows, reach))
        whole = columns % width == 0
        reach = -(-columns // tile.columns) * tile.columns

        def count(i: int) -> Any:
            return words.below(channel + i, columns, reach)

        finisher.finish(values, channel, places, inside, count, whole)
