"""Convolutions over channels-last images: blocks of rows, padded in scratch memory, in tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedules.llvm import choices, operand, tile, vector
from schedules.llvm.image import Window, row_block, row_blocks
from schedules.llvm.isa import Isa, instruction_set
from schedules.llvm.products import (
    PARALLEL_PRODUCTS,
    Finish,
    Products,
    finisher,
    has_constant_weights,
    plan_epilogue,
)
from schedules.llvm.tile import Reduction, Shape
from schedules.llvm.vector import Buffer, Expr
from schedules.rule import Kernel, Workload


@dataclass(frozen=True)
class Choice:
    """Tiles of ``columns`` pixels by ``registers`` registers; ``unroll`` groups of the reduction in
    its loop's body; ``block`` output rows together, in threads or not (1, 0).
    """

    columns: int
    registers: int
    unroll: int
    block: int
    threads: int


def schedule(workload: Workload, target: Any, choice: Choice | None = None) -> Kernel | None:
    """Any convolution with constant weights; depthwise ones have a better rule."""
    if workload.op != "conv2d" or not has_constant_weights(workload):
        return None
    isa = instruction_set(target)
    epilogue = plan_epilogue(workload, isa)
    if epilogue is None:
        return None
    return Conv(workload, isa, finisher(isa, epilogue), choice).kernel()


def space(workload: Workload, target: Any) -> Sequence[Choice]:
    """Choices for ``workload``, the rule's own first; empty where it is not the rule's."""
    if workload.op != "conv2d" or not has_constant_weights(workload):
        return ()
    isa = instruction_set(target)
    epilogue = plan_epilogue(workload, isa)
    if epilogue is None:
        return ()
    conv = Conv(workload, isa, finisher(isa, epilogue), None)
    default, window = conv.choice, conv.window
    everything = product(
        tile.shapes(isa, window.out_width),
        [n for n in choices.UNROLLED if n <= conv.reduction().groups],
        row_blocks(window, default.block),
        choices.thread_choices(target, bool(default.threads)),
    )
    return choices.default_first(
        default, (Choice(s.rows, s.registers, *rest) for s, *rest in everything)
    )


def merged(weight: NDArray[Any], groups: int, lanes: int) -> NDArray[Any]:
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


class Conv:
    """The kernel of a choice; ``finish`` makes the code behind its sums."""

    def __init__(self, workload: Workload, isa: Isa, finish: Finish, choice: Choice | None) -> None:
        self.isa = isa
        self.window = Window.of(workload)
        window, groups = self.window, int(workload.params["groups"])
        weight = merged(workload.constant(1), groups, isa.lanes)
        self.inputs = weight.shape[4]
        self.pitch = operand.spread(window.width * window.channels)
        self.choice = choice or self._default(weight)
        shape = Shape(self.choice.columns, self.choice.registers)
        reduction = self.reduction(self.choice.unroll)
        self.products = Products(workload, isa, finish, self._stretches(weight), reduction, shape)

    def _default(self, weight: NDArray[Any]) -> Choice:
        isa, window = self.isa, self.window
        threads = weight.size * window.pixels >= PARALLEL_PRODUCTS
        groups = self.reduction().total
        shape = tile.choose(isa, window.pixels, weight.shape[1], groups, window.out_width)
        return Choice(
            shape.rows,
            shape.registers,
            unroll=1,
            block=row_block(window, threads, np.dtype(isa.operand).itemsize),
            threads=int(threads),
        )

    def reduction(self, unroll: int = 1) -> Reduction:
        """Kernel rows; within one, all columns at once where their channels are neighbours."""
        window = self.window
        rows = (window.kernel[0], window.dilation[0] * self.pitch)
        if self._whole_rows:
            groups = -(-window.kernel[1] * window.channels // self.isa.group)
            return Reduction(groups, (rows,), unroll)
        columns = (window.kernel[1], window.dilation[1] * window.channels)
        return Reduction(-(-self.inputs // self.isa.group), (rows, columns), unroll)

    @property
    def _whole_rows(self) -> bool:
        return self.window.dilation[1] == 1 and self.inputs == self.window.channels

    def _stretches(self, weight: NDArray[Any]) -> NDArray[Any]:
        groups, outputs, height, width, inputs = weight.shape
        if self._whole_rows:
            return weight.reshape(groups, outputs, height, width * inputs)
        return weight.reshape(groups, outputs, height * width, inputs)

    def kernel(self) -> Kernel:
        """The scheduled PrimFunc and its arguments."""
        name = f"conv2d_{self.window.label}x{self.window.outputs}"
        return self.products.kernel(name, self._body)

    def _body(self, x: Buffer) -> None:
        window, block = self.window, self.choice.block
        blocks = -(-window.out_height // block)
        with vector.tasks(window.batch * blocks, bool(self.choice.threads)) as number:
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
        window, count = self.window, self.choice.columns
        with vector.loop(-(-window.out_width // count)) as number:
            column = vector.at_most(number * count, window.out_width - count)
            start = row * (window.strides[0] * self.pitch) + strip.group * self.inputs
            step = window.strides[1] * window.channels
            rows = [start + (column + i) * step for i in range(count)]
            pixels = [(line * window.out_width + column + i) for i in range(count)]
            self.products.tile(strip, lines, rows, [p * window.outputs for p in pixels])
