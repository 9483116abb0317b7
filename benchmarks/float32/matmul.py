"""Products of two activations, in tiles, one sample after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from benchmarks.float32.functions import real
from schedules.llvm import operand, tile, vector
from schedules.llvm.isa import Isa
from schedules.llvm.tile import Reduction, Strips
from schedules.llvm.vector import Buffer, Expr
from schedules.prim_func import prim_func
from schedules.rule import Kernel, Spec

_PARALLEL_PRODUCTS = 500_000
_TASKS = 8


@dataclass(frozen=True)
class Product:
    """``a [batch,rows,depth]`` by ``b``: ``[batch,depth,columns]``, or ``[batch,columns,depth]``
    where ``transposed``; times ``scale``. The result is float32, or int8 rounded, plus
    ``zero_point`` and saturated to ``[low, high]``. Operands are float32 or int8.
    """

    batch: int
    rows: int
    depth: int
    columns: int
    transposed: bool
    scale: float
    types: tuple[str, str] = ("float32", "float32")
    output: str = "float32"
    zero_point: int = 0
    low: int = -128
    high: int = 127


def matmul(product: Product, isa: Isa) -> Kernel:
    """The kernel; its arguments are a and b."""
    p = product
    b = (p.batch, p.columns, p.depth) if p.transposed else (p.batch, p.depth, p.columns)
    specs = [Spec((p.batch, p.rows, p.depth), p.types[0]), Spec(b, p.types[1])]
    output = Spec((p.batch, p.rows, p.columns), p.output)
    name = f"matmul_{p.batch}x{p.rows}x{p.depth}x{p.columns}"
    return Kernel(name, prim_func(name, specs, output, _Matmul(p, isa).body), (0, 1))


class _Matmul:
    def __init__(self, product: Product, isa: Isa) -> None:
        self.product = product
        self.isa = isa
        self.shape = tile.choose(isa, product.rows, product.columns, product.depth)
        self.strips = tile.cut(product.columns, isa.lanes, self.shape.registers)
        self.registers = -(-product.columns // isa.lanes)
        p = product
        self.threads = p.batch * p.rows * p.depth * p.columns >= _PARALLEL_PRODUCTS

    def body(self, a: Buffer, b: Buffer, out: Buffer) -> None:
        p = self.product
        panel = self.registers * self.isa.lanes * p.depth
        packed = vector.scratch("float32", p.batch * panel)
        with vector.tasks(p.batch, self.threads) as sample:
            self._pack(packed, sample * panel, b, sample * (p.depth * p.columns))
        tiles = -(-p.rows // self.shape.rows)
        blocks = min(tiles, -(-_TASKS // p.batch)) if self.threads else 1
        each = -(-tiles // blocks)
        with vector.tasks(p.batch * blocks, self.threads) as task:
            sample = task // blocks
            lines = vector.scratch("float32", self.shape.rows * p.depth)
            with vector.loop(each) as number:
                first = (task % blocks * each + number) * self.shape.rows
                first = vector.at_most(first, p.rows - self.shape.rows)
                self._tile((a, lines, packed, out), sample, first, sample * panel)

    def _pack(self, packed: Buffer, place: Expr, b: Buffer, start: Expr) -> None:
        """Panels ``[depth][registers][lanes]`` of each strip; lanes behind the end of any value."""
        for strips in self.strips:
            with vector.loop(strips.count) as number, vector.loop(self.product.depth) as k:
                register = strips.first + number * strips.registers
                target = place + (register * self.product.depth + k * strips.registers) * 16
                self._pack_step(packed, target, strips, b, start, register * 16, k)

    def _pack_step(
        self, packed: Buffer, target: Expr, strips: Strips, b: Buffer, start: Expr, column: Expr,
        k: Expr,
    ) -> None:  # fmt: skip
        p = self.product
        for i in range(strips.registers):
            valid = min(16, strips.valid - i * 16)
            if p.transposed:
                # Columns behind the last one read the last one again.
                steps = np.minimum(np.arange(16), valid - 1) * p.depth
                index = vector.broadcast(start + (column + i * 16) * p.depth + k, 16)
                order = [tirx.const(int(s), "int32") for s in steps]
                value = vector.gather(b, index + tirx.Shuffle(order, list(range(16))))
            else:
                offset = start + k * p.columns + column + i * 16
                value = vector.load_some(b, offset, 16, valid, p.types[1])
            vector.store(packed, target + i * 16, vector.cast(value, "float32", 16), 16)

    def _tile(self, buffers: tuple[Buffer, ...], sample: Expr, first: Expr, place: Expr) -> None:
        a, lines, packed, out = buffers
        p, height = self.product, self.shape.rows
        start = (sample * p.rows + first) * p.depth
        rows = [start + i * p.depth for i in range(height)]
        if p.types[0] != "float32":
            operand.copy(self.isa, lines, 0, a, start, height * p.depth)
            a, rows = lines, [tirx.const(i * p.depth, "int32") for i in range(height)]
        for strips in self.strips:
            with vector.loop(strips.count) as number:
                register = strips.first + number * strips.registers
                totals = tile.accumulate(
                    self.isa, Reduction(p.depth), a, rows, packed,
                    place + register * (p.depth * 16), [real(0.0, 16)] * strips.registers,
                )  # fmt: skip
                for i, registers in enumerate(totals):
                    target = (sample * p.rows + first + i) * p.columns + register * 16
                    self._store(out, registers, target, strips.valid)

    def _store(self, out: Buffer, registers: list[Expr], place: Expr, valid: int) -> None:
        p = self.product
        for i, total in enumerate(registers):
            left = valid - i * 16
            value: Any = total * real(p.scale, 16)
            if p.output != "float32":
                rounded = vector.cast(tirx.nearbyint(value), "int32", 16)
                moved = rounded + vector.constant(p.zero_point, "int32", 16)
                clipped = vector.bind(vector.clip(moved, p.low, p.high, "int32", 16))
                value = vector.cast(clipped, p.output, 16)
            vector.store_some(out, place + i * 16, vector.bind(value), 16, left)
