"""A block of a channels-last tensor: rows of runs of neighbouring elements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from hyq_tvm.vta.isa.table import LENGTH_BITS, SIZE_BITS
from hyq_tvm.vta.transfer import Transfer

MAX_LENGTH = (1 << LENGTH_BITS) - 1
MAX_SIZE = (1 << SIZE_BITS) - 1

ACCUMULATOR_KINDS = {"int32": "ACC", "int16": "ACC16", "int8": "ACC8", "uint8": "ACCU8"}
"""The memory kind that moves a dtype between DRAM and accumulators."""


@dataclass(frozen=True)
class Window:
    """``y`` x ``x`` runs of ``length`` elements; start and strides in elements."""

    start: int
    y: int
    x: int
    length: int
    y_stride: int
    x_stride: int

    @property
    def runs(self) -> int:
        """How many runs."""
        return self.y * self.x

    def blocks(self, block: int) -> int:
        """Entries of a run."""
        return -(-self.length // block)

    def move(self, address: int, dtype: str, sram: int, memory: str = "") -> Transfer:
        """The transfer between a tensor at ``address`` and entries from ``sram`` on."""
        size = np.dtype(dtype).itemsize
        return Transfer(
            memory=memory or ACCUMULATOR_KINDS[dtype],
            sram=sram,
            dram=address + self.start * size,
            y=self.y,
            x=self.x,
            length=self.length,
            pads=(0, 0, 0, 0),
            y_stride=self.y_stride * size,
            x_stride=self.x_stride * size,
        )

    def shifted(self, elements: int) -> Window:
        """The same block further on."""
        return replace(self, start=self.start + elements)


def span(window: Window, address: int, dtype: str) -> tuple[int, int]:
    """The DRAM bytes that a window of a tensor covers."""
    move = window.move(address, dtype, 0)
    return move.dram, move.end


def pieces(total: int, step: int) -> Iterator[tuple[int, int]]:
    """``(start, length)`` of consecutive parts of at most ``step``."""
    for start in range(0, total, step):
        yield start, min(step, total - start)


def even_pieces(total: int, step: int) -> Iterator[tuple[int, int]]:
    """As few parts of at most ``step``, all of nearly the same length."""
    return pieces(total, -(-total // -(-total // step)))


def split_runs(
    shape: Sequence[int], strides: Sequence[Sequence[int]], runs: int, length: int
) -> Iterator[tuple[int, list[Window]]]:
    """Blocks of at most ``runs`` runs of at most ``length`` elements that cover ``shape``.

    strides: per tensor, elements from one index to the next on each axis; the last axis has
    stride 1 in all of them. Each block comes as its first position on the last axis and one window
    a tensor.
    """
    *outer, rows, columns, last = (1, 1, *shape)
    wide = [(0, 0, *s) for s in strides]
    for start in product(*(range(n) for n in outer)):
        bases = [sum(i * s for i, s in zip(start, st, strict=False)) for st in wide]
        for box in _boxes(rows, columns, last, runs, length):
            yield box[4], [_window(base, st, box) for base, st in zip(bases, wide, strict=True)]


_Box = tuple[int, int, int, int, int, int]
"""Row, rows, column, columns, element, elements."""


def _boxes(rows: int, columns: int, last: int, runs: int, length: int) -> Iterator[_Box]:
    for column, width in even_pieces(columns, min(runs, MAX_SIZE)):
        for row, height in even_pieces(rows, max(1, min(runs // width, MAX_SIZE))):
            for element, count in pieces(last, min(length, MAX_LENGTH)):
                yield row, height, column, width, element, count


def _window(base: int, strides: Sequence[int], box: _Box) -> Window:
    row, height, column, width, element, count = box
    y_stride, x_stride, step = strides[-3:]
    start = base + row * y_stride + column * x_stride + element * step
    return Window(start, height, width, count, y_stride, x_stride)


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a dense tensor, last axis fastest."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def merged(
    shape: Sequence[int], strides: Sequence[Sequence[int]]
) -> tuple[list[int], list[list[int]]]:
    """The same walk with as few axes as possible: neighbours that continue each other become one.

    Axes of one element vanish. strides: per tensor.
    """
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        here = [s[axis] for s in strides]
        if sizes and all(st[-1] == h * n for st, h in zip(steps, here, strict=True)):
            sizes[-1] *= n
            for st, h in zip(steps, here, strict=True):
                st[-1] = h
            continue
        sizes.append(n)
        for st, h in zip(steps, here, strict=True):
            st.append(h)
    if not sizes:
        return [1], [[1] for _ in strides]
    return sizes, steps
