"""Single steps of epilogues as VECTOR instructions on a block of accumulators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hyq_tvm.vta.codegen.context import Parameters, Tensor
from hyq_tvm.vta.codegen.tile import Loop, Resident, Tile
from hyq_tvm.vta.isa.table import INT32_HIGH, INT32_LOW


@dataclass(frozen=True)
class Area:
    """Accumulators of a tile: ``runs`` rows of ``blocks`` entries from ``base`` on.

    first: the channel block that the first entry of a row holds. beside: where the next step
    reads, if not in place: so many entries before the area.
    """

    base: int
    runs: int
    blocks: int
    first: int
    beside: int = 0

    @property
    def source(self) -> int:
        """The first entry that the next step reads."""
        return self.base - self.beside

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
        uops = [(area.base, area.source, at[0])]
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
        tile.vector("LOOKUP", [(area.base, area.source, 0)], area.outer(), area.inner())


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
        uops = [(area.base, area.source, at[0])]
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
