"""Epilogue stages (clauses E1 to E4) as VECTOR instructions on a block of accumulators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.numerics.epilogue import STAGE_TENSORS, apply
from hyq_tvm.vta.codegen.context import Context, Tensor
from hyq_tvm.vta.codegen.source import Argument, Operation
from hyq_tvm.vta.codegen.steps import (
    Add,
    Area,
    Lookup,
    Offset,
    Requantize,
    RequantizeLookup,
    Step,
)
from hyq_tvm.vta.codegen.tile import Resident, Tile
from hyq_tvm.vta.codegen.window import Window, span

Stage = Mapping[str, Any]
ONE = np.array([1])
MAX_ADD_SHIFT = 30
"""2^shift is a multiplier of 32 bits."""


@dataclass(frozen=True)
class Epilogue:
    """The steps of an operator; ``dtype`` is what is stored.

    also: a second result, made of the first one, and where it goes.
    """

    steps: tuple[Step, ...]
    dtype: str
    also: tuple[Epilogue, Tensor] | None = None

    @property
    def others(self) -> list[Tensor]:
        """The tensors that Add steps read, each with an area of its own."""
        return [step.tensor for step in self.steps if isinstance(step, Add)]

    @property
    def areas(self) -> int:
        """How many accumulator areas a tile needs."""
        return 1 + len(self.others) + (self.also is not None)

    def reads(self, window: Window) -> list[tuple[int, int]]:
        """DRAM that a tile over ``window`` of the output reads."""
        return [span(window, t.address, t.dtype) for t in self.others]

    def residents(self, area: Area) -> list[Resident]:
        """What all steps want on chip, in order."""
        also = self.also[0].residents(area) if self.also else []
        return [*(r for step in self.steps for r in step.residents(area)), *also]

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
            area = replace(area, beside=0)
            taken += count
        if self.also is not None:
            self.also[0].emit(tile, self._second(area), at[taken:])

    def _second(self, area: Area) -> Area:
        """Where the second result is made."""
        behind = (1 + len(self.others)) * area.runs * area.blocks
        return replace(area, base=area.base + behind, beside=behind)

    def store(self, tile: Tile, window: Window, area: Area, output: Tensor) -> None:
        """Both results to where ``window`` of an output lies."""
        tile.store(window.move(output.address, self.dtype, area.base))
        if self.also is not None:
            second, target = self.also
            tile.store(window.move(target.address, second.dtype, self._second(area).base))


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


def with_second(context: Context, epilogue: Epilogue, second: Operation | None) -> Epilogue:
    """Makes the result of an identity that reads the first one, too."""
    if second is None:
        return epilogue
    offset = np.array([-int(second.params["zero_point"])], np.int64)
    stages, arguments = second.params["epilogue"], second.arguments[1:]
    made = make_epilogue(context, stages, arguments, offset, second.dtype)
    return replace(epilogue, also=(made, context.output(second)))


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
