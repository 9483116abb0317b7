"""An operator whose epilogue is still growing: fusion adds stages before it is emitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.numerics.fixed_point import INT32_HIGH, quantize_multiplier, quantize_multipliers
from hyq_tvm.quantization.integer_program import Argument, Instruction
from hyq_tvm.quantization.lowering.grid import Grid, Scales, Value
from hyq_tvm.quantization.unary import evaluate

ADD_MULTIPLIER_BITS = 15


@dataclass(frozen=True, eq=False)
class Pending:
    """``op(*arguments)`` followed by epilogue stages.

    raw_shape: the operator's own output shape; shape: the graph tensor's.
    factor: real value of one accumulator step (broadcasts from the right) while ``grid`` is None;
    afterwards ``grid`` says what the last stage makes.
    """

    layer: str
    op: str
    arguments: tuple[Argument, ...]
    params: Mapping[str, Any]
    raw_shape: tuple[int, ...]
    shape: tuple[int, ...]
    factor: Scales
    stages: tuple[Mapping[str, Any], ...] = ()
    stage_arguments: tuple[Argument, ...] = ()
    grid: Grid | None = None

    @property
    def is_accumulator(self) -> bool:
        """No stage yet: values are raw accumulators."""
        return self.grid is None

    def requantized(self, grid: Grid) -> Pending:
        """R32 onto ``grid``; from an accumulator or from a stage whose zero point is 0."""
        step = self.factor if self.grid is None else self.grid.scale
        if self.grid is not None and self.grid.zero_point:
            raise ValueError(f"{self.layer}: a stage with a zero point cannot be requantized")
        multiplier, shift = quantize_multiplier(np.atleast_1d(step / grid.scale))
        stage = {
            "kind": "requantize",
            "zero_point": grid.zero_point,
            "low": grid.low,
            "high": grid.high,
            "dtype": grid.dtype,
        }
        return self._with(stage, (multiplier, shift), grid)

    def looked_up(self, fn: str, args: tuple[float, ...], grid: Grid) -> Pending:
        """``fn`` as a table from the present (uniform) grid to ``grid`` (uniform)."""
        if self.grid is None or not self.grid.uniform or not grid.uniform:
            raise ValueError(f"{self.layer}: a table maps one uniform grid to another")
        table = grid.quantize(evaluate(fn, args, self.grid.levels()))
        stage = {"kind": "lookup", "low": self.grid.low, "dtype": grid.dtype}
        return self._with(stage, (table,), grid)

    def added(self, other: Value, grid: Grid) -> Pending:
        """Add ``other`` (uniform grid) on the present grid (zero point 0), saturating to ``grid``.

        On one scale this is a plain saturating add; else ``other`` is rescaled first.
        """
        if self.grid is None or self.grid.zero_point or not other.grid.uniform:
            raise ValueError(f"{self.layer}: operands of a fused add need one scale each")
        multiplier, shift = 1, 0
        if not np.array_equal(other.grid.scale, self.grid.scale):
            ratio = other.grid.scale / self.grid.scale
            multipliers, shift = quantize_multipliers(ratio, bits=ADD_MULTIPLIER_BITS)
            multiplier = int(multipliers[0][0])
        stage = {
            "kind": "add",
            "zero_point": other.grid.zero_point,
            "multiplier": multiplier,
            "shift": shift,
            "low": grid.low,
            "high": grid.high,
            "dtype": grid.dtype,
        }
        return replace(
            self,
            stages=(*self.stages, stage),
            stage_arguments=(*self.stage_arguments, other.argument(self.raw_shape)),
            grid=grid,
        )

    def instruction(self, name: str) -> Instruction:
        """The finished operator; raw accumulators come out as int32."""
        dtype = "int32" if self.grid is None else self.grid.dtype
        return Instruction(
            name=name,
            op=self.op,
            arguments=(*self.arguments, *self.stage_arguments),
            params={**self.params, "epilogue": [dict(stage) for stage in self.stages]},
            shape=self.raw_shape,
            dtype=dtype,
            layer=self.layer,
        )

    def _with(
        self, stage: Mapping[str, Any], arrays: tuple[NDArray[Any], ...], grid: Grid
    ) -> Pending:
        constants = tuple(Argument.constant(array) for array in arrays)
        return replace(
            self,
            stages=(*self.stages, stage),
            stage_arguments=(*self.stage_arguments, *constants),
            grid=grid,
        )


def fine_grid(grid: Grid, fraction_bits: int) -> Grid:
    """An int32-held grid 2^fraction_bits finer than ``grid``'s smallest step, zero point 0."""
    scale = np.array([float(grid.scale.min()) / 2**fraction_bits])
    limit = INT32_HIGH // 4
    return Grid(scale, 0, -limit, limit, "int32")
