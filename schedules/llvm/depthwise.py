"""Depthwise convolutions: taps of several kernel rows side by side in one vector of channels.

A product instruction adds the products of ``group`` neighbours in a register. Neighbours here are
the pixels of one column in ``group`` kernel rows, interleaved channel by channel; a column serves
all the outputs whose windows it is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedules.llvm import choices, operand, vector
from schedules.llvm.image import Window, row_block, row_blocks
from schedules.llvm.isa import Isa, instruction_set
from schedules.llvm.products import Finish, finisher, has_constant_weights, plan_epilogue
from schedules.llvm.row import Rows
from schedules.llvm.vector import Buffer, Expr
from schedules.prim_func import prim_func
from schedules.rule import Constant, Kernel, Workload, passed_specs

REGISTERS = 4
"""Registers of sums in a block of channels."""

PARALLEL_PRODUCTS = 300_000
_UNITS = 4
_UNIT_CHOICES = (1, 2, 3, 4, 6, 8)
_MOST_PIXELS_A_UNIT = 8


@dataclass(frozen=True)
class Choice:
    """``units`` units of a row at once; ``block`` output rows together; threads or not: 1, 0."""

    units: int
    block: int
    threads: int


def schedule(workload: Workload, target: Any, choice: Choice | None = None) -> Kernel | None:
    """Convolutions with as many groups as input and output channels, and constant weights."""
    if not is_depthwise(workload):
        return None
    isa = instruction_set(target)
    epilogue = plan_epilogue(workload, isa)
    if epilogue is None:
        return None
    return Depthwise(
        workload, isa, finisher(isa, epilogue), choice or own_choice(workload, isa)
    ).kernel()


def space(workload: Workload, target: Any) -> Sequence[Choice]:
    """Choices for ``workload``, the rule's own first; empty where it is not the rule's."""
    if not is_depthwise(workload):
        return ()
    isa = instruction_set(target)
    if plan_epilogue(workload, isa) is None:
        return ()
    default, window = own_choice(workload, isa), Window.of(workload)
    everything = product(
        [n for n in _UNIT_CHOICES if n <= _most_units(window, isa)],
        row_blocks(window, default.block),
        choices.thread_choices(target, bool(default.threads)),
    )
    return choices.default_first(default, (Choice(*c) for c in everything))


def is_depthwise(workload: Workload) -> bool:
    """Whether there are as many groups as channels, and weights are constant."""
    if workload.op != "conv2d" or not has_constant_weights(workload):
        return False
    outputs, inputs = len(workload.constant(1)), workload.arguments[0].shape[3]
    return bool(workload.params["groups"] == outputs == inputs)


def own_choice(workload: Workload, isa: Isa) -> Choice:
    """The rule's own choice."""
    window = Window.of(workload)
    threads = window.pixels * workload.constant(1).size >= PARALLEL_PRODUCTS
    block = row_block(window, threads, np.dtype(isa.operand).itemsize)
    return Choice(min(_UNITS, _most_units(window, isa)), block, int(threads))


def _most_units(window: Window, isa: Isa) -> int:
    return window.out_width // Unit.of(window, REGISTERS * isa.lanes).pixels


