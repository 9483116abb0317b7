"""What all products with constant weights share: packed arguments, and the code of a tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from schedules.llvm import tile, vector
from schedules.llvm.finish import Finisher
from schedules.llvm.isa import Isa
from schedules.llvm.stages import Epilogue, plan
from schedules.llvm.tile import BIAS, Reduction, Shape
from schedules.llvm.vector import Buffer, Expr
from schedules.prim_func import prim_func
from schedules.rule import Constant, Kernel, Workload, passed_specs

PARALLEL_PRODUCTS = 1_500_000
"""Multiplications below which starting threads costs more than it saves."""

TASKS = 16
"""Pieces that a parallel loop is cut into: more than threads, so that they finish together."""


@dataclass(frozen=True)
class Strip:
    """A strip of channels inside its loops.

    group: number of its group. register: its first register, counted through all groups.
    channel: its first channel.
    """

    group: Expr
    register: Expr
    channel: Expr
    registers: int
    valid: int


class Finishes(Protocol):
    """Code behind the sums of a tile; ``schedules.llvm.finish.Finisher`` is the integers'."""

    @property
    def arguments(self) -> list[int | Constant]:
        """What it adds to a kernel's arguments, in the order of ``bind``."""
        ...

    def bind(self, buffers: Sequence[Buffer], out: Buffer) -> None:
        """The kernel's buffers of ``arguments``, and its output."""
        ...

    def start(self, register: Expr) -> Expr:
        """Where the sums of a register of channels start."""
        ...

    def finish(
        self,
        totals: Sequence[Sequence[Expr]],
        first: Expr,
        offsets: Sequence[Expr],
        valid: int,
        adjacent: bool = False,
    ) -> None:
        """Stores the rows ``totals[row][register]``; see ``Finisher.finish``."""
        ...


Finish = Callable[[NDArray[np.int64], int], Finishes]
"""``finish(channels, mixed)``: the code for these channels of lanes; see ``Finisher``."""


def has_constant_weights(workload: Workload) -> bool:
    """Whether weight and bias, arguments 1 and 2, are known."""
    return all(workload.arguments[i].constant is not None for i in (1, 2))


def plan_epilogue(workload: Workload, isa: Isa) -> Epilogue | None:
    """The epilogue behind sums over constant weights; None where it has to stay as it is."""
    weight, bias = workload.constant(1), workload.constant(2).astype(np.int64)
    flat = weight.reshape(len(weight), -1).astype(np.int64)
    start = bias - (BIAS * flat.sum(axis=1) if isa.biased else 0)
    bound = BIAS * np.abs(flat).sum(axis=1) + np.abs(bias)
    return plan(workload.params["epilogue"], workload.arguments, start, bound)


def finisher(isa: Isa, epilogue: Epilogue) -> Finish:
    """Makes the code of an integer epilogue."""
    return lambda channels, mixed: Finisher(isa, epilogue, channels, mixed)


class Products:
    """Sums over constant weights in register tiles, with the epilogue behind them.

    weight: ``[groups, channels, stretches, elements]``, its last two axes in the order of
    ``reduction``. finish: makes the code behind the sums.
    """

    def __init__(
        self,
        workload: Workload,
        isa: Isa,
        finish: Finish,
        weight: NDArray[Any],
        reduction: Reduction,
        shape: Shape,
    ) -> None:
        self._workload = workload
        self._isa = isa
        self._reduction = reduction
        self._groups, self._channels = weight.shape[:2]
        self._registers = -(-self._channels // isa.lanes)
        self._strips = tile.cut(self._channels, isa.lanes, shape.registers)
        packed = [tile.pack_weights(w, isa, self._strips) for w in weight]
        self._weights = Constant(np.concatenate(packed))
        self._finisher = finish(self._lane_channels(), 0)
        self._packed: Buffer = None

    def _lane_channels(self) -> NDArray[np.int64]:
        """Each group starts a register."""
        lane = np.arange(self._registers * self._isa.lanes)
        first = np.arange(self._groups)[:, None] * self._channels
        return np.where(lane < self._channels, first + lane, -1).reshape(-1)

    def kernel(self, name: str, body: Callable[[Buffer], None]) -> Kernel:
        """The kernel whose loops ``body(x)`` emits."""
        arguments: list[int | Constant] = [0, self._weights, *self._finisher.arguments]

        def code(x: Buffer, weights: Buffer, *rest: Buffer) -> None:
            self._packed = weights
            self._finisher.bind(rest[:-1], rest[-1])
            body(x)

        specs = passed_specs(self._workload, arguments)
        function = prim_func(name, specs, self._workload.output, code)
        return Kernel(name, function, tuple(arguments))

    def strips(self) -> Iterator[Strip]:
        """Opens the loops over groups and strips, one after the other."""
        for strips in self._strips:
            with _loop(self._groups) as group, _loop(strips.count) as number:
                first = strips.first + number * strips.registers
                register = group * self._registers + first
                channel = group * self._channels + first * self._isa.lanes
                yield Strip(group, register, channel, strips.registers, strips.valid)

    def tile(
        self, strip: Strip, activations: Buffer, rows: Sequence[Expr], offsets: Sequence[Expr]
    ) -> None:
        """One tile.

        rows: where the first stretch of each row starts in ``activations``. offsets: where in the
        output channel 0 of each row is; rows are neighbours.
        """
        starts = [self._finisher.start(strip.register + i) for i in range(strip.registers)]
        panel = strip.register * (self._isa.lanes * self._isa.group * self._reduction.total)
        totals = tile.accumulate(
            self._isa, self._reduction, activations, rows, self._packed, panel, starts
        )
        places = [offset + strip.channel for offset in offsets]
        whole_rows = strip.valid == self._channels and self._groups == 1
        self._finisher.finish(totals, strip.register, places, strip.valid, whole_rows)


@contextmanager
def _loop(extent: int) -> Iterator[Expr]:
    if extent == 1:
        yield 0
        return
    with vector.loop(extent) as index:
        yield index
