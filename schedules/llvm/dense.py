"""Dense layers, and 1x1 convolutions of stride 1 as dense layers over pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from schedules.llvm import choices, operand, tile, vector
from schedules.llvm.isa import Isa, instruction_set
from schedules.llvm.products import (
    PARALLEL_PRODUCTS,
    TASKS,
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
    """Tiles of ``rows`` rows by ``registers`` registers; ``unroll`` groups of the reduction in its
    loop's body; tiles in ``tasks`` pieces for threads, 1 for none.
    """

    rows: int
    registers: int
    unroll: int
    tasks: int


def schedule(workload: Workload, target: Any, choice: Choice | None = None) -> Kernel | None:
    """``x [M,K]`` times a constant ``weight [N,K]`` in register tiles."""
    if not (is_dense(workload) and has_constant_weights(workload)):
        return None
    isa = instruction_set(target)
    epilogue = plan_epilogue(workload, isa)
    if epilogue is None:
        return None
    return Dense(
        workload, isa, finisher(isa, epilogue), choice or own_choice(workload, isa)
    ).kernel()


def space(workload: Workload, target: Any) -> Sequence[Choice]:
    """Choices for ``workload``, the rule's own first; empty where it is not the rule's."""
    if not (is_dense(workload) and has_constant_weights(workload)):
        return ()
    isa = instruction_set(target)
    if plan_epilogue(workload, isa) is None:
        return ()
    default = own_choice(workload, isa)
    rows, depth, _ = _sizes(workload)
    unrolled = [n for n in choices.UNROLLED if n <= -(-depth // isa.group)]
    tasks = choices.task_choices(target, default.tasks, rows)
    shapes = tile.shapes(isa, rows)
    everything = product(shapes, unrolled, tasks)
    return choices.default_first(
        default, (Choice(s.rows, s.registers, unroll, pieces) for s, unroll, pieces in everything)
    )


def own_choice(workload: Workload, isa: Isa) -> Choice:
    """The rule's own choice."""
    rows, depth, channels = _sizes(workload)
    shape = tile.choose(isa, rows, channels, -(-depth // isa.group))
    threads = rows * depth * channels >= PARALLEL_PRODUCTS
    return Choice(shape.rows, shape.registers, unroll=1, tasks=TASKS if threads else 1)


def _sizes(workload: Workload) -> tuple[int, int, int]:
    """Rows, depth, channels."""
    channels = workload.arguments[1].shape[0]
    return prod(workload.output.shape) // channels, workload.arguments[1].size // channels, channels


def is_dense(workload: Workload) -> bool:
    """Whether it is a dense layer or a convolution that is one."""
    if workload.op != "conv2d":
        return workload.op == "dense"
    params = workload.params
    unit = workload.arguments[1].shape[1:3] == (1, 1) and tuple(params["strides"]) == (1, 1)
    return unit and params["groups"] == 1 and not any(params["padding"])


class Dense:
    """The kernel of a choice; ``finish`` makes the code behind its sums."""

    def __init__(self, workload: Workload, isa: Isa, finish: Finish, choice: Choice) -> None:
        weight = workload.constant(1)
        matrix = weight.reshape(1, len(weight), 1, -1)
        self.isa = isa
        self.name = workload.op
        self.rows, self.depth, self.channels = _sizes(workload)
        groups = -(-self.depth // isa.group)
        self.padding = groups * isa.group - self.depth
        self.stride = operand.spread(groups * isa.group)
        self.height, self.pieces = choice.rows, choice.tasks
        reduction = Reduction(groups, unroll=choice.unroll)
        shape = Shape(choice.rows, choice.registers)
        self.products = Products(workload, isa, finish, matrix, reduction, shape)

    def kernel(self) -> Kernel:
        """The scheduled PrimFunc and its arguments."""
        name = f"{self.name}_{self.rows}x{self.depth}x{self.channels}"
        return self.products.kernel(name, self._body)

    def _body(self, x: Buffer) -> None:
        height = self.height
        tiles = -(-self.rows // height)
        # Memory for a tile's rows costs a call, so a task is many tiles.
        each = -(-tiles // self.pieces)
        with vector.tasks(-(-tiles // each), self.pieces > 1) as task:
            lines = vector.scratch(self.isa.operand, height * self.stride + self.isa.bytes)
            start = vector.at_most(task * each, tiles - each)
            with vector.loop(each) as number:
                # The last tile starts early rather than being smaller: some rows are done twice.
                self._tiles(x, lines, vector.at_most((start + number) * height, self.rows - height))

    def _tiles(self, x: Buffer, lines: Buffer, first: Expr) -> None:
        self._copy(lines, x, first)
        rows = [i * self.stride for i in range(self.height)]
        offsets = [(first + i) * self.channels for i in range(self.height)]
        for strip in self.products.strips():
            self.products.tile(strip, lines, rows, offsets)

    def _copy(self, lines: Buffer, x: Buffer, first: Expr) -> None:
        if self.stride == self.depth:
            operand.copy(self.isa, lines, 0, x, first * self.depth, self.height * self.depth)
            return
        with vector.loop(self.height) as i:
            source = (first + i) * self.depth
            start = i * self.stride
            operand.copy(self.isa, lines, start, x, source, self.depth)
            # Padding meets weights of zero, but LLVM may do anything with undefined memory.
            operand.fill(self.isa, lines, start + self.depth, 0, self.padding)