@dataclass(frozen=True)
class Unit:
    """What repeats along an output row: ``pixels`` pixels as ``blocks`` full blocks of elements.

    Where channels do not fill blocks, several pixels do, or else the last block is not full.
    """

    pixels: int
    blocks: int

    @classmethod
    def of(cls, window: Window, block: int) -> Unit:
        """The unit for rows of ``window`` in blocks of ``block`` elements."""
        pixels = block // gcd(window.channels, block)
        if window.strides[1] == 1 and pixels <= min(_MOST_PIXELS_A_UNIT, window.out_width):
            return cls(pixels, pixels * window.channels // block)
        return cls(1, -(-window.channels // block))


class Depthwise:
    """The kernel of a choice; ``finish`` makes the code behind its sums."""

    def __init__(self, workload: Workload, isa: Isa, finish: Finish, choice: Choice) -> None:
        self.workload = workload
        self.isa = isa
        self.rows = Rows(isa, {1: 0, 2: 2, 4: 4}[isa.group])
        self.block = REGISTERS * isa.lanes
        self.window = Window.of(workload)
        window = self.window
        self.unit = Unit.of(window, self.block)
        self.choice = choice
        self.pitch = operand.spread(window.width * window.channels)
        self.lanes = self._lane_channels()
        self.finisher = finish(self.lanes.reshape(-1), self.rows.mixed)
        self.vertical = -(-window.kernel[0] // isa.group)
        self.weights: Buffer = None

    def _lane_channels(self) -> NDArray[np.int64]:
        """``[blocks, lanes of a block]``: the channel of every lane, -1 for none."""
        order = np.asarray(self.rows.positions(REGISTERS))
        element: NDArray[np.int64] = np.arange(self.unit.blocks)[:, None] * self.block + order
        channels = self.window.channels
        if self.unit.blocks * self.block == self.unit.pixels * channels:
            return element % channels
        return np.where(element < channels, element, np.int64(-1))

    def _packed_weights(self) -> NDArray[Any]:
        """``[blocks, groups of kernel rows, kernel columns, lanes, group]``."""
        weight = self.workload.constant(1)[..., 0]
        group, (height, width) = self.isa.group, self.window.kernel
        padded = np.zeros((len(weight), self.vertical * group, width), weight.dtype)
        padded[:, :height] = weight
        lanes = np.where(
            (self.lanes >= 0)[..., None, None], padded[self.lanes], weight.dtype.type(0)
        )
        split = lanes.reshape(*self.lanes.shape, self.vertical, group, width)
        return np.ascontiguousarray(split.transpose(0, 2, 4, 1, 3))

    def kernel(self) -> Kernel:
        """The scheduled PrimFunc and its arguments."""
        weights = Constant(self._packed_weights())
        arguments: list[int | Constant] = [0, weights, *self.finisher.arguments]
        window = self.window
        name = f"depthwise_{window.label}"
        specs = passed_specs(self.workload, arguments)
        function = prim_func(name, specs, self.workload.output, self._body)
        return Kernel(name, function, tuple(arguments))

    def _body(self, x: Buffer, weights: Buffer, *rest: Buffer) -> None:
        self.weights = weights
        self.finisher.bind(rest[:-1], rest[-1])
        window, height = self.window, self.choice.block
        blocks = -(-window.out_height // height)
        with vector.tasks(window.batch * blocks, bool(self.choice.threads)) as number:
            image = number // blocks
            first = vector.at_most(number % blocks * height, window.out_height - height)
            size = window.span(height) * self.pitch + 2 * self.block
            lines = vector.scratch(self.isa.operand, size)
            place = (image, first)
            operand.copy_window(self.isa, window, lines, self.pitch, x, place, height, self.block)
            with vector.loop(height) as row:
                start = row * (window.strides[0] * self.pitch)
                self._row(lines, start, image * window.out_height + first + row)

    def _row(self, lines: Buffer, start: Expr, line: Expr) -> None:
        window, unit = self.window, self.unit
        pixels = unit.pixels * self.choice.units
        channels = window.channels
        full = channels // self.block if unit.pixels == 1 else unit.blocks
        with vector.loop(-(-window.out_width // pixels)) as number:
            column = vector.at_most(number * pixels, window.out_width - pixels)
            source = start + column * (window.strides[1] * channels)
            target = (line * window.out_width + column) * channels
            with vector.loop(full) as block:
                self._tile(lines, source, target, block, pixels, self.block)
            if full < unit.blocks:
                self._tile(lines, source, target, full, pixels, channels % self.block)

    def _tile(
        self, lines: Buffer, source: Expr, target: Expr, block: Expr, pixels: int, valid: int
    ) -> None:
        """Block number ``block`` of all the units in ``pixels`` pixels."""
        window, unit = self.window, self.unit
        offset = block * self.block
        units = range(pixels // unit.pixels)
        starts = [self.finisher.start(block * REGISTERS + i) for i in range(REGISTERS)]
        totals = [list(starts) for _ in units]
        outputs = [u * unit.pixels * window.channels for u in units]
        step, reach = window.dilation[1] * window.channels, window.strides[1]
        columns = sorted({o * reach + s * step for o in outputs for s in range(window.kernel[1])})
        for group in range(self.vertical):
            for column in columns:
                taps = self._column(lines, source + offset + column, group)
                for total, output in zip(totals, outputs, strict=True):
                    tap, rest = divmod(column - output * reach, step)
                    if rest or not 0 <= tap < window.kernel[1]:
                        continue
                    self._add(total, taps, (block * self.vertical + group) * window.kernel[1] + tap)
        places = [target + offset + output for output in outputs]
        self.finisher.finish(totals, block * REGISTERS, places, valid)

    def _add(self, total: list[Expr], taps: list[Expr], number: Expr) -> None:
        """A column's products with the weights of tap ``number``."""
        size = self.isa.lanes * self.isa.group
        for i in range(REGISTERS):
            weight = self.isa.weights(self.weights, (number * REGISTERS + i) * size)
            total[i] = vector.bind(self.isa.dot(total[i], taps[i], weight))

    def _column(self, lines: Buffer, offset: Expr, group: int) -> list[Expr]:
        """The rows of a group, interleaved, for all registers of a block."""
        isa, window = self.isa, self.window
        first = group * isa.group
        step = window.dilation[0] * self.pitch
        rows = range(first, min(first + isa.group, window.kernel[0]))
        places = [offset + row * step for row in rows]
        if isa.group == 1:
            loads = [
                vector.load(lines, places[0] + i * isa.lanes, isa.lanes) for i in range(REGISTERS)
            ]
            return [vector.bind(vector.cast(v, isa.sums, isa.lanes)) for v in loads]
        lanes = isa.lanes * 4 // np.dtype(isa.operand).itemsize
        taps = []
        for i in range(REGISTERS // isa.group):
            read = [vector.bind(vector.load(lines, p + i * lanes, lanes)) for p in places]
            # Weights of zero meet whatever fills the group.
            read += [read[-1]] * (isa.group - len(read))
            taps += _interleaved(read, lanes, 16 // np.dtype(isa.operand).itemsize)
        return [vector.reinterpret(t, "int32", isa.lanes) for t in taps]


def _interleaved(rows: list[Expr], lanes: int, block: int) -> list[Expr]:
    """Two or four vectors element by element; as many vectors, each within blocks of 128 bits."""
    if len(rows) == 2:
        return _unpacked(rows[0], rows[1], lanes, block, 1)
    first, second = _unpacked(rows[0], rows[1], lanes, block, 1)
    third, fourth = _unpacked(rows[2], rows[3], lanes, block, 1)
    return [
        *_unpacked(first, third, lanes, block, 2),
        *_unpacked(second, fourth, lanes, block, 2),
    ]


def _unpacked(a: Expr, b: Expr, lanes: int, block: int, size: int) -> list[Expr]:
    """``size`` elements of ``a`` and of ``b`` in turn: lower halves of blocks, then upper ones."""
    halves = []
    for start in (0, block // 2):
        order = [
            base + first + vectors * lanes + i
            for base in range(0, lanes, block)
            for first in range(start, start + block // 2, size)
            for vectors in range(2)
            for i in range(size)
        ]
        halves.append(vector.bind(vector.shuffle([a, b], order)))
    return halves
