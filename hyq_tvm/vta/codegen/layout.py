"""Layouts that views describe: where the rows of matrices lie in larger tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.vta.codegen.source import Operation
from hyq_tvm.vta.codegen.window import dense_strides, merged


@dataclass(frozen=True)
class View:
    """L2: ``out[i...] = x.flat[offset + sum(i * stride)]``."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, operation: Operation) -> View:
        """Of a view operator."""
        params = operation.params
        shape, strides = (tuple(int(n) for n in params[key]) for key in ("shape", "strides"))
        return cls(shape, strides, int(params["offset"]))

    def positions(self) -> NDArray[np.int64]:
        """The element of x that each element of the result is."""
        found = np.full(self.shape, self.offset, np.int64)
        for axis, (count, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            steps = np.arange(count, dtype=np.int64) * stride
            found += steps.reshape(-1, *(1,) * (len(self.shape) - axis - 1))
        return found

    def is_permutation(self) -> bool:
        """Every element of x is taken once, in another order of axes."""
        axes = sorted(zip(self.strides, self.shape, strict=True), reverse=True)
        dense = dense_strides([n for _, n in axes])
        return not self.offset and all(
            n == 1 or s == d for (s, n), d in zip(axes, dense, strict=True)
        )


@dataclass(frozen=True)
class Rows:
    """Matrices ``[B, N, D]`` in a larger tensor: where each starts, and from row to row."""

    starts: tuple[int, ...]
    step: int

    def start(self, index: int, row: int) -> int:
        """The first element of a row."""
        return self.starts[index] + row * self.step


def dense_rows(shape: Sequence[int]) -> Rows:
    """Of a tensor ``[B, N, D]`` that lies by itself."""
    batch, rows, depth = shape
    return Rows(tuple(index * rows * depth for index in range(batch)), depth)


def rows_at(positions: NDArray[np.int64], shape: Sequence[int]) -> Rows | None:
    """``positions`` of ``[B, N, D]`` as rows of neighbours; None if they are none."""
    found = positions.reshape(shape)
    steps = np.diff(found[:, :, 0], axis=1)
    if (np.diff(found, axis=2) != 1).any() or (steps.size and (steps != steps.flat[0]).any()):
        return None
    step = int(steps.flat[0]) if steps.size else int(shape[2])
    return Rows(tuple(int(s) for s in found[:, 0, 0]), step) if step > 0 else None


@dataclass(frozen=True)
class RowWalk:
    """Rows of ``[R, C]`` as axes ``sizes``, and the steps of each through two tensors.

    own: in rows of the matrix. target: in elements of the tensor that is written.
    """

    sizes: tuple[int, ...]
    own: tuple[int, ...]
    target: tuple[int, ...]


def dense_walk(rows: int, channels: int) -> RowWalk:
    """A matrix that is written as it is."""
    return RowWalk((rows,), (1,), (channels,))


def row_walk(view: View, channels: int) -> RowWalk | None:
    """How rows of ``channels`` elements spread when they are written through a view.

    The longest axes come last: a tile covers two of them.
    """
    if not view.is_permutation():
        return None
    order = sorted(range(len(view.shape)), key=lambda axis: -view.strides[axis])
    sizes = [view.shape[axis] for axis in order]
    outer = dense_strides(view.shape)
    steps = [[view.strides[axis] for axis in order], [outer[axis] for axis in order]]
    sizes, (own, target) = merged(sizes, steps)
    last = sizes[-1]
    if (own[-1], target[-1]) != (1, 1) or last % channels:
        return None
    axes = [*zip(sizes[:-1], own, target, strict=False), (last // channels, channels, channels)]
    axes = sorted((axis for axis in axes if axis[0] > 1), key=lambda axis: axis[0]) or axes[-1:]
    return RowWalk(
        tuple(size for size, _, _ in axes),
        tuple(step // channels for _, step, _ in axes),
        tuple(step for _, _, step in axes),
    )
