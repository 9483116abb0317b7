"""Fused attention in one kernel: scores and values on tensor cores, nothing between them in memory.

A warp makes 16 rows. It goes over the keys twice: once for the true maximum of its rows (AT3: no
rescaling on the way), once for weights, their sums and their products with v. Requantization is
monotone, so that the maximum is taken of raw scores and requantized once. Weights leave the scores'
fragments as the other product wants them: that the keys of a lane are not neighbours is made good
by the order in which v comes to shared memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import tirx

from hyq_tvm.numerics.constants import MASKED
from hyq_tvm.numerics.reference.attention import EXCLUDED, LOGIT_LIMIT
from hyq_tvm.numerics.softmax_tables import weight_octaves
from schedules.cuda import words
from schedules.cuda.attention_out import RowEnd
from schedules.cuda.attention_sizes import PAD, ROWS, STEP, Choice, Sizes, is_ours, own_choice
from schedules.cuda.exponential import line_of, looked_up
from schedules.cuda.gather import Rows
from schedules.cuda.tiles import LANES
from schedules.cuda.words import Buffer, Expr
from schedules.llvm.stages import NarrowForm, narrow_form
from schedules.prim_func import prim_func
from schedules.rule import Constant, Kernel, Workload, passed_specs


def schedule(workload: Workload, target: Any, choice: Choice | None = None) -> Kernel | None:
    """Kinds with a table, up to 128 elements a head."""
    if not is_ours(workload):
        return None
    return Attention(workload, Sizes.of(workload, choice or own_choice(workload))).kernel()


class Attention:
    """The kernel of one workload."""

    def __init__(self, workload: Workload, sizes: Sizes) -> None:
        params = workload.params
        self._workload = workload
        self._sizes = sizes
        self._threads = LANES * sizes.warps
        self._planes = int(params["weight_bits"]) // 8
        self._bits = int(params["fraction_bits"])
        self._limit = weight_octaves(int(params["weight_bits"])) << self._bits
        self._table = workload.constant(5)
        self._line = line_of(self._table, self._bits)
        self._has_bias = bool(params["has_bias"])
        self._multiplier = int(workload.constant(3)[0])
        self._shift = int(workload.constant(4)[0])
        self._form = None if self._has_bias else self._narrow()

    def _narrow(self) -> NarrowForm | None:
        """R32 in 32 bits where no saturation of AT2 can act."""
        bound = self._sizes.depth * 128 * 128
        if (bound * self._multiplier) >> self._shift >= LOGIT_LIMIT:
            return None
        limit, m, s = (np.array([n], np.int64) for n in (bound, self._multiplier, self._shift))
        return narrow_form(limit, m, s, 0)

    def kernel(self) -> Kernel:
        """The scheduled PrimFunc and its arguments."""
        sizes = self._sizes
        arguments: list[int | Constant] = [0, 1, 2, Constant(np.zeros(16, np.int8))]
        arguments += [] if self._line else [Constant(self._table)]
        arguments += [6] if self._has_bias else []
        name = f"attention_{sizes.batch}x{sizes.rows}x{sizes.keys}x{sizes.depth}x{sizes.values}"
        specs = passed_specs(self._workload, arguments)
        function = prim_func(name, specs, self._workload.output, self._body)
        return Kernel(name, function, tuple(arguments))

    def _body(self, q: Buffer, k: Buffer, v: Buffer, zeros: Buffer, *rest: Buffer) -> None:
        sizes = self._sizes
        self._zeros = zeros
        self._bias = rest[-2] if self._has_bias else None
        blocks = -(-sizes.rows // (ROWS * sizes.warps))
        with words.grid((blocks, sizes.batch), self._threads) as (block, sample, thread):
            self._sample, self._thread = sample, thread
            self._lane = words.bind(thread % LANES)
            self._warp = words.bind(thread // LANES)
            self._first = words.bind(block * (ROWS * sizes.warps))
            self._row = words.bind(self._first + self._warp * ROWS + self._lane // 4)
            self._memory(rest)
            query = self._query(q)
            self._tops(k, query)
            sums, totals = self._weighted(k, v, query)
            RowEnd(self._workload.params, sizes.rows, sizes.values, self._planes).emit(
                rest[-1], sample, self._row, self._lane, sums, totals
            )

    def _memory(self, rest: Sequence[Buffer]) -> None:
        sizes = self._sizes
        self._queries = words.shared(ROWS * sizes.warps * sizes.pitch)
        self._keys = words.shared(sizes.span * sizes.pitch)
        self._values = words.shared(8 * sizes.fragments * (sizes.span + PAD))
        if self._line:
            return
        dtype, entries = str(self._table.dtype), len(self._table)
        self._entries = words.shared(entries, dtype)
        for start in range(0, entries, self._threads):
            index = words.bind(self._thread + start)
            with words.when(words.below(index, entries, start + self._threads)):
                words.store(self._entries, index, rest[0][index])

    def _copy(self, buffer: Buffer, count: int, target: Buffer, first: Expr, rows: int) -> None:
        """``rows`` rows of q or k from ``first`` on, with zeros behind their ends."""
        sizes = self._sizes
        source = Rows(count, sizes.depth)
        chunk, reach = source.chunk, sizes.steps * STEP
        each = reach // chunk
        base = words.bind(self._sample * (count * sizes.depth))
        for start in range(0, rows * each, self._threads):
            share = words.bind(self._thread + start)
            slot, byte = words.bind(share // each), words.bind(share % each * chunk)
            with words.when(words.below(share, rows * each, start + self._threads)):
                offset, exists = source.address(source.place(first + slot), byte, reach)
                to = words.at(target, slot * sizes.pitch + byte)
                found = words.at(buffer, base + offset)
                if exists is True:
                    words.call(f"hyq_copy_{chunk}", to, found)
                else:
                    words.call(f"hyq_copy_or_{chunk}", to, found, words.at(self._zeros, 0), exists)

    def _arrived(self) -> None:
        words.call("hyq_copy_commit")
        words.call("hyq_copy_wait_0")
        words.barrier()

    def _query(self, q: Buffer) -> Buffer:
        """The fragments of a warp's 16 rows of q, for good."""
        sizes = self._sizes
        self._copy(q, sizes.rows, self._queries, self._first, ROWS * sizes.warps)
        self._arrived()
        fragments = words.local(4 * sizes.steps)
        for step in range(sizes.steps):
            row = self._warp * ROWS + self._lane % 16
            at = row * sizes.pitch + step * STEP + self._lane // 16 * 16
            words.call("hyq_load_matrices", words.at(fragments, 4 * step),
                       words.at(self._queries, at))  # fmt: skip
        return fragments

    def _scores(self, query: Buffer, chunk: Expr) -> Buffer:
        """AT1 for 16 rows and 32 keys: ``[fragment of 8 keys][4]``."""
        sizes = self._sizes
        scores, keys = words.local(16), words.local(4)
        for i in range(16):
            words.store(scores, i, words.const(0))
        for pair in range(0, 4, 2):
            for step in range(sizes.steps):
                row = chunk * 32 + 8 * pair + self._lane // 16 * 8 + self._lane % 8
                at = row * sizes.pitch + step * STEP + self._lane // 8 % 2 * 16
                words.call("hyq_load_matrices", words.at(keys, 0), words.at(self._keys, at))
                for side in range(2):
                    words.call("hyq_mma", words.at(scores, 4 * (pair + side)),
                               words.at(query, 4 * step), words.at(keys, 2 * side))  # fmt: skip
        return scores

    def _total(self, scores: Buffer, i: int, first: Expr) -> tuple[Expr, Expr]:
        """A score with its bias, and whether the pair takes part; ``first``: key of the chunk."""
        sizes = self._sizes
        fragment, half, side = i // 4, i // 2 % 2, i % 2
        key = words.bind(first + 8 * fragment + self._lane % 4 * 2 + side)
        takes_part = words.below(key, sizes.keys, sizes.spans * sizes.span)
        if self._bias is None:
            return scores[i], takes_part
        samples, rows, keys = self._workload.arguments[6].shape
        row = tirx.min(self._row + 8 * half, rows - 1)
        place = ((self._sample % samples) * rows + row) * keys + tirx.min(key, keys - 1)
        extra = words.bind(self._bias[place])
        kept = extra > words.const(MASKED)
        total = words.bind(scores[i] + tirx.max(extra, words.const(MASKED)))
        return total, words.every(takes_part, kept)

    def _logit(self, total: Expr) -> Expr:
        """AT2."""
        form = self._form
        if form is not None:
            shifted = total << words.const(form.pre_shift) if form.pre_shift else total
            high = words.value("hyq_high_product", shifted, words.const(self._multiplier))
            return words.bind((high + int(form.rounding[0])) >> words.const(int(form.shift[0])))
        factors = words.const(self._multiplier), words.const(self._shift)
        wide = words.value("hyq_requantize", total, *factors, dtype="int64")
        clipped = words.clip(wide, -LOGIT_LIMIT, LOGIT_LIMIT, "int64")
        return words.bind(words.cast(clipped, "int32"))

    def _tops(self, k: Buffer, query: Buffer) -> None:
        """The maxima of rows g and g + 8, as logits."""
        sizes = self._sizes
        self._top = words.local(2)
        for half in range(2):
            words.store(self._top, half, words.const(EXCLUDED))
        with words.loop(sizes.spans) as span:
            self._copy(k, sizes.keys, self._keys, words.bind(span * sizes.span), sizes.span)
            self._arrived()
            with words.loop(sizes.span // 32) as chunk:
                scores = self._scores(query, chunk)
                first = words.bind(span * sizes.span + chunk * 32)
                for i in range(16):
                    total, takes_part = self._total(scores, i, first)
                    if takes_part is not True:
                        total = tirx.Select(takes_part, total, words.const(EXCLUDED))
                    half = i // 2 % 2
                    words.store(self._top, half, tirx.max(self._top[half], total))
            words.barrier()
        for half in range(2):
            whole = words.value("hyq_row_max", self._top[half], words.const(4))
            words.store(self._top, half, self._logit(whole))

    def _weight(self, scores: Buffer, i: int, first: Expr) -> Expr:
        """AT3."""
        total, takes_part = self._total(scores, i, first)
        distance = self._top[i // 2 % 2] - self._logit(total)
        # Pairs that take no part may lie above the maximum.
        d = words.bind(words.clip(distance, 0, self._limit))
        e = self._line.emit(d) if self._line else looked_up(self._entries, d)
        return e if takes_part is True else words.bind(tirx.Select(takes_part, e, words.const(0)))

    def _weighted(self, k: Buffer, v: Buffer, query: Buffer) -> tuple[list[Buffer], Buffer]:
        """AT4: for every plane ``[fragment][4]``, and the sums of rows g and g + 8."""
        sizes = self._sizes
        totals = words.local(2)
        sums = [words.local(4 * sizes.fragments) for _ in range(self._planes)]
        for buffer, count in [(totals, 2), *((s, 4 * sizes.fragments) for s in sums)]:
            for i in range(count):
                words.store(buffer, i, words.const(0))
        with words.loop(sizes.spans) as span:
            self._copy(k, sizes.keys, self._keys, words.bind(span * sizes.span), sizes.span)
            self._turned(v, words.bind(span * sizes.span))
            self._arrived()
            with words.loop(sizes.span // 32) as chunk:
                scores = self._scores(query, chunk)
                first = words.bind(span * sizes.span + chunk * 32)
                weights = [self._weight(scores, i, first) for i in range(16)]
                for half in range(2):
                    own = [w for i, w in enumerate(weights) if i // 2 % 2 == half]
                    words.store(totals, half, sum(own, totals[half]))
                self._products(weights, sums, chunk)
            words.barrier()
        for half in range(2):
            total = words.value("hyq_row_sum", totals[half], words.const(4))
            words.store(totals, half, total)
        return sums, totals

    def _products(self, weights: Sequence[Expr], sums: Sequence[Buffer], chunk: Expr) -> None:
        """Weights of 32 keys times v; a lane's four keys of two fragments make a word."""
        sizes = self._sizes
        planes = [words.local(4) for _ in sums]
        for plane, packed in enumerate(planes):
            shift = 8 * (self._planes - 1 - plane)
            parts = [w >> words.const(shift) if shift else w for w in weights]
            for i in range(4):
                start = 8 * (i // 2) + 2 * (i % 2)
                group = [parts[start + 4 * (j // 2) + j % 2] for j in range(4)]
                words.store(packed, i, words.value("hyq_pack", *group))
        columns = words.local(4)
        for pair in range(0, sizes.fragments, 2):
            row = 8 * pair + self._lane // 16 * 8 + self._lane % 8
            at = row * (sizes.span + PAD) + chunk * 32 + self._lane // 8 % 2 * 16
            words.call("hyq_load_matrices", words.at(columns, 0), words.at(self._values, at))
            for packed, total in zip(planes, sums, strict=True):
                for side in range(2):
                    words.call("hyq_mma_us", words.at(total, 4 * (pair + side)),
                               words.at(packed, 0), words.at(columns, 2 * side))  # fmt: skip

    def _turned(self, v: Buffer, first: Expr) -> None:
        """A span of v, turned, its keys in the order of the weights' words."""
        sizes = self._sizes
        across = 2 * sizes.fragments
        base = words.bind(self._sample * (sizes.keys * sizes.values))
        shares = sizes.span // 4 * across
        for start in range(0, shares, self._threads):
            share = words.bind(self._thread + start)
            with words.when(words.below(share, shares, start + self._threads)):
                channel = words.bind(share % across * 4)
                group = words.bind(share // across)
                key = words.bind(first + group // 4 * 16 + group % 4 * 2)
                cell = words.local(4)
                for i in range(4):
                    row = tirx.min(key + i // 2 * 8 + i % 2, sizes.keys - 1)
                    self._read(cell, i, v, words.bind(base + row * sizes.values), channel)
                words.call("hyq_turn", words.at(cell, 0))
                for i in range(4):
                    at = self._slot(channel + i) * (sizes.span + PAD) + group * 4
                    to = words.at(self._values, at)
                    words.call("hyq_write_4", to, cell[i])

    def _read(self, cell: Buffer, i: int, v: Buffer, row: Expr, channel: Expr) -> None:
        """Four channels of a key; those behind the last one repeat it."""
        last = self._sizes.values
        if last % 4 == 0:
            place = row + tirx.min(channel, last - 4)
            words.call("hyq_read_4", words.at(cell, i), words.at(v, place))
            return
        parts = [words.cast(v[row + tirx.min(channel + j, last - 1)], "int32") for j in range(4)]
        words.store(cell, i, words.value("hyq_pack", *parts))

    def _slot(self, channel: Expr) -> Expr:
        """Where a channel lies, such that a lane's sums are those of neighbours."""
        width = 2 * self._sizes.fragments
        inside = channel % width
        return inside // 2 * 8 + channel // width * 2 + inside % 2
