"""From logits to weights: maximum, exponential table and sum of each row of a tile."""

from __future__ import annotations

from schedules.llvm import vector
from schedules.llvm.arithmetic import permuted
from schedules.llvm.attention.plan import Plan
from schedules.llvm.tile import BIAS
from schedules.llvm.vector import Buffer, Expr

_BYTES = 256
_SORTED = (0, 2, 4, 6, 1, 3, 5, 7)  # of 64-bit pieces that come from two registers in turn


class Weights:
    """Emits the rows of weights of a tile.

    logits, weights: scratch memory with rows of ``plan.pitch``. table: the exponential; as bytes
    for every difference up to 255 where it is read by permutations.
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
        total = vector.local("int32", lanes)
        vector.store(total, 0, vector.constant(0, "int32", lanes), lanes)
        for strips in plan.key_strips:
            with vector.loop(strips.count) as number:
                place = start + strips.first * lanes + number * (plan.width * lanes)
                if plan.permutes:
                    self._block(place, top, total, strips.registers)
                else:
                    for i in range(strips.registers):
                        self._register(place + i * lanes, top, total)
        return vector.bind(
            vector.intrinsic("llvm.vector.reduce.add", "int32", 1, vector.load(total, 0, lanes))
        )

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

    def _block(self, place: Expr, top: Expr, total: Buffer, registers: int) -> None:
        """Four registers of keys at once, their logits narrowed to two registers."""
        plan, lanes = self._plan, self._plan.isa.lanes
        size, isa = plan.isa.bytes, plan.isa
        above = vector.broadcast(top, lanes * 2)
        halves = [
            vector.intrinsic(
                "llvm.ssub.sat",
                "int16",
                lanes * 2,
                above,
                vector.load(self._logits, place + i * lanes * 2, lanes * 2),
            )
            for i in range(2)
        ]
        index = vector.intrinsic("llvm.x86.avx512.packuswb.512", "int8", size, *halves)
        if not plan.mixed:
            pieces = vector.reinterpret(index, "int64", lanes // 2)
            index = vector.reinterpret(vector.shuffle([pieces], _SORTED), "int8", size)
        index = vector.bind(index)
        table = [vector.load(self._table, size * i, size) for i in range(_BYTES // size)]
        found = vector.bind(permuted(index, table, isa.permute))
        ones = vector.constant(1, "int8", size)
        summed = isa.dot(
            vector.load(total, 0, lanes), vector.reinterpret(found, "int32", lanes), ones
        )
        vector.store(total, 0, summed, lanes)
        if plan.mixed and registers < 4:
            # A strip of fewer registers leaves gaps of four bytes; those behind it are zeros.
            order = [block * 4 + i for block in range(lanes // 4) for i in range(registers)]
            order += [i for i in range(lanes) if i not in order]
            pieces = vector.shuffle([vector.reinterpret(found, "int32", lanes)], order)
            found = vector.reinterpret(pieces, "int8", size)
        vector.store(self._weights, place, found, size)

    def _register(self, place: Expr, top: Expr, total: Buffer) -> None:
        """One register of logits."""
        plan, lanes = self._plan, self._plan.isa.lanes
        logit = vector.bind(vector.cast(vector.load(self._logits, place, lanes), "int32", lanes))
        above = vector.broadcast(vector.cast(top, "int32", 1), lanes)
        difference = vector.minimum(above - logit, plan.limit, "int32", lanes)
        found = vector.cast(vector.gather(self._table, difference), "int32", lanes)
        found = vector.bind(found)
        vector.store(total, 0, vector.load(total, 0, lanes) + found, lanes)
        if not plan.isa.biased and plan.isa.operand == "int8":
            found = found - vector.constant(BIAS, "int32", lanes)
        stored = vector.cast(found, plan.isa.operand, lanes)
        vector.store(self._weights, place, stored, lanes)
