"""Operands of products as rows of bytes: where the k-th byte of row m lies, and whether it exists.

A dense layer's rows lie one behind the other. A convolution's row is the window of one output
pixel, in the order of its weights: kernel row, kernel column, channel; no image of windows is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, prod
from typing import Any

from tvm import tirx

from schedules.cuda import words
from schedules.cuda.words import Expr
from schedules.llvm.image import Window
from schedules.rule import Workload

_CHUNKS = (16, 8, 4, 2, 1)


@dataclass(frozen=True)
class Rows:
    """``count`` rows of ``depth`` bytes each; ``fill`` stands for what is not there."""

    count: int
    depth: int

    @property
    def fill(self) -> int:
        """The byte outside of an image."""
        return 0

    @property
    def chunk(self) -> int:
        """Bytes that lie together, and as a multiple of their number in memory, everywhere."""
        return _largest(self.depth)

    def place(self, row: Expr) -> tuple[Expr, ...]:
        """What a row's addresses need, computed once."""
        return (words.bind(_least(row, self.count - 1) * self.depth),)

    def address(self, place: tuple[Expr, ...], k: Expr, reach: int) -> tuple[Expr, Expr]:
        """Offset of byte ``k < reach`` and whether it exists; an offset that does not is any."""
        return place[0] + k, words.below(k, self.depth, reach)


@dataclass(frozen=True)
class Windows(Rows):
    """The windows of a convolution in one group; see ``windows_of``."""

    window: Window
    kernel: tuple[int, int]
    """Rows of the kernel, and pieces of a row that do not lie together."""
    piece: int
    """Bytes that lie together."""

    @property
    def fill(self) -> int:
        """The zero point."""
        return self.window.pad_value

    @property
    def chunk(self) -> int:
        """As of rows; every distance between windows counts."""
        w = self.window
        steps = [w.in_width, w.strides[1], w.padding[1]]
        if self.kernel[1] > 1:
            steps.append(w.dilation[1])
        return _largest(gcd(self.piece, *(step * w.channels for step in steps)))

    def place(self, row: Expr) -> tuple[Expr, ...]:
        """First line of the image, and top left corner of the window in it."""
        w = self.window
        pixel = words.bind(_least(row, self.count - 1))
        plane = w.out_height * w.out_width
        image, inside = pixel // plane, pixel % plane
        top = words.bind((inside // w.out_width) * w.strides[0] - w.padding[0])
        left = words.bind((inside % w.out_width) * w.strides[1] - w.padding[1])
        return words.bind(image * w.height), top, left

    def address(self, place: tuple[Expr, ...], k: Expr, reach: int) -> tuple[Expr, Expr]:
        """As of rows; what the padding holds does not exist."""
        w = self.window
        image, top, left = place
        piece, byte = words.bind(k // self.piece), words.bind(k % self.piece)
        line = words.bind(top + (piece // self.kernel[1]) * w.dilation[0])
        column = words.bind(left + (piece % self.kernel[1]) * w.dilation[1])
        offset = ((image + line) * w.in_width + column) * w.channels + byte
        conditions = [words.below(k, self.depth, reach)]
        if w.padding[0] or w.padding[2]:
            conditions += [line >= 0, line < w.height]
        if w.padding[1] or w.padding[3]:
            conditions += [column >= 0, column < w.in_width]
        return offset, words.every(*conditions)


def rows_of(workload: Workload) -> Rows | None:
    """The activations of a dense layer or a convolution of one group; None for others."""
    x, weight = workload.arguments[:2]
    if workload.op == "dense":
        return Rows(x.shape[0], x.shape[1])
    if workload.op != "conv2d" or workload.params["groups"] != 1:
        return None
    return windows_of(Window.of(workload), prod(weight.shape[1:]))


def windows_of(window: Window, depth: int) -> Rows:
    """The windows as rows; rows of memory where windows do not overlap."""
    kernel, strides, padding = window.kernel, window.strides, window.padding
    pixels = window.batch * window.out_height * window.out_width
    if kernel == (1, 1) and strides == (1, 1) and not any(padding):
        return Rows(pixels, depth)
    whole = not (padding[1] or padding[3]) and window.dilation[1] == 1
    pieces = 1 if whole else kernel[1]
    piece = window.channels * (kernel[1] if whole else 1)
    return Windows(pixels, depth, window, (kernel[0], pieces), piece)


def _largest(number: int) -> int:
    return next(size for size in _CHUNKS if number % size == 0)


def _least(index: Expr, limit: int) -> Any:
    return tirx.min(index, limit)
