"""What follows float sums in their tile: a function, a residual, the way to memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.float32.functions import FUNCTIONS, real
from schedules.llvm import vector
from schedules.llvm.isa import Isa
from schedules.llvm.vector import Buffer, Expr
from schedules.rule import Constant


@dataclass(frozen=True, eq=False)
class FloatEpilogue:
    """``steps`` in order: the name of a function, or ``"add"`` for the next of ``others``.

    bias: float32 ``[channels]``, where sums start. others: the operator's arguments that are added.
    """

    bias: NDArray[np.float32]
    steps: tuple[str, ...] = ()
    others: tuple[int, ...] = ()


class FloatFinisher:
    """See ``schedules.llvm.products.Finishes``."""

    def __init__(
        self, isa: Isa, epilogue: FloatEpilogue, channels: NDArray[np.int64], mixed: int
    ) -> None:
        self._isa = isa
        self._epilogue = epilogue
        self._bias = np.where(channels < 0, np.float32(0), epilogue.bias[channels])
        self._starts: Buffer = None
        self._others: Sequence[Buffer] = ()
        self._out: Buffer = None

    @property
    def arguments(self) -> list[int | Constant]:
        """The bias of every lane, then the tensors to add."""
        return [Constant(np.ascontiguousarray(self._bias)), *self._epilogue.others]

    def bind(self, buffers: Sequence[Buffer], out: Buffer) -> None:
        """The kernel's buffers of ``arguments``, and its output."""
        self._starts, self._others, self._out = buffers[0], buffers[1:], out

    def start(self, register: Expr) -> Expr:
        """The bias of a register of channels."""
        lanes = self._isa.lanes
        return vector.load(self._starts, register * lanes, lanes)

    def finish(
        self,
        totals: Sequence[Sequence[Expr]],
        first: Expr,
        offsets: Sequence[Expr],
        valid: int,
        adjacent: bool = False,
    ) -> None:
        """Stores the rows ``totals[row][register]`` at their offsets."""
        lanes = self._isa.lanes
        for registers, offset in zip(totals, offsets, strict=True):
            for i, total in enumerate(registers):
                left = valid - i * lanes
                if left > 0:
                    self._store(total, offset + i * lanes, left)

    def _store(self, value: Expr, place: Expr, valid: int) -> None:
        lanes = self._isa.lanes
        others = iter(self._others)
        for step in self._epilogue.steps:
            if step == "add":
                value = value + vector.load_some(next(others), place, lanes, valid, "float32")
            else:
                value = FUNCTIONS[step](vector.bind(value), lanes)
        vector.store_some(self._out, place, vector.bind(value), lanes, valid)


def no_bias(channels: int) -> NDArray[np.float32]:
    """Sums that start at 0."""
    return np.zeros(channels, np.float32)


__all__ = ["FloatEpilogue", "FloatFinisher", "no_bias", "real"]
