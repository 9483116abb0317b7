"""The rule for softmax, and the code of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import tirx

from hyq_tvm.numerics.exponential import DIFFERENCE_LIMIT, NARROW_LIMIT
from hyq_tvm.topi.bits import bit_length
from hyq_tvm.topi.fixed_point import rounding_divide
from schedules.llvm import vector
from schedules.llvm.arithmetic import permuted
from schedules.llvm.isa import Isa, instruction_set
from schedules.llvm.softmax.plan import BYTES, Plan, make_plan
from schedules.llvm.vector import Buffer, Expr
from schedules.prim_func import prim_func
from schedules.rule import Constant, Kernel, Workload, passed_specs

_BLOCK = 64
_UNROLLED = 8
_PARALLEL = 100_000
_TASKS = 16
_PACK16 = "llvm.x86.avx512.packssdw.512"
_PACK_UNSIGNED = "llvm.x86.avx512.packusdw.512"
_PACK8 = "llvm.x86.avx512.packuswb.512"
_HIGH = "llvm.x86.avx512.pmulhu.w.512"
_SORTED = tuple(block * 4 + register for register in range(4) for block in range(4))


def schedule(workload: Workload, target: Any) -> Kernel | None:
    """Output ``uint8``; None where differences do not fit bytes, or the processor lacks them."""
    isa = instruction_set(target)
    if workload.op != "softmax" or not isa.permute:
        return None
    plan = make_plan(workload)
    if plan is None:
        return None
    data: list[int | Constant] = [0, Constant(plan.planes(workload))]
    if plan.requantized:
        data.append(Constant(np.concatenate([workload.constant(i) for i in (1, 2, 3)])))
    name = f"softmax_{plan.rows}x{plan.tokens}"
    specs = passed_specs(workload, data)
    function = prim_func(name, specs, workload.output, _Softmax(plan, isa).body)
    return Kernel(name, function, tuple(data))


class _Softmax:
    def __init__(self, plan: Plan, isa: Isa) -> None:
        self.plan = plan
        self.isa = isa
        self.blocks = -(-plan.tokens // _BLOCK)
        self.rest = plan.tokens % _BLOCK

    def body(self, x: Buffer, table: Buffer, *rest: Buffer) -> None:
        plan = self.plan
        threads = plan.rows * plan.tokens >= _PARALLEL
        tasks = min(plan.rows, _TASKS) if threads else 1
        each = -(-plan.rows // tasks)
        with vector.tasks(tasks, threads) as task:
            indices = vector.scratch("int8", self.blocks * _BLOCK)
            narrow = vector.scratch("uint16", self.blocks * _BLOCK)
            emit = _Row(self, (x, table, *rest), indices, narrow)
            with vector.loop(each) as number:
                row = vector.at_most(task * each + number, plan.rows - 1)
                emit.run(row * plan.tokens)

    def each_block(self, code: Any) -> None:
        """``code(offset, valid)`` for every 64 logits; the last ones may be fewer."""
        whole = self.plan.tokens // _BLOCK
        if whole <= _UNROLLED:
            for i in range(whole):
                code(i * _BLOCK, _BLOCK)
        else:
            with vector.loop(whole) as i:
                code(i * _BLOCK, _BLOCK)
        if self.rest:
            code(whole * _BLOCK, self.rest)


class _Row:
    """The code of one row."""

    def __init__(
        self, owner: _Softmax, buffers: Sequence[Buffer], indices: Buffer, narrow: Buffer
    ) -> None:
        self.owner = owner
        self.plan, self.isa = owner.plan, owner.isa
        self.x, self.table = buffers[:2]
        self.steps = buffers[2] if self.plan.requantized else None
        self.out = buffers[-1]
        self.indices, self.narrow = indices, narrow

    def run(self, start: Expr) -> None:
        """The row that starts at ``start``."""
        top = self._maximum(start)
        sums = [vector.local("int32", 16) for _ in range(self.plan.count)]
        for total in sums:
            vector.store(total, 0, vector.constant(0, "int32", 16), 16)

        def weigh(offset: Expr, valid: int) -> None:
            index = self._index(start + offset, valid, top)
            planes = [self._kept(self._look(index, i), valid) for i in range(self.plan.count)]
            for total, plane in zip(sums, planes, strict=True):
                ones = vector.constant(1, "int8", _BLOCK)
                bytes4 = vector.reinterpret(plane, "int32", 16)
                vector.store(total, 0, self.isa.dot(vector.load(total, 0, 16), bytes4, ones), 16)
            if self.plan.count > 2:
                vector.store(self.indices, offset, index, _BLOCK)
                return
            for half, order in enumerate(_unpacked()):
                words = vector.reinterpret(vector.shuffle(planes, order), "uint16", 32)
                vector.store(self.narrow, offset + half * 32, words, 32)

        self.owner.each_block(weigh)
        total = self._total(sums)
        if self.plan.count > 2:
            self._look_up(start, total)
        else:
            self._scale(start, total)

    def _maximum(self, start: Expr) -> Expr:
        dtype, lanes = self.plan.dtype, 64 if self.plan.dtype == "int8" else 16
        lowest = vector.constant(int(np.iinfo(dtype).min), dtype, lanes)
        largest = vector.local(dtype, lanes)
        vector.store(largest, 0, lowest, lanes)

        def take(offset: Expr, valid: int) -> None:
            for part in range(0, valid, lanes):
                left = valid - part
                value = vector.load_some(self.x, start + offset + part, lanes, left, dtype)
                if left < lanes:
                    order = [i if i < left else lanes + i for i in range(lanes)]
                    value = vector.shuffle([value, lowest], order)
                both = vector.larger(vector.load(largest, 0, lanes), value)
                vector.store(largest, 0, both, lanes)

        self.owner.each_block(take)
        found = vector.load(largest, 0, lanes)
        return vector.bind(vector.intrinsic("llvm.vector.reduce.smax", dtype, 1, found))

    def _index(self, place: Expr, valid: int, top: Expr) -> Expr:
        """Differences to the maximum as 64 unsigned bytes; behind ``valid`` of any value."""
        if self.plan.dtype == "int8":
            value = vector.load_some(self.x, place, _BLOCK, valid, "int8")
            above = vector.broadcast(vector.reinterpret(top, "uint8", 1), _BLOCK)
            difference = above - vector.reinterpret(value, "uint8", _BLOCK)
            return vector.bind(vector.reinterpret(difference, "int8", _BLOCK))
        above = vector.broadcast(vector.reinterpret(top, "uint32", 1), 16)
        registers = []
        for part in range(0, _BLOCK, 16):
            left = min(16, valid - part)
            at = part if left > 0 else 0
            value = vector.load_some(self.x, place + at, 16, left if left > 0 else valid, "int32")
            registers.append(above - vector.reinterpret(value, "uint32", 16))
        if self.plan.halves:
            pairs = [self._grid_halves(*registers[i : i + 2]) for i in (0, 2)]
        else:
            pairs = _pairs([self._grid(register) for register in registers])
        return vector.bind(_bytes(pairs))

    def _grid_halves(self, a: Expr, b: Expr) -> Expr:
        """SM2 for 32 differences in 16 bits."""
        multiplier, pre_shift, shift = (vector.load(self.steps, i, 1) for i in range(3))
        one, wide = tirx.const(1, "int32"), vector.constant(1, "uint32", 32)
        places = vector.broadcast((pre_shift - one).astype("uint32"), 16)
        shifted = [vector.reinterpret(d >> places, "int32", 16) for d in (a, b)]
        words = vector.bind(vector.intrinsic(_PACK_UNSIGNED, "uint16", 32, *shifted))
        rounded = (vector.cast(words, "uint32", 32) + wide) >> wide
        narrow = vector.minimum(vector.cast(rounded, "uint16", 32), NARROW_LIMIT, "uint16", 32)
        factor = vector.broadcast(multiplier.astype("uint16"), 32)
        high = vector.intrinsic(_HIGH, "uint16", 32, narrow, factor)
        half = tirx.shift_left(one, shift - tirx.const(17, "int32")).astype("uint16")
        rest = (shift - tirx.const(16, "int32")).astype("uint16")
        done = (high + vector.broadcast(half, 32)) >> vector.broadcast(rest, 32)
        return vector.bind(vector.reinterpret(done, "int16", 32))

    def _grid(self, d: Expr) -> Expr:
        """SM2 for 16 differences."""
        multiplier, pre_shift, shift = (vector.load(self.steps, i, 1) for i in range(3))
        one = tirx.const(1, "int32")
        half = (tirx.shift_left(one, pre_shift) >> one).astype("uint32")
        d = vector.minimum(d, DIFFERENCE_LIMIT, "uint32", 16) + vector.broadcast(half, 16)
        d = d >> vector.broadcast(pre_shift.astype("uint32"), 16)
        narrow = vector.minimum(d, NARROW_LIMIT, "uint32", 16)
        factors = [
            vector.reinterpret(narrow, "int16", 32),
            vector.reinterpret(vector.broadcast(multiplier, 16), "int16", 32),
        ]
        product = vector.intrinsic(self.isa.pairs, "int32", 16, *factors)
        rounding = vector.broadcast(tirx.shift_left(one, shift - one), 16)
        return vector.bind((product + rounding) >> vector.broadcast(shift, 16))

    def _look(self, index: Expr, plane: int) -> Expr:
        parts = [vector.load(self.table, BYTES * plane + 64 * i, 64) for i in range(4)]
        return vector.bind(permuted(index, parts, self.isa.permute))

    def _kept(self, plane: Expr, valid: int) -> Expr:
        if valid == _BLOCK:
            return plane
        order = [i if i < valid else _BLOCK + i for i in range(_BLOCK)]
        return vector.bind(vector.shuffle([plane, vector.constant(0, "int8", _BLOCK)], order))

    def _total(self, sums: Sequence[Buffer]) -> Expr:
        """The row's sum: planes join lane by lane, so that one reduction serves all."""
        total: Expr = vector.load(sums[0], 0, 16)
        for i, part in enumerate(sums[1:], start=1):
            total = total + (vector.load(part, 0, 16) << vector.constant(8 * i, "int32", 16))
        return vector.bind(vector.intrinsic("llvm.vector.reduce.add", "int32", 1, total))

    def _reciprocal(self, total: Expr) -> tuple[Expr, Expr]:
        """SM8: multiplier and shift of a row."""
        shift = vector.bind(bit_length(total) + tirx.const(6 - self.plan.bits, "int32"))
        scaled = tirx.const(255, "int64") << (shift + tirx.const(16, "int32")).astype("int64")
        return vector.bind(rounding_divide(scaled, total).astype("int32")), shift

    def _scale(self, start: Expr, total: Expr) -> None:
        """Probabilities from the weights, in 16 bits; from a shift of 16 on all of them are 0."""
        multiplier, shift = self._reciprocal(total)
        none = tirx.const(0, "int32")
        multiplier = tirx.Select(shift > 15, none, multiplier)
        shift = tirx.min(shift, tirx.const(15, "int32"))
        factor = vector.bind(vector.broadcast(multiplier.astype("uint16"), 32))
        half = tirx.shift_left(tirx.const(1, "int32"), shift - 1).astype("uint16")
        rounding = vector.bind(vector.broadcast(half, 32))
        places = vector.bind(vector.broadcast(shift.astype("uint16"), 32))

        def store(offset: Expr, valid: int) -> None:
            halves = []
            for i in range(2):
                words = vector.load(self.narrow, offset + i * 32, 32)
                high = vector.intrinsic(_HIGH, "uint16", 32, words, factor)
                shifted = (high + rounding) >> places
                halves.append(vector.reinterpret(shifted, "int16", 32))
            packed = vector.bind(vector.intrinsic(_PACK8, "uint8", _BLOCK, *halves))
            vector.store_some(self.out, start + offset, packed, _BLOCK, valid)

        self.owner.each_block(store)

    def _look_up(self, start: Expr, total: Expr) -> None:
        """Probabilities of all 256 differences first, then one for each logit."""
        multiplier, shift = self._reciprocal(total)
        factor = vector.broadcast(multiplier.astype("uint32"), 16)
        one = tirx.const(1, "int32")
        rounding = vector.broadcast(tirx.shift_left(one, shift - one).astype("uint32"), 16)
        places = vector.broadcast(shift.astype("uint32"), 16)
        found = vector.local("int8", BYTES)
        for quarter in range(4):
            registers = []
            for part in range(4):
                weight = self._weight(quarter * 64 + part * 16)
                high = (weight * factor) >> vector.constant(16, "uint32", 16)
                registers.append(vector.reinterpret((high + rounding) >> places, "int32", 16))
            vector.store(found, quarter * 64, _bytes(_pairs(registers)), _BLOCK)
        parts = [vector.bind(vector.load(found, 64 * i, 64)) for i in range(4)]

        def store(offset: Expr, valid: int) -> None:
            index = vector.load(self.indices, offset, _BLOCK)
            value = vector.reinterpret(permuted(index, parts, self.isa.permute), "uint8", _BLOCK)
            vector.store_some(self.out, start + offset, value, _BLOCK, valid)

        self.owner.each_block(store)

    def _weight(self, first: int) -> Expr:
        """Weights of 16 differences from ``first`` on, as uint32."""
        total: Expr = vector.constant(0, "uint32", 16)
        for plane in range(self.plan.count):
            values = vector.load(self.table, BYTES * plane + first, 16)
            part = vector.cast(vector.reinterpret(values, "uint8", 16), "uint32", 16)
            total = total + (part << vector.constant(8 * plane, "uint32", 16))
        return total


def _pairs(registers: Sequence[Expr]) -> list[Expr]:
    """Four registers of int32 saturated to two of int16, 64 bits of each in turn."""
    return [vector.intrinsic(_PACK16, "int16", 32, registers[i], registers[i + 1]) for i in (0, 2)]


def _bytes(pairs: Sequence[Expr]) -> Expr:
    """Such pairs saturated to 64 bytes without sign, in order."""
    packed = vector.intrinsic(_PACK8, "int8", _BLOCK, *pairs)
    pieces = vector.shuffle([vector.reinterpret(packed, "int32", 16)], _SORTED)
    return vector.reinterpret(pieces, "int8", _BLOCK)


def _unpacked() -> list[list[int]]:
    """Lanes of two planes of bytes, interleaved within 128 bits: lower halves, then upper ones."""
    return [
        [lane * 16 + half * 8 + i + plane * _BLOCK for lane in range(4) for i in range(8)
         for plane in range(2)]
        for half in range(2)
    ]  # fmt: skip
