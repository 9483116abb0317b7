"""Convolutions over channels-last images: blocks of rows, padded in scratch memory, in tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedules.llvm import operand, tile, vector
from schedules.llvm.image import Window, row_block
from schedules.llvm.isa import Isa, instruction_set
from schedules.llvm.products import (
    PARALLEL_PRODUCTS,
    Products,
    has_constant_weights,
    plan_epilogue,
)
from schedules.llvm.stages import Epilogue
from schedules.llvm.tile import Reduction
from schedules.llvm.vector import Buffer, Expr
from schedules.rule import Kernel, Workload


def schedule(workload: Workload, target: Any) -> Kernel | None:
    """Any convolution with constant weights; depthwise ones have a better rule."""
    if workload.op != "conv2d" or not has_constant_weights(workload):
        return None
    isa = instruction_set(target)
    epilogue = plan_epilogue(workload, isa)
    return None if epilogue is None else _Conv(workload, isa, epilogue).kernel()


def merged(weight: NDArray[np.int8], groups: int, lanes: int) -> NDArray[np.int8]:
    """``weight [O,KH,KW,I]`` as ``[groups', O/groups', KH, KW, I']`` with fewer, larger groups.

    Small groups are joined until a register of channels is full; zeros keep them apart.
    """
    outputs, height, width, inputs = weight.shape
    own = outputs // groups
    joined = next(
        n for n in range(1, groups + 1) if groups % n == 0 and (n * own >= lanes or n == groups)
    )
    parts = weight.reshape(groups // joined, joined, own, height, width, inputs)
    result = np.zeros((*parts.shape[:5], joined, inputs), weight.dtype)
    for i in range(joined):
        result[:, i, ..., i, :] = parts[:, i]
    return result.reshape(groups // joined, joined * own, height, width, joined * inputs)


class _Conv:
    def __init__(self, workload: Workload, isa: Isa, epilogue: Epilogue) -> None:
        self.isa = isa
        self.window = Window.of(workload)
        window, groups = self.window, int(workload.params["groups"])
        weight = merged(workload.constant(1), groups, isa.lanes)
        self.inputs = weight.shape[4]
        products = weight.size * window.pixels
        self.threads = products >= PARALLEL_PRODUCTS
        self.block = row_block(window, self.threads, np.dtype(isa.operand).itemsize)
        self.pitch = operand.spread(window.width * window.channels)
        groups = self.reduction().total
        shape = tile.choose(isa, window.pixels, weight.shape[1], groups, window.out_width)
        self.columns = shape.rows
        self.products = Products(
            workload, isa, epilogue, self._stretches(weight), self.reduction(), shape
        )

    def reduction(self) -> Reduction:
        """Kernel rows; within one, all columns at once where their channels are neighbours."""
        window = self.window
        rows = (window.kernel[0], window.dilation[0] * self.pitch)
        if self._whole_rows:
            return Reduction(-(-window.kernel[1] * window.channels // self.isa.group), (rows,))
        columns = (window.kernel[1], window.dilation[1] * window.channels)
        return Reduction(-(-self.inputs // self.isa.group), (rows, columns))

    @property
    def _whole_rows(self) -> bool:
        return self.window.dilation[1] == 1 and self.inputs == self.window.channels

    def _stretches(self, weight: NDArray[np.int8]) -> NDArray[np.int8]:
        groups, outputs, height, width, inputs = weight.shape
        if self._whole_rows:
            return weight.reshape(groups, outputs, height, width * inputs)
        return weight.reshape(groups, outputs, height * width, inputs)

    def kernel(self) -> Kernel:
        name = f"conv2d_{self.window.label}x{self.window.outputs}"
        return self.products.kernel(name, self._body)

    def _body(self, x: Buffer) -> None:
        window, block = self.window, self.block
        blocks = -(-window.out_height // block)
        with vector.tasks(window.batch * blocks, self.threads) as number:
            image = number // blocks
            first = vector.at_most(number % blocks * block, window.out_height - block)
            size = window.span(block) * self.pitch + self.isa.bytes
            lines = vector.scratch(self.isa.operand, size)
            # Groups may reach behind the last pixel, where weights are zero.
            slack = self.isa.group - 1
            place = (image, first)
            operand.copy_window(self.isa, window, lines, self.pitch, x, place, block, slack)
            for strip in self.products.strips():
                with vector.loop(block) as row:
                    self._row(strip, lines, row, (image * window.out_height + first + row))

    def _row(self, strip: Any, lines: Buffer, row: Expr, line: Expr) -> None:
        window, count = self.window, self.columns
        with vector.loop(-(-window.out_width // count)) as number:
            column = vector.at_most(number * count, window.out_width - count)
            start = row * (window.strides[0] * self.pitch) + strip.group * self.inputs
            step = window.strides[1] * window.channels
            rows = [start + (column + i) * step for i in range(count)]
            pixels = [(line * window.out_width + column + i) for i in range(count)]
            self.products.tile(strip, lines, rows, [p * window.outputs for p in pixels])
