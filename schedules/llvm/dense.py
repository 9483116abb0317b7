"""Dense layers, and 1x1 convolutions of stride 1 as dense layers over pixels."""

from __future__ import annotations

from math import prod
from typing import Any

from schedules.llvm import operand, tile, vector
from schedules.llvm.isa import Isa, instruction_set
from schedules.llvm.products import (
    PARALLEL_PRODUCTS,
    TASKS,
    Products,
    has_constant_weights,
    plan_epilogue,
)
from schedules.llvm.stages import Epilogue
from schedules.llvm.tile import Reduction
from schedules.llvm.vector import Buffer, Expr
from schedules.rule import Kernel, Workload


def schedule(workload: Workload, target: Any) -> Kernel | None:
    """``x [M,K]`` times a constant ``weight [N,K]`` in register tiles."""
    if not (_is_dense(workload) and has_constant_weights(workload)):
        return None
    isa = instruction_set(target)
    epilogue = plan_epilogue(workload, isa)
    return None if epilogue is None else _Dense(workload, isa, epilogue).kernel()


def _is_dense(workload: Workload) -> bool:
    if workload.op != "conv2d":
        return workload.op == "dense"
    params = workload.params
    unit = workload.arguments[1].shape[1:3] == (1, 1) and tuple(params["strides"]) == (1, 1)
    return unit and params["groups"] == 1 and not any(params["padding"])


class _Dense:
    def __init__(self, workload: Workload, isa: Isa, epilogue: Epilogue) -> None:
        weight = workload.constant(1)
        matrix = weight.reshape(1, len(weight), 1, -1)
        self.isa = isa
        self.name = workload.op
        self.channels, self.depth = len(weight), matrix.shape[-1]
        self.rows = prod(workload.output.shape) // self.channels
        groups = -(-self.depth // isa.group)
        self.padding = groups * isa.group - self.depth
        self.stride = operand.spread(groups * isa.group)
        shape = tile.choose(isa, self.rows, self.channels, groups)
        self.height = shape.rows
        self.products = Products(workload, isa, epilogue, matrix, Reduction(groups), shape)

    def kernel(self) -> Kernel:
        name = f"{self.name}_{self.rows}x{self.depth}x{self.channels}"
        return self.products.kernel(name, self._body)

    def _body(self, x: Buffer) -> None:
        height = self.height
        threads = self.rows * self.depth * self.channels >= PARALLEL_PRODUCTS
        tiles = -(-self.rows // height)
        # Memory for a tile's rows costs a call, so a task is many tiles.
        each = -(-tiles // TASKS) if threads else tiles
        with vector.tasks(-(-tiles // each), threads) as task:
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
