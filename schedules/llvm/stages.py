"""Epilogues prepared at compile time: their stages with constants re-laid out for vector code.

R32 needs a 64-bit product, but seldom 64-bit arithmetic behind it. Where the rounding bit lies in
the product's upper half, ``((v*m + 2^(s-1)) >> s) + z`` is ``(hi + r) >> t`` with
``hi = (v*m) >> 32``, ``t = s - 32`` and ``r = 2^(t-1) + (z << t)``, all in 32 bits: floors nest,
and what is added has only zeros in the lower half. Shifts below 33 take a ``v`` shifted left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.numerics.epilogue import STAGE_TENSORS
from schedules.rule import Array, Spec

_HALF = 32
_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Requantize:
    """``clip(round(v * m * 2^-s) + zero_point, low, high)``; ``field``: its first constant row.

    narrow: rows m, r, t of the 32-bit form, on values shifted left by ``pre_shift``; else rows
    m, s and 64-bit arithmetic.
    """

    field: int
    narrow: bool
    pre_shift: int
    zero_point: int
    low: int
    high: int
    dtype: str


@dataclass(frozen=True)
class Lookup:
    """``table[v - low]``; ``table``: its number among the tables, which has ``entries``."""

    table: int
    entries: int
    low: int
    dtype: str


@dataclass(frozen=True)
class Add:
    """``clip(v + ((other * m + r) >> s), low, high)``; ``field``: the first of the rows m, r, s.

    plain: the other tensor lies on the result's grid, ``clip(v + other, low, high)``. wide: the
    product needs 64 bits.
    """

    other: int
    other_dtype: str
    field: int
    low: int
    high: int
    dtype: str
    plain: bool
    wide: bool


Stage = Requantize | Lookup | Add


@dataclass(frozen=True, eq=False)
class Epilogue:
    """What follows an accumulator.

    constants: int32 ``[rows, channels]``; row 0 is where accumulators start. tables: as the
    operator has them. others: the arguments of the operator that ``Add`` stages read.
    """

    stages: tuple[Stage, ...]
    constants: NDArray[np.int32]
    tables: tuple[Array, ...]
    others: tuple[int, ...]
    dtype: str

    @property
    def rows(self) -> int:
        """Rows of constants."""
        return len(self.constants)


class _Planner:
    def __init__(self, start: NDArray[np.int64], bound: NDArray[np.int64]) -> None:
        # Accumulators wrap around, so a start beyond int32 is as good as its remainder.
        self.rows: list[NDArray[np.int64]] = [start]
        self.bound = bound
        self.stages: list[Stage] = []
        self.tables: list[Array] = []
        self.others: list[int] = []

    def requantize(self, stage: Mapping[str, Any], multiplier: Spec, shift: Spec) -> bool:
        channels = len(self.bound)
        m, s = _per_channel(multiplier, channels), _per_channel(shift, channels)
        if m is None or s is None:
            return False
        zero_point, low, high = stage["zero_point"], stage["low"], stage["high"]
        field, form = len(self.rows), narrow_form(self.bound, m, s, zero_point)
        self.rows += [m, s] if form is None else [m, form.rounding, form.shift]
        pre_shift = 0 if form is None else form.pre_shift
        self.stages.append(
            Requantize(field, form is not None, pre_shift, zero_point, low, high, stage["dtype"])
        )
        self.bound = np.full(channels, max(abs(low), abs(high)), dtype=np.int64)
        return True

    def lookup(self, stage: Mapping[str, Any], table: Spec) -> bool:
        if table.constant is None:
            return False
        values = table.constant
        self.stages.append(Lookup(len(self.tables), len(values), stage["low"], stage["dtype"]))
        self.tables.append(values)
        self.bound = np.full_like(self.bound, np.abs(values.astype(np.int64)).max())
        return True

    def add(self, stage: Mapping[str, Any], other: Spec, number: int) -> bool:
        info = np.iinfo(other.dtype)
        zero_point, multiplier, shift = stage["zero_point"], stage["multiplier"], stage["shift"]
        rounding = ((1 << shift) >> 1) - zero_point * multiplier
        largest = max(-int(info.min), int(info.max)) * abs(multiplier) + abs(rounding)
        scaled = (largest >> shift) + 1
        if abs(rounding) > _LIMIT or scaled + int(self.bound.max()) > _LIMIT:
            return False
        low, high, plain = stage["low"], stage["high"], (zero_point, multiplier, shift) == (0, 1, 0)
        self.stages.append(
            Add(len(self.others), other.dtype, len(self.rows), low, high, stage["dtype"], plain,
                largest > _LIMIT)
        )  # fmt: skip
        if not plain:
            self.rows += [np.full_like(self.bound, n) for n in (multiplier, rounding, shift)]
        self.others.append(number)
        self.bound = np.full_like(self.bound, max(abs(low), abs(high)))
        return True


def plan(
    stages: Sequence[Mapping[str, Any]],
    arguments: Sequence[Spec],
    start: NDArray[np.int64],
    bound: NDArray[np.int64],
) -> Epilogue | None:
    """The epilogue on accumulators that start at ``start [C]`` and stay within ``+-bound [C]``.

    arguments: all of the operator's; those of the stages are the last. None where a stage's
    constants are not per channel or not known.
    """
    planner = _Planner(start, bound)
    number = len(arguments) - sum(STAGE_TENSORS[s["kind"]] for s in stages)
    for stage in stages:
        kind = stage["kind"]
        own = arguments[number : number + STAGE_TENSORS[kind]]
        if kind == "requantize":
            done = planner.requantize(stage, own[0], own[1])
        elif kind == "lookup":
            done = planner.lookup(stage, own[0])
        else:
            done = planner.add(stage, own[0], number)
        if not done:
            return None
        number += STAGE_TENSORS[kind]
    constants = np.stack(planner.rows).astype(np.int32)
    dtype = stages[-1]["dtype"] if stages else "int32"
    return Epilogue(
        tuple(planner.stages), constants, tuple(planner.tables), tuple(planner.others), dtype
    )


def _per_channel(spec: Spec, channels: int) -> NDArray[np.int64] | None:
    value = spec.constant
    if value is None or value.size not in (1, channels) or value.size != value.shape[-1]:
        return None
    return np.broadcast_to(value.reshape(-1).astype(np.int64), channels)


@dataclass(frozen=True, eq=False)
class NarrowForm:
    """``(((v << pre_shift) * m >> 32) + rounding) >> shift``, see above."""

    pre_shift: int
    rounding: NDArray[np.int64]
    shift: NDArray[np.int64]


def narrow_form(
    bound: NDArray[np.int64],
    multiplier: NDArray[np.int64],
    shift: NDArray[np.int64],
    zero_point: int,
) -> NarrowForm | None:
    """R32 in 32 bits for values within ``+-bound``; None where that could wrap around."""
    pre_shift = max(0, _HALF + 1 - int(shift.min()))
    t = shift + pre_shift - _HALF
    if int(t.max()) > _HALF - 2 or int(bound.max()) << pre_shift > _LIMIT:
        return None
    rounding = (np.int64(1) << (t - 1)) + (np.int64(zero_point) << t)
    upper = (((bound << pre_shift) * multiplier) >> _HALF) + 1
    if int((upper + np.abs(rounding)).max()) > _LIMIT:
        return None
    return NarrowForm(pre_shift, rounding, t)
