"""The rule for attention, and the loops of its kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tvm import tirx

from hyq_tvm.numerics.constants import MASKED
from hyq_tvm.topi.bits import bit_length
from hyq_tvm.topi.fixed_point import rounding_divide
from schedules.llvm import operand, tile, vector
from schedules.llvm.arithmetic import requantize_narrow
from schedules.llvm.attention import packing
from schedules.llvm.attention.plan import BYTES, Choice, Plan, make_plan
from schedules.llvm.attention.weights import Weights
from schedules.llvm.isa import instruction_set
from schedules.llvm.row import Rows, Words
from schedules.llvm.tile import Strips
from schedules.llvm.vector import Buffer, Expr
from schedules.prim_func import prim_func
from schedules.rule import Constant, Kernel, Workload, passed_specs

_TABLE, _BIAS = 5, 6


def schedule(workload: Workload, target: Any, choice: Choice | None = None) -> Kernel | None:
    """``softmax(q k^T) v`` with weights from a table, with or without a bias."""
    if workload.op != "attention":
        return None
    plan = make_plan(workload, instruction_set(target))
    if plan is None:
        return None
    plan = replace(plan, choice=choice)
    numbers = np.array(plan.numbers, np.int32)
    arguments: list[int | Constant] = [0, 1, 2, Constant(_table(workload, plan)), Constant(numbers)]
    if plan.bias_batch:
        arguments.append(_BIAS)
    kernel = _Attention(plan, workload.output.dtype)
    name = f"attention_{plan.batch}x{plan.rows}x{plan.keys}x{plan.depth}"
    specs = passed_specs(workload, arguments)
    function = prim_func(name, specs, workload.output, kernel.body)
    return Kernel(name, function, tuple(arguments))


def _table(workload: Workload, plan: Plan) -> np.ndarray[Any, Any]:
    table = workload.constant(_TABLE)
    if not plan.permutes:
        return table
    filled = np.zeros((plan.planes, BYTES), np.uint8)
    reached = table[:BYTES]
    for number, plane in enumerate(filled):
        plane[: len(reached)] = (reached >> (8 * number)) & 255
    return filled.view(np.int8).reshape(-1)


@dataclass(frozen=True)
class _Packed:
    """Keys and values of all samples, and where their sums start."""

    keys: Buffer
    key_starts: Buffer
    values: Buffer
    value_starts: Buffer


class _Attention:
    def __init__(self, plan: Plan, dtype: str) -> None:
        self.plan = plan
        self.dtype = dtype
        self.isa = plan.isa
        self.signed = not plan.isa.biased and plan.isa.operand == "int8"
        self.query_pitch = operand.spread(plan.depths.total * plan.isa.group)

    def body(
        self, q: Buffer, k: Buffer, v: Buffer, table: Buffer, numbers: Buffer, *rest: Buffer
    ) -> None:
        plan, lanes = self.plan, self.isa.lanes
        packed = _Packed(
            vector.scratch("int8", plan.batch * packing.key_bytes(plan)),
            vector.scratch("int32", plan.batch * plan.key_registers * lanes),
            vector.scratch("int8", plan.batch * packing.value_bytes(plan)),
            vector.scratch("int32", plan.batch * plan.value_registers * lanes),
        )
        with vector.tasks(plan.batch, plan.threads) as sample:
            self._pack(packed, k, v, sample)
        blocks = plan.blocks
        with vector.tasks(plan.batch * blocks, plan.threads) as task:
            self._block(packed, q, (table, numbers, *rest), task // blocks, task % blocks)

    def _pack(self, packed: _Packed, k: Buffer, v: Buffer, sample: Expr) -> None:
        plan, lanes = self.plan, self.isa.lanes
        keys = sample * packing.key_bytes(plan)
        values = sample * packing.value_bytes(plan)
        packing.pack_keys(plan, packed.keys, keys, k, sample * (plan.keys * plan.depth))
        packing.pack_values(plan, packed.values, values, v, sample * (plan.keys * plan.values))
        if self.isa.biased:
            place = sample * (plan.key_registers * lanes)
            packing.start_sums(plan, packed.key_starts, place, packed.keys, keys, False)
        if self.signed:
            place = sample * (plan.value_registers * lanes)
            packing.start_sums(plan, packed.value_starts, place, packed.values, values, True)

    def _block(
        self,
        packed: _Packed,
        q: Buffer,
        rest: Sequence[Buffer],
        sample: Expr,
        block: Expr,
    ) -> None:
        plan = self.plan
        tiles = -(-plan.rows // plan.height)
        each = -(-tiles // plan.blocks)
        queries = vector.scratch(self.isa.operand, plan.height * self.query_pitch)
        logits = vector.scratch(plan.logits, plan.height * plan.pitch)
        weights = vector.scratch(self.isa.operand, plan.planes * plan.plane)
        sums = vector.scratch("int32", plan.height)
        emit = _Tile(plan, packed, queries, logits, weights, rest, self.dtype)
        with vector.loop(each) as number:
            first = vector.at_most((block * each + number) * plan.height, plan.rows - plan.height)
            self._queries(queries, q, sample * plan.rows + first)
            emit.scores(sample, first, self.query_pitch)
            emit.exponentials(sums)
            emit.values(sample, first, sums)

    def _queries(self, queries: Buffer, q: Buffer, first: Expr) -> None:
        plan = self.plan
        padding = plan.depths.total * self.isa.group - plan.depth
        with vector.loop(plan.height) as i:
            start = i * self.query_pitch
            operand.copy(self.isa, queries, start, q, (first + i) * plan.depth, plan.depth)
            operand.fill(self.isa, queries, start + plan.depth, 0, padding)


class _Tile:
    """The code of one tile of query rows."""

    def __init__(
        self,
        plan: Plan,
        packed: _Packed,
        queries: Buffer,
        logits: Buffer,
        weights: Buffer,
        rest: Sequence[Buffer],
        dtype: str,
    ) -> None:
        self.plan = plan
        self.isa = plan.isa
        self.packed = packed
        self.queries = queries
        self.weights = weights
        self.table, self.numbers = rest[:2]
        self.logits = logits
        self.bias = rest[2] if plan.bias_batch else None
        self.out = rest[-1]
        self.dtype = dtype

    def scores(self, sample: Expr, first: Expr, pitch: int) -> None:
        """q.k of the tile's rows as logits."""
        plan, lanes = self.plan, self.isa.lanes
        rows = [i * pitch for i in range(plan.height)]
        for strips in plan.key_strips:
            with vector.loop(strips.count) as number:
                register = strips.first + number * strips.registers
                starts = [self._key_start(sample, register + i) for i in range(strips.registers)]
                panel = sample * packing.key_bytes(plan) + register * (
                    lanes * plan.depths.total * self.isa.group
                )
                totals = tile.accumulate(
                    self.isa, plan.depths, self.queries, rows, self.packed.keys, panel, starts
                )
                key = strips.first * lanes + number * (plan.width * lanes)
                for i, registers in enumerate(totals):
                    scores = self._biased(registers, sample, first + i, key, strips.valid)
                    self._store_logits(scores, i * plan.pitch + key, strips)

    def _key_start(self, sample: Expr, register: Expr) -> Expr:
        lanes = self.isa.lanes
        if not self.isa.biased:
            return vector.constant(0, "int32", lanes)
        place = (sample * self.plan.key_registers + register) * lanes
        return vector.bind(vector.load(self.packed.key_starts, place, lanes))

    def _biased(
        self, scores: Sequence[Expr], sample: Expr, row: Expr, key: Expr, valid: int
    ) -> list[Expr]:
        """Logits of a row of scores; the bias comes before, exclusion after the scaling."""
        plan, lanes = self.plan, self.isa.lanes
        if self.bias is None:
            return [self._logit(score) for score in scores]
        start = (sample % plan.bias_batch * plan.rows + row) * plan.keys + key
        none = vector.constant(0, "int32", lanes)
        lowest = vector.constant(plan.lowest, "int32", lanes)
        logits = []
        for i, score in enumerate(scores):
            left = valid - i * lanes
            bias = vector.load_some(self.bias, start + i * lanes, lanes, left, "int32")
            bias = vector.bind(bias)
            excluded = bias <= vector.constant(MASKED, "int32", lanes)
            logit = self._logit(score + vector.select(excluded, none, bias))
            logits.append(vector.bind(vector.select(excluded, lowest, logit)))
        return logits

    def _logit(self, score: Expr) -> Expr:
        lanes = self.isa.lanes
        numbers = [vector.broadcast(vector.load(self.numbers, i, 1), lanes) for i in range(3)]
        logit = requantize_narrow(
            score, numbers[0], numbers[1], numbers[2], self.plan.pre_shift, lanes
        )
        return vector.bind(logit)

    def _store_logits(self, logits: Sequence[Expr], place: Expr, strips: Strips) -> None:
        plan, lanes = self.plan, self.isa.lanes
        lowest = vector.constant(plan.lowest, "int32", lanes)
        positions = Rows(self.isa, strips.registers if plan.mixed else 0).positions(
            strips.registers
        )
        masked = []
        for i, logit in enumerate(logits):
            own = positions[i * lanes : (i + 1) * lanes]
            order = [n if key < strips.valid else lanes + n for n, key in enumerate(own)]
            whole = order == list(range(lanes))
            masked.append(logit if whole else vector.shuffle([logit, lowest], order))
        masked += [lowest] * (plan.width - len(masked))
        # Stores as wide as the widest load: where LLVM has to join narrower ones to what a load
        # reads, its scalar replacement of aggregates makes code that does not verify.
        for i in range(0, plan.width, 2):
            if plan.mixed:
                pair = Rows(self.isa).pair(masked[i], masked[i + 1])
            else:
                narrow = [vector.cast(v, plan.logits, lanes) for v in masked[i : i + 2]]
                pair = vector.concat(narrow, lanes)
            vector.store(self.logits, place + i * lanes, pair, lanes * 2)

    def exponentials(self, sums: Buffer) -> None:
        """Logits to weights, and the sum of each row's."""
        emit = Weights(self.plan, self.logits, self.weights, self.table)
        with vector.loop(self.plan.height) as row:
            vector.store(sums, row, emit.row(row), 1)

    def values(self, sample: Expr, first: Expr, sums: Buffer) -> None:
        """Weights times values, each row divided by its sum, to the output."""
        plan, lanes = self.plan, self.isa.lanes
        scales = [self._row_scale(vector.load(sums, i, 1)) for i in range(plan.height)]
        for strips in plan.value_strips:
            with vector.loop(strips.count) as number:
                register = strips.first + number * strips.registers
                starts = [self._value_start(sample, register + i) for i in range(strips.registers)]
                panel = sample * packing.value_bytes(plan) + register * (
                    lanes * plan.keys_sum.total * self.isa.group
                )
                for i, registers in enumerate(self._weighted(panel, starts)):
                    row = sample * plan.rows + first + i
                    offset = row * plan.values + register * lanes
                    done = Words(tuple(self._rescaled(r, scales[i]) for r in registers))
                    Rows(self.isa).store(done, self.dtype, self.out, offset, strips.valid)

    def _weighted(self, panel: Expr, starts: Sequence[Expr]) -> list[list[Expr]]:
        """AT4: sums of weights times values, ``[row][register]``; int64 for weights of 16 bits."""
        plan, lanes = self.plan, self.isa.lanes
        planes = []
        for number in range(plan.planes):
            rows = [number * plan.plane + i * plan.pitch for i in range(plan.height)]
            planes.append(
                tile.accumulate(
                    self.isa,
                    plan.keys_sum,
                    self.weights,
                    rows,
                    self.packed.values,
                    panel,
                    starts,
                )
            )
        if plan.planes == 1:
            return planes[0]
        byte = vector.constant(8, "int64", lanes)
        return [
            [
                vector.cast(low, "int64", lanes) + (vector.cast(high, "int64", lanes) << byte)
                for low, high in zip(*row, strict=True)
            ]
            for row in zip(*planes, strict=True)
        ]

    def _value_start(self, sample: Expr, register: Expr) -> Expr:
        lanes = self.isa.lanes
        if self.isa.biased or self.isa.operand != "int8":
            return vector.constant(0, "int32", lanes)
        place = (sample * self.plan.value_registers + register) * lanes
        return vector.bind(vector.load(self.packed.value_starts, place, lanes))

    def _row_scale(self, total: Expr) -> tuple[Expr, Expr, Expr]:
        """AT5: a row's reciprocal, rounding and shift."""
        multiplier, more = (vector.load(self.numbers, i, 1).astype("int64") for i in (3, 4))
        positive = tirx.max(total, tirx.const(1, "int32"))
        bits = vector.bind(bit_length(positive).astype("int64"))
        scaled = multiplier << bits
        reciprocal = vector.bind(rounding_divide(scaled, positive))
        shift = vector.bind(bits + more)
        one = tirx.const(1, "int64")
        return reciprocal, vector.bind(one << (shift - one)), shift

    def _rescaled(self, total: Expr, scale: tuple[Expr, Expr, Expr]) -> Expr:
        plan, lanes = self.plan, self.isa.lanes
        reciprocal, rounding, shift = (vector.broadcast(s, lanes) for s in scale)
        wide = vector.cast(total, "int64", lanes)
        moved = (wide * reciprocal + rounding) >> shift
        moved = moved + vector.constant(plan.zero_point, "int64", lanes)
        clipped = vector.clip(moved, plan.low, plan.high, "int64", lanes)
        return vector.bind(vector.cast(clipped, "int32", lanes))
