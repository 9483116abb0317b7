"""LayerNorm: sums of a row, then one pass over it with 64-bit products on even and odd lanes.

``n = (x * (C*R) - S1*R + half) >> sh`` is clause LN3 with D written out. The output's
``(n*g + b + half) >> T`` takes its upper 32 bits after a shift by constants, as in
``schedules.llvm.stages``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from hyq_tvm.topi.bits import leading_zeros
from schedules.llvm import choices, tile, vector
from schedules.llvm.isa import Isa, instruction_set
from schedules.llvm.row import Rows, Words
from schedules.llvm.vector import Buffer, Expr, constant
from schedules.prim_func import prim_func
from schedules.rule import Constant, Kernel, Workload, passed_specs

MAX_CHANNELS = 16384
PARALLEL_ELEMENTS = 30_000
_TASKS = 16
_STRIPS = (1, 2, 4, 8)
_HALF = 32
_NORMALIZED_LIMIT = 2**23
_ROOT_BITS = 16


@dataclass(frozen=True)
class Choice:
    """Output in strips of ``registers`` registers; rows in ``tasks`` pieces for threads, 1 for
    none.
    """

    registers: int
    tasks: int


def schedule(workload: Workload, target: Any, choice: Choice | None = None) -> Kernel | None:
    """Norms over rows whose constants leave room for 64-bit arithmetic."""
    affine = _affine(workload) if _fits(workload) else None
    if affine is None:
        return None
    isa = instruction_set(target)
    rows, channels = workload.arguments[0].shape
    numbers = np.array([workload.params["epsilon"], affine.shift], np.int64)
    arguments: list[int | Constant] = [0, *affine.arguments(isa), Constant(numbers)]
    body = _LayerNorm(workload, isa, choice or _default(workload)).body
    name = f"layer_norm_{rows}x{channels}"
    specs = passed_specs(workload, arguments)
    return Kernel(name, prim_func(name, specs, workload.output, body), tuple(arguments))


def space(workload: Workload, target: Any) -> Sequence[Choice]:
    """Choices for ``workload``, the rule's own first; empty where it is not the rule's."""
    if not _fits(workload) or _affine(workload) is None:
        return ()
    default = _default(workload)
    rows, channels = workload.arguments[0].shape
    widest = -(-channels // instruction_set(target).lanes)
    everything = product(
        [n for n in _STRIPS if n <= widest], choices.task_choices(target, default.tasks, rows)
    )
    return choices.default_first(default, (Choice(*c) for c in everything))


def _fits(workload: Workload) -> bool:
    if workload.op != "layer_norm" or workload.arguments[0].shape[1] > MAX_CHANNELS:
        return False
    return all(a.constant is not None for a in workload.arguments[1:3])


def _default(workload: Workload) -> Choice:
    threads = workload.arguments[0].size >= PARALLEL_ELEMENTS
    return Choice(registers=4, tasks=_TASKS if threads else 1)


@dataclass(frozen=True, eq=False)
class _Affine:
    """``((n * gain + offset) >> 32) >> shift``: gamma, beta, rounding and zero point in one."""

    gain: NDArray[np.int64]
    offset: NDArray[np.int64]
    shift: int

    def arguments(self, isa: Isa) -> list[Constant]:
        """Gains of even and odd lanes in int32 ``[2,C]``, offsets in int64 ``[2,C/2]``."""
        lanes = isa.lanes
        count = -(-len(self.gain) // lanes) * lanes
        gain, offset = np.zeros(count, np.int32), np.zeros(count, np.int64)
        gain[: len(self.gain)] = self.gain
        offset[: len(self.offset)] = self.offset
        odd = np.zeros(count, np.int32)
        odd[::2] = gain[1::2]
        return [Constant(np.stack([gain, odd])), Constant(np.stack([offset[::2], offset[1::2]]))]


def _affine(workload: Workload) -> _Affine | None:
    """Gamma and beta shifted so that results are the upper halves of sums; None if they wrap."""
    params = workload.params
    gamma, beta = (workload.constant(i).astype(np.int64) for i in (1, 2))
    shift, zero_point = int(params["shift"]), int(params["zero_point"])
    extra = max(0, _HALF - shift)
    gain = gamma << extra
    if extra > _ROOT_BITS or int(np.abs(gain).max()) >= 2**31:
        return None
    total = shift + extra
    added = (1 << (total - 1)) + (zero_point << total)
    largest = (int(np.abs(beta).max()) << extra) + abs(added)
    largest += _NORMALIZED_LIMIT * int(np.abs(gain).max())
    if largest >= 2**63:
        return None
    return _Affine(gain, (beta << extra) + added, total - _HALF)


class _LayerNorm:
    def __init__(self, workload: Workload, isa: Isa, choice: Choice) -> None:
        self.isa = isa
        self.rows, self.channels = workload.arguments[0].shape
        self.dtype = workload.arguments[0].dtype
        self.output = workload.output.dtype
        self.bounds = (int(workload.params["low"]), int(workload.params["high"]))
        self.numbers: Buffer = None
        self.pieces = choice.tasks
        self.strips = tile.cut(self.channels, isa.lanes, choice.registers)
        self.count = -(-self.channels // isa.lanes) * isa.lanes
        self.batch = min(self.rows, isa.lanes // 2)

    def body(self, x: Buffer, gain: Buffer, offset: Buffer, numbers: Buffer, out: Buffer) -> None:
        """Rows in batches whose roots are computed together."""
        self.numbers = numbers
        batches = -(-self.rows // self.batch)
        each = -(-batches // self.pieces)
        half = self.isa.lanes // 2
        with vector.tasks(-(-batches // each), self.pieces > 1) as task:
            sums = vector.scratch("int64", half)
            squares = vector.scratch("int64", half)
            shifts = vector.scratch("int64", half)
            vector.store(squares, 0, constant(1, "int64", half), half)
            with vector.loop(each) as number:
                batch = vector.at_most(task * each + number, batches - 1)
                first = vector.at_most(batch * self.batch, self.rows - self.batch)
                with vector.loop(self.batch) as row:
                    self._moments(x, (first + row) * self.channels, row, sums, squares, shifts)
                self._roots(squares)
                with vector.loop(self.batch) as row:
                    numbers = [vector.load(b, row, 1) for b in (sums, squares, shifts)]
                    start = (first + row) * self.channels
                    self._normalize(x, start, numbers, gain, offset, out)

    def _moments(
        self, x: Buffer, start: Expr, row: Expr, sums: Buffer, squares: Buffer, shifts: Buffer
    ) -> None:
        """LN2 and the first half of LN3: S1, ``2^62 div v`` and the shift of a row."""
        total, square = self._sums(x, start)
        wide = vector.bind(total.astype("int64"))
        count, epsilon = tirx.const(self.channels, "int64"), vector.load(self.numbers, 0, 1)
        spread = square * count - wide * wide + epsilon
        variance = vector.bind(tirx.max(spread, tirx.const(1, "int64")))
        zeros = vector.bind(tirx.bitwise_and(leading_zeros(variance), tirx.const(~1, "int32")))
        half, none = tirx.const(_HALF, "int32"), tirx.const(0, "int32")
        left, right = tirx.max(zeros - half, none), tirx.max(half - zeros, none)
        scaled = (variance << left.astype("int64")) >> right.astype("int64")
        vector.store(sums, row, wide, 1)
        vector.store(squares, row, tirx.truncdiv(tirx.const(1 << 62, "int64"), scaled), 1)
        shift = half - (zeros >> tirx.const(1, "int32"))
        vector.store(shifts, row, shift.astype("int64"), 1)

    def _sums(self, x: Buffer, start: Expr) -> tuple[Expr, Expr]:
        """Sum (int32) and sum of squares (int64) of a row."""
        lanes = self.isa.lanes
        wide = lanes * 2
        total, square = vector.local("int32", lanes), vector.local("int64", lanes)
        vector.store(total, 0, constant(0, "int32", lanes), lanes)
        vector.store(square, 0, constant(0, "int64", lanes), lanes)
        whole, rest = divmod(self.channels, wide)

        def add(offset: Expr, count: int) -> None:
            loaded = vector.load_padded(x, offset, wide, count, self.dtype)
            value = vector.bind(vector.cast(loaded, "int16", wide))
            first, second = self._pairs(value)
            vector.store(total, 0, vector.load(total, 0, lanes) + first, lanes)
            vector.store(square, 0, vector.load(square, 0, lanes) + second, lanes)

        with vector.loop(whole) as i:
            add(start + i * wide, wide)
        if rest:
            add(start + whole * wide, rest)
        reduced = [
            vector.intrinsic("llvm.vector.reduce.add", dtype, 1, vector.load(buffer, 0, lanes))
            for dtype, buffer in (("int32", total), ("int64", square))
        ]
        return vector.bind(reduced[0]), vector.bind(reduced[1])

    def _pairs(self, value: Expr) -> tuple[Expr, Expr]:
        """Sums (int32) and sums of squares (int64) of neighbours among int16 lanes."""
        lanes = self.isa.lanes
        if self.isa.pairs:
            ones = constant(1, "int16", lanes * 2)
            first = vector.intrinsic(self.isa.pairs, "int32", lanes, value, ones)
            second = vector.intrinsic(self.isa.pairs, "int32", lanes, value, value)
            # Two squares of -2^15 make 2^31, which is right without a sign.
            unsigned = vector.reinterpret(second, "uint32", lanes)
            return first, vector.cast(vector.cast(unsigned, "uint64", lanes), "int64", lanes)
        parts = [vector.shuffle([value], range(i, i + lanes)) for i in (0, lanes)]
        low, high = (vector.cast(p, "int32", lanes) for p in parts)
        squares = [vector.cast(p * p, "int64", lanes) for p in (low, high)]
        return low + high, squares[0] + squares[1]

    def _roots(self, squares: Buffer) -> None:
        """The second half of LN3, for a batch of rows in place: the integer square roots."""
        lanes = self.isa.lanes // 2
        root = vector.local("int64", lanes)
        square = vector.bind(vector.load(squares, 0, lanes))
        mask = constant(2**32 - 1, "int64", lanes)
        vector.store(root, 0, constant(0, "int64", lanes), lanes)
        with vector.loop(_ROOT_BITS + 1) as i:
            bit = tirx.const(1, "int64") << (tirx.const(_ROOT_BITS, "int32") - i).astype("int64")
            known = vector.load(root, 0, lanes)
            candidate = vector.bind((known + vector.broadcast(bit, lanes)) & mask)
            fits = candidate * candidate <= square
            vector.store(root, 0, vector.select(fits, candidate, known), lanes)
        vector.store(squares, 0, vector.load(root, 0, lanes), lanes)

    def _normalize(
        self,
        x: Buffer,
        start: Expr,
        numbers: list[Expr],
        gain: Buffer,
        offset: Buffer,
        out: Buffer,
    ) -> None:
        """LN3, LN5 for one row; numbers: S1, R and sh, int64."""
        total, root, shift = (vector.bind(n) for n in numbers)
        lanes = self.isa.lanes
        half = tirx.const(1, "int64") << (shift - tirx.const(1, "int64"))
        factor = vector.bind(
            vector.broadcast(root * tirx.const(self.channels, "int64"), lanes // 2)
        )
        added = vector.bind(vector.broadcast(half - total * root, lanes // 2))
        moved = vector.bind(vector.broadcast(shift, lanes // 2))
        rows = Rows(self.isa)
        for strips in self.strips:
            with vector.loop(strips.count) as number:
                first = strips.first + number * strips.registers
                registers = []
                for i in range(strips.registers):
                    left = strips.valid - i * lanes
                    place = (first + i) * lanes
                    loaded = vector.load_some(x, start + place, lanes, left, self.dtype)
                    value = vector.bind(vector.cast(loaded, "int32", lanes))
                    normal = self._scaled(value, factor, added, moved)
                    registers.append(vector.bind(self._affine(normal, place, gain, offset)))
                row = Words(tuple(registers), self.bounds)
                rows.store(row, self.output, out, start + first * lanes, strips.valid)

    def _scaled(self, value: Expr, factor: Expr, added: Expr, shift: Expr) -> tuple[Expr, Expr]:
        """``(x * factor + added) >> shift`` of even and of odd lanes, in int64."""
        even, odd = _halves(value, self.isa.lanes)
        low = _low(factor, self.isa.lanes // 2)
        return tuple(vector.bind((part * low + added) >> shift) for part in (even, odd))

    def _affine(self, normal: tuple[Expr, Expr], place: Expr, gain: Buffer, offset: Buffer) -> Expr:
        lanes = self.isa.lanes
        sums = []
        for parity, value in enumerate(normal):
            gains = vector.load(gain, parity * self.count + place, lanes)
            offsets = vector.load(offset, (parity * self.count + place) // 2, lanes // 2)
            factor = _low(vector.reinterpret(gains, "int64", lanes // 2), lanes // 2)
            total = _low(value, lanes // 2) * factor + offsets
            sums.append(vector.reinterpret(total, "int32", lanes))
        upper = [i + lanes * parity for i in range(1, lanes, 2) for parity in (0, 1)]
        shift = vector.load(self.numbers, 1, 1).astype("int32")
        return vector.shuffle(sums, upper) >> vector.broadcast(shift, lanes)


def _halves(value: Expr, lanes: int) -> tuple[Expr, Expr]:
    """int32 lanes as int64: the even ones, the odd ones."""
    wide = vector.reinterpret(value, "int64", lanes // 2)
    return _low(wide, lanes // 2), wide >> constant(32, "int64", lanes // 2)


def _low(wide: Expr, lanes: int) -> Expr:
    """The lower 32 bits of int64 lanes with their sign: what a 32-bit multiplier reads."""
    shift = constant(32, "int64", lanes)
    return (wide << shift) >> shift
