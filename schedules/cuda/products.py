"""Dense layers, convolutions of one group and batched products, their epilogues fused.

Where the reduction and the channels are at least 32, on tensor cores; else four bytes at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from schedules.cuda import dot, words
from schedules.cuda.finish import Finisher
from schedules.cuda.gather import Rows, rows_of
from schedules.cuda.tensor_cores import SLICE, Operand, TileProduct, own_tile
from schedules.cuda.words import Buffer
from schedules.llvm.stages import Epilogue, plan
from schedules.prim_func import prim_func
from schedules.rule import Constant, Kernel, Workload, passed_specs

LEAST = 32
_MAGNITUDE = 128


def weighted(workload: Workload, target: Any) -> Kernel | None:
    """``dense`` and ``conv2d`` with constant weights in one group."""
    rows = rows_of(workload) if workload.op in ("dense", "conv2d") else None
    if rows is None or any(workload.arguments[i].constant is None for i in (1, 2)):
        return None
    weight = workload.constant(1)
    matrix = weight.reshape(len(weight), -1)
    bias = workload.constant(2).astype(np.int64)
    bound = _MAGNITUDE * np.abs(matrix.astype(np.int64)).sum(axis=1) + np.abs(bias)
    epilogue = plan(workload.params["epilogue"], workload.arguments, bias, bound)
    if epilogue is None:
        return None
    if min(matrix.shape) < LEAST:
        return dot.kernel(workload, rows, matrix, epilogue)
    return _on_tensor_cores(workload, rows, matrix, epilogue)


def _on_tensor_cores(
    workload: Workload, rows: Rows, matrix: np.ndarray[Any, Any], epilogue: Epilogue
) -> Kernel:
    channels, depth = matrix.shape
    tile = own_tile(rows.count, channels)
    down, across = -(-rows.count // tile.rows), -(-channels // tile.columns)
    packed = np.zeros((across * tile.columns, -(-depth // SLICE) * SLICE), np.int8)
    packed[:channels, :depth] = matrix
    finisher = Finisher(epilogue, len(packed))
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


def batched(workload: Workload, target: Any) -> Kernel | None:
    """``matmul``: both operands are data."""
    if workload.op != "matmul":
        return None
    (batch, count, depth), (_, channels, _) = (s.shape for s in workload.arguments[:2])
    start = np.zeros(channels, np.int64)
    bound = np.full(channels, depth * _MAGNITUDE**2, np.int64)
    epilogue = plan(workload.params["epilogue"], workload.arguments, start, bound)
    if epilogue is None or min(depth, channels) < LEAST:
        return None
    tile = own_tile(count, channels, batch)
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
