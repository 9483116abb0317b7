"""From logits to weights: maximum, exponential table and sum of each row of a tile."""

from __future__ import annotations

from collections.abc import Sequence

from schedules.llvm import vector
from schedules.llvm.arithmetic import permuted
from schedules.llvm.attention.plan import BYTES, Plan
from schedules.llvm.tile import BIAS
from schedules.llvm.vector import Buffer, Expr

_SORTED = (0, 2, 4, 6, 1, 3, 5, 7)  # of 64-bit pieces that come from two registers in turn


class Weights:
    """Emits the rows of weights of a tile.

    logits, weights: scratch memory with rows of ``plan.pitch``, weights plane by plane. table: the
    exponential; as planes of bytes for every difference up to 255 where permutations read it.
    """

    def __init__(self, plan: Plan, logits: Buffer, weights: Buffer, table: Buffer) -> None:
        self._plan = plan
        self._logits = logits
        self._weights = weights
        self._table = table

    def row(self, row: Expr) -> Expr:
        """The weights of a row; gives their int32 sum."""
        plan, lanes = self._plan, self._plan.isa.lanes
        start = row * plan.pitch
        top = self._maximum(start)
        totals = [vector.local("int32", lanes) for _ in range(plan.planes)]
        for total in totals:
            vector.store(total, 0, vector.constant(0, "int32", lanes), lanes)
        for strips in plan.key_strips:
            with vector.loop(strips.count) as number:
                place = start + strips.first * lanes + number * (plan.width * lanes)
                if plan.permutes:
                    self._block(place, top, totals, strips.registers)
                else:
                    for i in range(strips.registers):
                        self._register(place + i * lanes, top, totals)
        summed = vector.load(totals[0], 0, lanes)
        for total in totals[1:]:
            summed = summed + (vector.load(total, 0, lanes) << vector.constant(8, "int32", lanes))
        return vector.bind(vector.intrinsic("llvm.vector.reduce.add", "int32", 1, summed))

    def _maximum(self, start: Expr) -> Expr:
        """The largest logit of a row."""
        plan = self._plan
        lanes = plan.isa.lanes * 2
        largest = vector.local(plan.logits, lanes)
        vector.store(largest, 0, vector.load(self._logits, start, lanes), lanes)
        with vector.loop(plan.pitch // lanes - 1) as i:
            value = vector.load(self._logits, start + (i + 1) * lanes, lanes)
            vector.store(largest, 0, vector.larger(vector.load(largest, 0, lanes), value), lanes)
        top = vector.intrinsic(
            "llvm.vector.reduce.smax", plan.logits, 1, vector.load(largest, 0, lanes)
        )
        # Where everything is excluded, this makes all differences large.
        return vector.bind(vector.maximum(top, plan.floor, plan.logits, 1))

    def _block(self, place: Expr, top: Expr, totals: Sequence[Buffer], registers: int) -> None:
        """Four registers of keys at once, their logits narrowed to two registers."""
        plan, lanes = self._plan, self._plan.isa.lanes
        above = vector.broadcast(top, lanes * 2)
        halves = [
            vector.bind(
                _minus(
                    above, vector.load(self._logits, place + i * lanes * 2, lanes * 2), lanes * 2
                )
            )
            for i in range(2)
        ]
        found = self._found(self._bytes(halves))
        if plan.tailed:
            found = self._with_tail(found, halves)
        for number, (weights, total) in enumerate(zip(found, totals, strict=True)):
            self._add(total, weights)
            self._store(place + number * plan.plane, weights, registers)

    def _bytes(self, halves: Sequence[Expr]) -> Expr:
        """Two registers of int16 as bytes: below 0 becomes 0, beyond 255 becomes 255."""
        plan, lanes, size = self._plan, self._plan.isa.lanes, self._plan.isa.bytes
        index = vector.intrinsic("llvm.x86.avx512.packuswb.512", "int8", size, *halves)
        if not plan.mixed:
            pieces = vector.reinterpret(index, "int64", lanes // 2)
            index = vector.reinterpret(vector.shuffle([pieces], _SORTED), "int8", size)
        return vector.bind(index)

    def _found(self, index: Expr) -> list[Expr]:
        """Every plane's bytes for differences up to 255."""
        size = self._plan.isa.bytes
        found = []
        for plane in range(self._plan.planes):
            table = [
                vector.load(self._table, plane * BYTES + size * i, size)
                for i in range(BYTES // size)
            ]
            found.append(vector.bind(permuted(index, table, self._plan.isa.permute)))
        return found

    def _with_tail(self, found: Sequence[Expr], halves: Sequence[Expr]) -> list[Expr]:
        """Weights with those of differences from 256 on: 1 up to the limit, then 0."""
        size, lanes = self._plan.isa.bytes, self._plan.isa.lanes * 2
        last = vector.constant(BYTES - 1, "int16", lanes)
        beyond = vector.reinterpret(
            self._bytes([_minus(half, last, lanes) for half in halves]), "uint8", size
        )
        near = beyond == vector.constant(0, "uint8", size)
        zero, one = (vector.constant(n, "int8", size) for n in (0, 1))
        weighs = beyond <= vector.constant(self._plan.limit - BYTES, "uint8", size)
        tails = [vector.select(weighs, one, zero), zero]
        return [
            vector.bind(vector.select(near, weights, tail))
            for weights, tail in zip(found, tails, strict=True)
        ]

    def _add(self, total: Buffer, weights: Expr) -> None:
        isa = self._plan.isa
        ones = vector.constant(1, "int8", isa.bytes)
        four = vector.reinterpret(weights, "int32", isa.lanes)
        vector.store(total, 0, isa.dot(vector.load(total, 0, isa.lanes), four, ones), isa.lanes)

    def _store(self, place: Expr, weights: Expr, registers: int) -> None:
        plan, lanes, size = self._plan, self._plan.isa.lanes, self._plan.isa.bytes
        if plan.mixed and registers < 4:
            # A strip of fewer registers leaves gaps of four bytes; those behind it are zeros.
            order = [block * 4 + i for block in range(lanes // 4) for i in range(registers)]
            order += [i for i in range(lanes) if i not in order]
            pieces = vector.shuffle([vector.reinterpret(weights, "int32", lanes)], order)
            weights = vector.reinterpret(pieces, "int8", size)
        vector.store(self._weights, place, weights, size)

    def _register(self, place: Expr, top: Expr, totals: Sequence[Buffer]) -> None:
        """One register of logits."""
        plan, lanes = self._plan, self._plan.isa.lanes
        logit = vector.bind(vector.cast(vector.load(self._logits, place, lanes), "int32", lanes))
        above = vector.broadcast(vector.cast(top, "int32", 1), lanes)
        difference = vector.minimum(above - logit, plan.limit, "int32", lanes)
        whole = vector.bind(vector.cast(vector.gather(self._table, difference), "int32", lanes))
        low = whole & vector.constant(BYTES - 1, "int32", lanes)
        parts = [whole] if plan.planes == 1 else [low, whole >> vector.constant(8, "int32", lanes)]
        for number, (part, total) in enumerate(zip(parts, totals, strict=True)):
            vector.store(total, 0, vector.load(total, 0, lanes) + part, lanes)
            if not plan.isa.biased and plan.isa.operand == "int8":
                part = part - vector.constant(BIAS, "int32", lanes)
            stored = vector.cast(part, plan.isa.operand, lanes)
            vector.store(self._weights, place + number * plan.plane, stored, lanes)


def _minus(a: Expr, b: Expr, lanes: int) -> Expr:
    return vector.intrinsic("llvm.ssub.sat", "int16", lanes, a, b)
