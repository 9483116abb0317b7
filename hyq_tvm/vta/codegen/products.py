"""Dense layers, matrix products and convolutions on the multiplier array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.vta.codegen.context import Context, Tensor
from hyq_tvm.vta.codegen.epilogue import Epilogue, constant, make_epilogue, with_second
from hyq_tvm.vta.codegen.folding import second_result, walk_written
from hyq_tvm.vta.codegen.layout import RowWalk, dense_walk
from hyq_tvm.vta.codegen.source import Operation
from hyq_tvm.vta.codegen.steps import Area
from hyq_tvm.vta.codegen.tile import Loop, Resident
from hyq_tvm.vta.codegen.window import MAX_LENGTH, Window, pieces, split_runs
from hyq_tvm.vta.transfer import Transfer, runs

UNSIGNED = "uint8"


@dataclass(frozen=True)
class _Product:
    """``x [M,K]`` times a matrix ``[N,K]`` that some source brings on chip in tiles."""

    x: Tensor
    output: Tensor
    depth: int
    columns: int
    walk: RowWalk
    x_start: int = 0
    out_start: int = 0

    @property
    def axes(self) -> tuple[list[int], list[list[int]]]:
        """Its rows as axes, and their strides in x and output."""
        walk = self.walk
        own = [step * self.depth for step in walk.own]
        return [*walk.sizes, 1], [[*own, 1], [*walk.target, 1]]


def lower_dense(context: Context, operation: Operation) -> None:
    """M1."""
    _, weight, bias, *rest = operation.arguments
    epilogue = make_epilogue(
        context,
        operation.params["epilogue"],
        rest,
        constant(bias).astype(np.int64),
        operation.dtype,
    )
    epilogue = with_second(context, epilogue, second_result(operation))
    lower_rows(context, operation, constant(weight), epilogue)


def lower_rows(
    context: Context, operation: Operation, matrix: NDArray[Any], epilogue: Epilogue
) -> None:
    """The first argument's rows, its last axis, times a constant matrix ``[N,K]``."""
    x = operation.arguments[0]
    tiles = context.pool.add(tiled(matrix, context.block))
    blocks_in = context.blocks(matrix.shape[1])

    def weights(first: int, count: int) -> Resident:
        return tile_run(tiles, first * blocks_in, count * blocks_in, context.block)

    columns = matrix.shape[0]
    product = _Product(
        context.tensor(x),
        context.output(operation),
        x.shape[-1],
        columns,
        walk_written(operation, columns),
    )
    _emit_product(context, product, epilogue, weights)


def lower_matmul(context: Context, operation: Operation) -> None:
    """M2: the second operand's rows are the weights."""
    a, b, *rest = operation.arguments
    epilogue = make_epilogue(
        context, operation.params["epilogue"], rest, np.zeros(1, np.int64), operation.dtype
    )
    if epilogue.others:
        raise UnsupportedModelError(f"{operation.layer}: an add behind a matmul of two tensors")
    batch, rows, depth = a.shape
    columns, matrix = b.shape[1], context.tensor(b)
    for index in range(batch):
        start = matrix.address + index * columns * depth
        serial = context.unique()

        def weights(first: int, count: int, start: int = start, serial: int = serial) -> Resident:
            row = first * context.block
            n = min(columns - row, count * context.block)
            return matrix_rows("WGT", start + row * depth, n, depth, depth, context, serial)

        product = _Product(
            context.tensor(a),
            context.output(operation),
            depth,
            columns,
            dense_walk(rows, columns),
            index * rows * depth,
            index * rows * columns,
        )
        _emit_product(context, product, epilogue, weights)


def matrix_rows(
    memory: str, address: int, count: int, depth: int, stride: int, context: Context, serial: int
) -> Resident:
    """Rows of a matrix in DRAM as weight tiles; ``serial`` tells apart what lay there at times."""
    if depth > MAX_LENGTH:
        raise UnsupportedModelError(f"a matrix product over {depth} elements: {MAX_LENGTH} fit")
    move = runs(memory, 0, address, count, depth, stride)
    return Resident((memory, address, count, serial), move.entries(context.block), (move,))


def tiled(matrix: NDArray[Any], block: int) -> NDArray[np.int8]:
    """``[O, I]`` as tiles ``[O/B, I/B, B, B]``, zeros beyond the edges."""
    rows, columns = matrix.shape
    wide = np.pad(matrix, ((0, -rows % block), (0, -columns % block)))
    shape = (-(-rows // block), block, -(-columns // block), block)
    return np.ascontiguousarray(wide.reshape(shape).transpose(0, 2, 1, 3)).astype(np.int8)


def tile_run(address: int, first: int, count: int, block: int) -> Resident:
    """Consecutive weight tiles that lie ready in DRAM."""
    size = block * block
    start = address + first * size
    move = Transfer("WGT", 0, start, count, block, block, (0, 0, 0, 0), size, block)
    return Resident(("tiles", start, count), count, (move,))


def _emit_product(
    context: Context, product: _Product, epilogue: Epilogue, weights: Callable[[int, int], Resident]
) -> None:
    stream = context.stream
    blocks_in, blocks_out = context.blocks(product.depth), context.blocks(product.columns)
    chunk = max(1, min(blocks_out, context.config.wgt_entries // 2 // blocks_in))
    chunk = context.choice.fewer_channels(chunk)
    per_row = chunk * epilogue.areas
    while per_row > stream.slot_entries:
        chunk = max(1, chunk // 2)
        per_row = chunk * epilogue.areas
    rows = min(stream.slot_entries // per_row, context.config.inp_entries // 2 // blocks_in)
    rows = context.choice.fewer_rows(rows)
    if rows < 1:
        raise UnsupportedModelError(
            f"a matrix product over {product.depth} elements does not fit the input buffer"
        )
    serial = context.unique()
    for first, count in pieces(blocks_out, chunk):
        for _, windows in split_runs(*product.axes, rows, 1):
            _product_tile(
                context, product, epilogue, weights(first, count), (first, count), windows, serial
            )


def _product_tile(
    context: Context,
    product: _Product,
    epilogue: Epilogue,
    weight: Resident,
    place: tuple[int, int],
    windows: Sequence[Window],
    serial: int,
) -> None:
    (first, count), (read, write) = place, windows
    block, blocks_in = context.block, context.blocks(product.depth)
    start, n = read.start // product.depth, read.runs
    window = replace(
        write,
        start=product.out_start + write.start + first * block,
        length=min(product.columns - first * block, count * block),
    )
    source = replace(read, start=product.x_start + read.start, length=product.depth)
    move = source.move(product.x.address, product.x.dtype, 0, memory="INP")
    inputs = Resident(("input", serial, start, n), n * blocks_in, (move,))
    area = Area(0, n, count, first)
    tile = context.stream.tile(epilogue.reads(window), [weight, inputs, *epilogue.residents(area)])
    area = Area(tile.slot, n, count, first)
    wgt, inp, *rest = tile.at
    unsigned = product.x.dtype == UNSIGNED
    outer = Loop(count, 1, 0, blocks_in)
    inner = Loop(n, count, blocks_in, 0)
    steps = [(area.base, inp + k, wgt + k) for k in range(blocks_in)]
    tile.gemm(steps[:1], outer, inner, init=True, unsigned=unsigned)
    tile.gemm(steps[1:], outer, inner, init=False, unsigned=unsigned)
    epilogue.load(tile, window, area)
    epilogue.emit(tile, area, rest)
    epilogue.store(tile, window, area, product.output)
    context.stream.finish_tile(tile)
