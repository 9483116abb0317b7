"""Kernels that treat rows one by one: exact softmax and LayerNorm."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from benchmarks.float32.functions import exponential, real
from schedules.llvm import vector
from schedules.llvm.vector import Buffer, Expr
from schedules.prim_func import prim_func
from schedules.rule import Constant, Kernel, Spec

LANES = 16
_PARALLEL = 30_000
_TASKS = 16
_UNROLLED = 16
_LOWEST = -3.0e38

Piece = Callable[[Expr, int], None]


def each_register(count: int, code: Piece) -> None:
    """``code(offset, valid)`` for every 16 elements; the last may be fewer."""
    whole, rest = divmod(count, LANES)
    if whole <= _UNROLLED:
        for i in range(whole):
            code(i * LANES, LANES)
    else:
        with vector.loop(whole) as i:
            code(i * LANES, LANES)
    if rest:
        code(whole * LANES, rest)


def each_row(rows: int, elements: int, body: Callable[[Expr], None]) -> None:
    """``body(row)`` for every row, in threads where that pays."""
    threads = rows * elements >= _PARALLEL
    tasks = min(rows, _TASKS) if threads else 1
    each = -(-rows // tasks)
    with vector.tasks(tasks, threads) as task, vector.loop(each) as number:
        body(vector.at_most(task * each + number, rows - 1))


class Running:
    """A register that is changed in place."""

    def __init__(self, start: float) -> None:
        self._memory = vector.local("float32", LANES)
        vector.store(self._memory, 0, real(start, LANES), LANES)

    @property
    def value(self) -> Expr:
        """What it holds now."""
        return vector.load(self._memory, 0, LANES)

    def set(self, value: Expr) -> None:
        """Holds ``value`` from here on."""
        vector.store(self._memory, 0, value, LANES)

    def total(self) -> Expr:
        """The sum of its lanes."""
        zero = tirx.const(0.0, "float32")
        name = "llvm.vector.reduce.fadd"
        return vector.bind(vector.intrinsic(name, "float32", 1, zero, self.value))


def kept(value: Expr, valid: int, other: float) -> Expr:
    """The first ``valid`` lanes; ``other`` in the rest."""
    if valid == LANES:
        return value
    order = [i if i < valid else LANES + i for i in range(LANES)]
    return vector.shuffle([value, real(other, LANES)], order)


def softmax(
    shape: tuple[int, ...], dtype: str = "float32", scale: float = 1.0, output: str = "float32"
) -> Kernel:
    """Exact softmax over the last axis of float32, int8 or int32 logits times ``scale``.

    output: float32, or uint8 for probabilities times 255, rounded.
    """
    rows, tokens = prod(shape[:-1]), shape[-1]

    def body(x: Buffer, factor: Buffer, out: Buffer) -> None:
        each_row(rows, tokens, lambda row: one(x, factor, out, row * tokens))

    def one(x: Buffer, factor: Buffer, out: Buffer, start: Expr) -> None:
        weights = vector.scratch("float32", -(-tokens // LANES) * LANES)

        def logits(offset: Expr, valid: int) -> Expr:
            value = vector.load_some(x, start + offset, LANES, valid, dtype)
            return vector.cast(value, "float32", LANES)

        largest, total = Running(_LOWEST), Running(0.0)

        def take(offset: Expr, valid: int) -> None:
            value = kept(logits(offset, valid), valid, _LOWEST)
            largest.set(tirx.max(largest.value, value))

        each_register(tokens, take)
        name = "llvm.vector.reduce.fmax"
        top = vector.bind(vector.intrinsic(name, "float32", 1, largest.value))
        above = vector.broadcast(top, LANES)

        def weigh(offset: Expr, valid: int) -> None:
            steps = vector.broadcast(vector.load(factor, 0, 1), LANES)
            difference = vector.bind((logits(offset, valid) - above) * steps)
            e = vector.bind(kept(exponential(difference, LANES), valid, 0.0))
            vector.store(weights, offset, e, LANES)
            total.set(total.value + e)

        each_register(tokens, weigh)
        full = 255.0 if output == "uint8" else 1.0
        norm = vector.bind(tirx.const(full, "float32") / total.total())

        def store(offset: Expr, valid: int) -> None:
            share = vector.load(weights, offset, LANES) * vector.broadcast(norm, LANES)
            if output == "uint8":
                share = vector.cast(tirx.nearbyint(share), "int32", LANES)
                share = vector.cast(share, "uint8", LANES)
            vector.store_some(out, start + offset, vector.bind(share), LANES, valid)

        each_register(tokens, store)

    name = f"softmax_{rows}x{tokens}"
    specs = [Spec(shape, dtype), Spec((1,), "float32")]
    function = prim_func(name, specs, Spec(shape, output), body)
    # The scale is data also because TVM takes functions of one tensor for reshapes to look into.
    return Kernel(name, function, (0, Constant(np.array([scale], np.float32))))


def layer_norm(
    shape: tuple[int, ...],
    gamma: NDArray[np.float32],
    beta: NDArray[np.float32],
    epsilon: float,
) -> Kernel:
    """LayerNorm over the last axis."""
    rows, channels = prod(shape[:-1]), shape[-1]
    share = real(1.0 / channels, 1)

    def body(x: Buffer, g: Buffer, b: Buffer, out: Buffer) -> None:
        each_row(rows, channels, lambda row: one(x, g, b, out, row * channels))

    def one(x: Buffer, g: Buffer, b: Buffer, out: Buffer, start: Expr) -> None:
        total, squares = Running(0.0), Running(0.0)

        def read(offset: Expr, valid: int) -> Expr:
            return vector.load_some(x, start + offset, LANES, valid, "float32")

        def add(offset: Expr, valid: int) -> None:
            total.set(total.value + kept(read(offset, valid), valid, 0.0))

        each_register(channels, add)
        mean = vector.bind(vector.broadcast(total.total() * share, LANES))

        def spread(offset: Expr, valid: int) -> None:
            centred = vector.bind(kept(read(offset, valid) - mean, valid, 0.0))
            squares.set(squares.value + centred * centred)

        each_register(channels, spread)
        root = tirx.sqrt(squares.total() * share + tirx.const(epsilon, "float32"))
        factor = vector.bind(vector.broadcast(tirx.const(1.0, "float32") / root, LANES))

        def store(offset: Expr, valid: int) -> None:
            gain, shift = (vector.load_some(v, offset, LANES, valid, "float32") for v in (g, b))
            value = (read(offset, valid) - mean) * factor * gain + shift
            vector.store_some(out, start + offset, vector.bind(value), LANES, valid)

        each_register(channels, store)

    name = f"layer_norm_{rows}x{channels}"
    vectors = [Spec((channels,), "float32")] * 2
    specs = [Spec(shape, "float32"), *vectors]
    function = prim_func(name, specs, Spec(shape, "float32"), body)
    return Kernel(name, function, (0, Constant(gamma), Constant(beta)))
