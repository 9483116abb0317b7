"""Epilogue stages (clauses E1 to E4) as VECTOR instructions on a block of accumulators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.numerics.epilogue import STAGE_TENSORS, apply
from hyq_tvm.vta.codegen.context import Context, Parameters, Tensor
from hyq_tvm.vta.codegen.source import Argument
from hyq_tvm.vta.codegen.tile import Loop, Resident, Tile
from hyq_tvm.vta.codegen.window import Window, span
from hyq_tvm.vta.isa.table import INT32_HIGH, INT32_LOW

Stage = Mapping[str, Any]
ONE = np.array([1])
MAX_ADD_SHIFT = 30
"""2^shift is a multiplier of 32 bits."""


@dataclass(frozen=True)
class Area:
    """Accumulators of a tile: ``runs`` rows of ``blocks`` entries from ``base`` on.

    first: the channel block that the first entry of a row holds.
    """

    base: int
    runs: int
    blocks: int
    first: int

    def outer(self, third: int = 0) -> Loop:
        """Over the rows, in place."""
        return Loop(self.runs, self.blocks, self.blocks, third)

    def inner(self, third: int = 0) -> Loop:
        """Over the entries of a row, in place."""
        return Loop(self.blocks, 1, 1, third)


@dataclass(frozen=True)
class Offset:
    """Adds a constant a channel, where no requantize can take it along."""

    parameters: Parameters

    def residents(self, area: Area) -> list[Resident]:
        """What it wants on chip."""
        return [self.parameters.resident(area.first, area.blocks)]

    def emit(self, tile: Tile, area: Area, at: Sequence[int], other: int) -> None:
        """The instructions."""
        tile.set(LOW=INT32_LOW, HIGH=INT32_HIGH)
        uops = [(area.base, 0, at[0])]
        inner = Loop(area.blocks, 1, 0, self.parameters.step)
        tile.vector("ADD", uops, Loop(area.runs, area.blocks), inner, operand="PRM")


@dataclass(frozen=True)
class Requantize:
    """E2, with a constant a channel added before the product."""

    parameters: Parameters
    zero_point: int
    low: int
    high: int

    def residents(self, area: Area) -> list[Resident]:
        """What it wants on chip."""
        return [self.parameters.resident(area.first, area.blocks)]

    def emit(self, tile: Tile, area: Area, at: Sequence[int], other: int) -> None:
        """The instructions."""
        tile.set(LOW=self.low, HIGH=self.high, ZERO_POINT=self.zero_point)
        uops = [(area.base, area.base, at[0])]
        tile.vector("REQ", uops, area.outer(), area.inner(self.parameters.step))


@dataclass(frozen=True)
class Lookup:
    """E3."""

    table: Resident
    low: int

    def residents(self, area: Area) -> list[Resident]:
        """What it wants on chip."""
        return [self.table]

    def emit(self, tile: Tile, area: Area, at: Sequence[int], other: int) -> None:
        """The instructions."""
        tile.set(TABLE_BASE=at[0], TABLE_LOW=self.low, TABLE_SIZE=self.table.entries)
        tile.vector("LOOKUP", [(area.base, area.base, 0)], area.outer(), area.inner())


@dataclass(frozen=True)
class RequantizeLookup:
    """E2 and E3 in one step."""

    requantize: Requantize
    lookup: Lookup

    @property
    def parameters(self) -> Parameters:
        """Those of the requantize."""
        return self.requantize.parameters

    def residents(self, area: Area) -> list[Resident]:
        """What it wants on chip."""
        return [*self.requantize.residents(area), *self.lookup.residents(area)]

    def emit(self, tile: Tile, area: Area, at: Sequence[int], other: int) -> None:
        """The instructions."""
        first, second = self.requantize, self.lookup
        tile.set(LOW=first.low, HIGH=first.high, ZERO_POINT=first.zero_point)
        tile.set(TABLE_BASE=at[1], TABLE_LOW=second.low, TABLE_SIZE=second.table.entries)
        uops = [(area.base, area.base, at[0])]
        tile.vector("REQ_LOOKUP", uops, area.outer(), area.inner(self.parameters.step))


@dataclass(frozen=True)
class Add:
    """E4: another tensor, rescaled by ``scale`` unless it lies on the same grid already.

    ``(v * 2^shift + other * multiplier + offset) >> shift`` is ``v`` plus the rescaled other.
    """

    tensor: Tensor
    scale: Parameters | None
    shift: int
    low: int
    high: int

    def residents(self, area: Area) -> list[Resident]:
        """What it wants on chip."""
        return [self.scale.resident(0, 1)] if self.scale else []

    def emit(self, tile: Tile, area: Area, at: Sequence[int], other: int) -> None:
        """The instructions."""
        tile.set(LOW=self.low, HIGH=self.high)
        if self.scale is None:
            tile.vector("ADD", [(area.base, other, 0)], area.outer(), area.inner())
            return
        tile.set(SHIFT=self.shift, ZERO_POINT=0)
        uops = [(area.base, other, at[0])]
        tile.vector("SCALE_ADD", uops, area.outer(), area.inner())


Step = Offset | Requantize | Lookup | RequantizeLookup | Add


@dataclass(frozen=True)
class Epilogue:
    """The steps of an operator; ``dtype`` is what is stored."""

    steps: tuple[Step, ...]
    dtype: str

    @property
    def others(self) -> list[Tensor]:
        """The tensors that Add steps read, each with an area of its own."""
        return [step.tensor for step in self.steps if isinstance(step, Add)]

    @property
    def areas(self) -> int:
        """How many accumulator areas a tile needs."""
        return 1 + len(self.others)

    def reads(self, window: Window) -> list[tuple[int, int]]:
        """DRAM that a tile over ``window`` of the output reads."""
        return [span(window, t.address, t.dtype) for t in self.others]

    def residents(self, area: Area) -> list[Resident]:
        """What all steps want on chip, in order."""
        return [r for step in self.steps for r in step.residents(area)]

    def load(self, tile: Tile, window: Window, area: Area) -> None:
        """Bring the other tensors on chip."""
        for index, other in enumerate(self.others, start=1):
            sram = area.base + index * area.runs * area.blocks
            tile.load(window.move(other.address, other.dtype, sram))

    def emit(self, tile: Tile, area: Area, at: Sequence[int]) -> None:
        """Run the steps in place; ``at``: where ``residents(area)`` lie."""
        taken, other = 0, area.base
        for step in self.steps:
            count = len(step.residents(area))
            if isinstance(step, Add):
                other += area.runs * area.blocks
            step.emit(tile, area, at[taken : taken + count], other)
            taken += count


def make_epilogue(
    context: Context,
    stages: Sequence[Stage],
    arguments: Sequence[Argument],
    offset: NDArray[np.int64],
    dtype: str,
) -> Epilogue:
    """The steps of ``stages``; ``offset`` (``[C]`` or ``[1]``) is added to the accumulator first.

    Raises ``UnsupportedModelError`` on parameters that are not constants or not per channel.
    """
    steps: list[Step] = []
    stages, rest = _composed(stages, arguments)
    pending = offset if offset.any() else np.zeros(1, np.int64)
    for stage in stages:
        count = STAGE_TENSORS[stage["kind"]]
        tensors, rest = rest[:count], rest[count:]
        if stage["kind"] == "requantize":
            steps.append(_requantize(context, stage, tensors, pending))
            pending = np.zeros(1, np.int64)
            continue
        steps += _flush(context, pending)
        pending = np.zeros(1, np.int64)
        steps.append(
            _lookup(context, stage, tensors)
            if stage["kind"] == "lookup"
            else _add(context, stage, tensors[0])
        )
    steps += _flush(context, pending)
    return Epilogue(tuple(_fused(steps)), dtype)


def _composed(
    stages: Sequence[Stage], arguments: Sequence[Argument]
) -> tuple[list[Stage], list[Argument]]:
    """A table, and a requantize of its values by one number, are one table."""
    made: list[Stage] = []
    kept: list[Argument] = []
    rest = list(arguments)
    for stage in stages:
        count = STAGE_TENSORS[stage["kind"]]
        tensors, rest = rest[:count], rest[count:]
        behind = made and made[-1]["kind"] == "lookup" and stage["kind"] == "requantize"
        if behind and all(constant(t).size == 1 for t in tensors):
            table = constant(kept.pop())
            values = apply(
                table.astype(np.int64), [stage], [constant(t).reshape(1) for t in tensors]
            )
            made[-1] = {**made[-1], "dtype": stage["dtype"]}
            kept.append(_Constant(values, values.shape, str(values.dtype)))
            continue
        made.append(stage)
        kept += tensors
    return made, kept


@dataclass(frozen=True, eq=False)
class _Constant:
    """An argument made here."""

    value: NDArray[Any]
    shape: tuple[int, ...]
    dtype: str


def _fused(steps: Sequence[Step]) -> list[Step]:
    """A requantize and the lookup behind it are one instruction."""
    result: list[Step] = []
    for step in steps:
        last = result[-1] if result else None
        if isinstance(step, Lookup) and isinstance(last, Requantize):
            result[-1] = RequantizeLookup(last, step)
        else:
            result.append(step)
    return result


def constant(argument: Argument) -> NDArray[Any]:
    """The array of an argument that must be part of the program."""
    if isinstance(argument.value, str):
        raise UnsupportedModelError(f"tensor {argument.value!r} must be a constant on this target")
    return argument.value


def per_channel(array: NDArray[Any]) -> NDArray[np.int64]:
    """``[C]`` or ``[1]``, of an array that varies along the last axis only."""
    if array.size != array.shape[-1]:
        raise UnsupportedModelError(
            f"multipliers of shape {array.shape} vary with the position; per channel is supported"
        )
    return array.reshape(-1).astype(np.int64)


def _flush(context: Context, pending: NDArray[np.int64]) -> list[Step]:
    if not pending.any():
        return []
    zeros = np.zeros(1, np.int64)
    return [Offset(context.parameters(zeros, pending, zeros))]


def _requantize(
    context: Context, stage: Stage, tensors: Sequence[Argument], offset: NDArray[np.int64]
) -> Requantize:
    multiplier, shift = (per_channel(constant(t)) for t in tensors)
    half = np.int64(1) << (shift - 1)
    parameters = context.parameters(multiplier, shift, offset * multiplier + half)
    return Requantize(parameters, stage["zero_point"], stage["low"], stage["high"])


def _lookup(context: Context, stage: Stage, tensors: Sequence[Argument]) -> Lookup:
    return Lookup(context.table(constant(tensors[0])), stage["low"])


def _add(context: Context, stage: Stage, other: Argument) -> Add:
    zero_point, multiplier, shift = (int(stage[k]) for k in ("zero_point", "multiplier", "shift"))
    scale = None
    if (zero_point, multiplier, shift) != (0, 1, 0):
        if shift > MAX_ADD_SHIFT:
            raise UnsupportedModelError(f"an add with a shift of {shift}: at most {MAX_ADD_SHIFT}")
        offset = ((1 << shift) >> 1) - zero_point * multiplier
        scale = context.parameters((1 << shift) * ONE, multiplier * ONE, offset * ONE)
    return Add(context.tensor(other), scale, shift, stage["low"], stage["high"])
