"""Integer grids and the values that lie on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hyq_tvm.numerics.constants import quantize_constant
from hyq_tvm.quantization.integer_program import Argument
from hyq_tvm.quantization.plan import TensorPlan

Scales = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Grid:
    """``real = scale * (q - zero_point)`` with q in [low, high], stored as dtype (N1).

    scale: length 1, or one per channel of the last axis.
    """

    scale: Scales
    zero_point: int
    low: int
    high: int
    dtype: str

    @classmethod
    def of(cls, plan: TensorPlan) -> Grid:
        """The grid a plan asks for."""
        return cls(plan.scales, plan.zero_point, plan.qmin, plan.qmax, plan.dtype)

    @classmethod
    def symmetric(cls, scale: float, bits: int) -> Grid:
        """One scale, zero point 0, stored in int8, int16 or int32 as ``bits`` needs."""
        high = 2 ** (bits - 1) - 1
        dtype = "int8" if bits <= 8 else "int16" if bits <= 16 else "int32"
        return cls(np.array([scale]), 0, -high, high, dtype)

    @property
    def uniform(self) -> bool:
        """One scale for all channels."""
        return self.scale.size == 1

    def same(self, other: Grid) -> bool:
        """Equal integers mean equal reals on both."""
        mine, theirs = np.broadcast_arrays(self.scale, other.scale)
        return self.zero_point == other.zero_point and np.array_equal(mine, theirs)

    def levels(self) -> Scales:
        """The real value of each integer low..high; for uniform grids."""
        steps = np.arange(self.low, self.high + 1) - self.zero_point
        return np.asarray(self.scale[0] * steps, dtype=np.float64)

    @property
    def reach(self) -> int:
        """The farthest integer from the zero point."""
        return max(self.high - self.zero_point, self.zero_point - self.low)

    def covering(self, bits: int) -> Grid:
        """The uniform symmetric grid of ``bits`` over all that this one holds."""
        return Grid.symmetric(float(self.scale.max()) * self.reach / (2 ** (bits - 1) - 1), bits)

    def quantize(self, values: ArrayLike) -> NDArray[Any]:
        """Constants on this grid."""
        return quantize_constant(
            values, self.scale, self.zero_point, self.low, self.high, self.dtype
        )

    def clamped(self, low: float, high: float) -> Grid:
        """The grid with q limited to reals in [low, high]; per tensor clamps of a uniform zero.

        A clamp at 0 or infinity is exact for per-channel scales too; another bound needs one scale.
        """
        if not self.uniform and any(b not in (0.0, -math.inf, math.inf) for b in (low, high)):
            raise ValueError("a clamp at a non-zero bound needs a grid with one scale")
        ends = [
            self.low if math.isinf(low) else int(self.quantize(low).flat[0]),
            self.high if math.isinf(high) else int(self.quantize(high).flat[0]),
        ]
        return Grid(self.scale, self.zero_point, ends[0], ends[1], self.dtype)


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the program on its grid: a name or a constant, with the graph's shape."""

    source: str | NDArray[Any]
    shape: tuple[int, ...]
    grid: Grid

    def argument(self, shape: tuple[int, ...] | None = None) -> Argument:
        """The value as an argument, seen under ``shape``."""
        seen = self.shape if shape is None else shape
        source = self.source
        if not isinstance(source, str):
            source = source.reshape(seen)
        return Argument(source, seen, self.grid.dtype)
