"""Dense layers, convolutions of one group and batched products, their epilogues fused.

Where the reduction and the channels are at least 32, on tensor cores; else four bytes at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schedules.cuda import dot, words
from schedules.cuda.finish import Finisher
from schedules.cuda.gather import Rows, rows_of
from schedules.cuda.tensor_cores import Operand, TileProduct
from schedules.cuda.tiles import Tile, own_tile, tile_space
from schedules.cuda.words import Buffer
from schedules.llvm.choices import default_first
from schedules.llvm.stages import Epilogue, plan
from schedules.prim_func import prim_func
from schedules.rule import Constant, Kernel, Workload, passed_specs

LEAST = 32
_MAGNITUDE = 128


@dataclass(frozen=True, eq=False)
class Weighted:
    """A product with constant weights ``matrix [channels, depth]``."""

    rows: Rows
    matrix: np.ndarray[Any, Any]
    epilogue: Epilogue

    @classmethod
    def of(cls, workload: Workload) -> Weighted | None:
        """That of a ``dense`` or a ``conv2d`` in one group; None for everything else."""
        rows = rows_of(workload) if workload.op in ("dense", "conv2d") else None
        if rows is None or any(workload.arguments[i].constant is None for i in (1, 2)):
            return None
        weight = workload.constant(1)
        matrix = weight.reshape(len(weight), -1)
        bias = workload.constant(2).astype(np.int64)
        bound = _MAGNITUDE * np.abs(matrix.astype(np.int64)).sum(axis=1) + np.abs(bias)
        epilogue = plan(workload.params["epilogue"], workload.arguments, bias, bound)
        return None if epilogue is None else cls(rows, matrix, epilogue)

    @property
    def is_small(self) -> bool:
        """Whether it is too small for tensor cores."""
        return min(map(int, self.matrix.shape)) < LEAST


def weighted(
    workload: Workload, target: Any, choice: Tile | dot.Choice | None = None
) -> Kernel | None:
    """``dense`` and ``conv2d`` with constant weights in one group."""
    found = Weighted.of(workload)
    if found is None:
        return None
    if found.is_small:
        own = choice if isinstance(choice, dot.Choice) else dot.own_choice(len(found.matrix))
        return dot.kernel(workload, found.rows, found.matrix, found.epilogue, own)
    tile = choice if isinstance(choice, Tile) else own_tile(found.rows.count, len(found.matrix))
    return _on_tensor_cores(workload, found, tile)


def weighted_tiles(workload: Workload, target: Any) -> Sequence[Tile]:
    """Tiles of ``weighted`` on tensor cores, its own first."""
    found = Weighted.of(workload)
    if found is None or found.is_small:
        return ()
    rows, (channels, depth) = found.rows, found.matrix.shape
    own = own_tile(rows.count, channels)
    return default_first(own, tile_space(rows.count, depth, channels, rows.chunk))


def small_choices(workload: Workload, target: Any) -> Sequence[dot.Choice]:
    """Choices of ``weighted`` where it is too small for tensor cores, its own first."""
    found = Weighted.of(workload)
    return dot.space(len(found.matrix)) if found is not None and found.is_small else ()


def _on_tensor_cores(workload: Workload, found: Weighted, tile: Tile) -> Kernel:
    rows, matrix = found.rows, found.matrix
    channels, depth = matrix.shape
    down, across = -(-rows.count // tile.rows), -(-channels // tile.columns)
    packed = np.zeros((across * tile.columns, -(-depth // tile.slice) * tile.slice), np.int8)
    packed[:channels, :depth] = matrix
    finisher = Finisher(found.epilogue, len(packed))
    spare = np.full(16, rows.fill, np.int8)
    arguments = [0, Constant(packed), Constant(spare), *finisher.arguments]
    name = f"{workload.op}_{rows.count}x{depth}x{channels}"

    def body(x: Buffer, weights: Buffer, fill: Buffer, *rest: Buffer) -> None:
        finisher.bind(rest[:-1], rest[-1])
        with words.grid((across, down), tile.threads) as (column, row, thread):
            TileProduct(tile, depth).emit(
                Operand(rows, x, 0, fill),
                Operand(Rows(*packed.shape), weights, 0, fill),
                (words.bind(row * tile.rows), words.bind(column * tile.columns)),
                thread,
                finisher,
                (0, rows.count, channels),
            )

    function = prim_func(name, passed_specs(workload, arguments), workload.output, body)
    return Kernel(name, function, tuple(arguments))


def batched(workload: Workload, target: Any, choice: Tile | None = None) -> Kernel | None:
    """``matmul``: both operands are data."""
    epilogue = _batched_epilogue(workload)
    if epilogue is None:
        return None
    (batch, count, depth), (_, channels, _) = (s.shape for s in workload.arguments[:2])
    tile = choice or own_tile(count, channels, batch)
    down, across = -(-count // tile.rows), -(-channels // tile.columns)
    finisher = Finisher(epilogue, across * tile.columns)
    arguments = [0, 1, Constant(np.zeros(16, np.int8)), *finisher.arguments]
    name = f"matmul_{batch}x{count}x{depth}x{channels}"

    def body(a: Buffer, b: Buffer, fill: Buffer, *rest: Buffer) -> None:
        finisher.bind(rest[:-1], rest[-1])
        with words.grid((across, down, batch), tile.threads) as (column, row, number, thread):
            TileProduct(tile, depth).emit(
                Operand(Rows(count, depth), a, words.bind(number * (count * depth)), fill),
                Operand(Rows(channels, depth), b, words.bind(number * (channels * depth)), fill),
                (words.bind(row * tile.rows), words.bind(column * tile.columns)),
                thread,
                finisher,
                (words.bind(number * (count * channels)), count, channels),
            )

    function = prim_func(name, passed_specs(workload, arguments), workload.output, body)
    return Kernel(name, function, tuple(arguments))


def batched_tiles(workload: Workload, target: Any) -> Sequence[Tile]:
    """Tiles of ``batched``, its own first."""
    if _batched_epilogue(workload) is None:
        return ()
    (batch, count, depth), (_, channels, _) = (s.shape for s in workload.arguments[:2])
    own = own_tile(count, channels, batch)
    return default_first(own, tile_space(count, depth, channels, Rows(count, depth).chunk))


def _batched_epilogue(workload: Workload) -> Epilogue | None:
    """That of a ``matmul`` for tensor cores; None for everything else."""
    if workload.op != "matmul":
        return None
    (_, _, depth), (_, channels, _) = (s.shape for s in workload.arguments[:2])
    if min(depth, channels) < LEAST:
        return None
    start = np.zeros(channels, np.int64)
    bound = np.full(channels, depth * _MAGNITUDE**2, np.int64)
    return plan(workload.params["epilogue"], workload.arguments, start, bound)
