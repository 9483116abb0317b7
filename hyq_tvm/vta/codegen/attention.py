"""Softmax, and attention with its division deferred to the output rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.numerics.constants import MASKED
from hyq_tvm.numerics.exponential import (
    GRID_KINDS,
    LN2,
    exponent_bits,
    line_offset,
    linear_constants,
    mantissa_table,
    poly2_constants,
)
from hyq_tvm.vta.codegen.context import Context, Parameters, Tensor
from hyq_tvm.vta.codegen.epilogue import constant
from hyq_tvm.vta.codegen.folding import rows_read, rows_written
from hyq_tvm.vta.codegen.layout import Rows
from hyq_tvm.vta.codegen.products import matrix_rows
from hyq_tvm.vta.codegen.source import Argument, Operation
from hyq_tvm.vta.codegen.steps import Area
from hyq_tvm.vta.codegen.tile import ONCE, Loop, Resident, Tile
from hyq_tvm.vta.codegen.window import MAX_LENGTH, Window, even_pieces, pieces, span
from hyq_tvm.vta.isa.table import INT32_HIGH, INT32_LOW

LOGIT_LIMIT = 2**30 - 1
EXCLUDED = -(2**30)
"""What SOFTMAX takes for an excluded logit."""

RESULTS = {"uint8": "UINT8", "log2_4bit": "LOG2", "grid": "GRID"}


def lower_softmax(context: Context, operation: Operation) -> None:
    """SM1 to SM9, all kinds but ``hyq``."""
    x, *tensors = operation.arguments
    rows, length = int(np.prod(x.shape[:-1])), x.shape[-1]
    params = operation.params
    kind, result = str(params.get("kind", "linear_pot")), str(params.get("output", "uint8"))
    if kind == "hyq":
        raise UnsupportedModelError(
            f"{operation.layer}: softmax of kind 'hyq' divides each element: CPU only"
        )
    blocks = context.blocks(length)
    room = context.stream.slot_entries // blocks
    if room < 1 or length > MAX_LENGTH:
        raise UnsupportedModelError(f"{operation.layer}: a softmax over {length} logits")
    table = _mantissas(context, params, length) if kind == "table" else None
    source, output = context.tensor(x), context.output(operation)
    for first, n in pieces(rows, room):
        window = Window(first * length, 1, n, length, 0, length)
        reads = [span(window, source.address, source.dtype)]
        tile = context.stream.tile(reads, [table] if table else [])
        tile.load(window.move(source.address, source.dtype, tile.slot))
        tile.set(**_registers(kind, params, [constant(t) for t in tensors], length))
        if table is not None:
            tile.set(TABLE_BASE=tile.at[0])
        tile.softmax(
            exponential=kind.upper(),
            result=RESULTS[result],
            rows=n,
            length=length,
            src=tile.slot,
            src_step=blocks,
            dst=tile.slot,
            dst_step=blocks,
        )
        tile.store(window.move(output.address, output.dtype, tile.slot))
        context.stream.finish_tile(tile)


def _mantissas(context: Context, params: Any, length: int) -> Resident:
    values = mantissa_table(int(params.get("fraction_bits", 4)), exponent_bits(length))
    wide = values.astype(np.int64)
    return context.table(np.stack([wide & 0xFFFF, wide >> 16], axis=-1).reshape(-1))


def _registers(kind: str, params: Any, tensors: list[NDArray[Any]], length: int) -> dict[str, int]:
    fraction = int(params.get("fraction_bits", 4))
    registers = {"WEIGHT_BITS": exponent_bits(length), "FRACTION_BITS": fraction}
    if kind in GRID_KINDS:
        multiplier, pre_shift, shift = (int(t[0]) for t in tensors) if tensors else (0, 0, 0)
        registers.update(
            OFFSET=line_offset(fraction),
            GRID_MULTIPLIER=multiplier,
            GRID_PRE_SHIFT=pre_shift,
            GRID_SHIFT=shift,
        )
    else:
        scale = params.get("scale")
        real = LN2 / 2**fraction if scale is None else float(scale)
        made = linear_constants(real) if kind == "linear" else poly2_constants(real)
        registers.update(
            LOGIT_SHIFT=made.logit_shift,
            PERIOD=made.period,
            OFFSET=made.offset,
            CONSTANT=made.constant,
        )
    names = ("rescale_multiplier", "rescale_shift", "zero_point", "low", "high")
    defaults = {"low": 0, "high": 255}
    registers.update({n.upper(): int(params.get(n, defaults.get(n, 0))) for n in names})
    return registers


@dataclass(frozen=True)
class _Attention:
    """q ``[B,N,D]``, k ``[B,M,D]``, v ``[B,M,E]``; bias and mask ``[Bb,N,M]`` int32 or None."""

    q: Tensor
    k: Tensor
    v: Tensor
    output: Tensor
    bias: Tensor | None
    mask: Tensor | None
    scale: Parameters
    table: Resident
    params: Any
    rows: tuple[Rows, Rows, Rows]
    written: Rows

    @property
    def wide(self) -> bool:
        """Weights of 16 bits, in two planes."""
        return int(self.params.get("weight_bits", 8)) == 16


def lower_attention(context: Context, operation: Operation) -> None:
    """AT1 to AT6: q.k and weights stay on chip; one division a row."""
    q, k, v, multiplier, shift, table, *bias = operation.arguments
    if operation.params["kind"] == "hyq":
        raise UnsupportedModelError(f"{operation.layer}: attention of kind 'hyq': CPU only")
    values, shifts = (constant(a).astype(np.int64).reshape(-1) for a in (multiplier, shift))
    made = _Attention(
        q=context.tensor(q),
        k=context.tensor(k),
        v=context.tensor(v),
        output=context.output(operation),
        bias=context.tensor(bias[0]) if bias else None,
        mask=_mask(context, bias[0]) if bias else None,
        scale=context.parameters(values, shifts, np.int64(1) << (shifts - 1)),
        table=context.table(constant(table)),
        params=operation.params,
        rows=(rows_read(operation, 0), rows_read(operation, 1), rows_read(operation, 2)),
        written=rows_written(operation),
    )
    rows = context.choice.fewer_rows(_rows(context, made, operation.layer))
    for index in range(q.shape[0]):
        serial = context.unique()
        for first, n in even_pieces(q.shape[1], rows):
            _emit_tile(context, made, index, (first, n), serial)


def _mask(context: Context, bias: Argument) -> Tensor | None:
    """The largest logit that each pair may have, where some are excluded."""
    values = constant(bias)
    if not (values <= MASKED).any():
        return None
    limits = np.where(values <= MASKED, EXCLUDED, INT32_HIGH).astype(np.int32)
    return Tensor(context.pool.add(limits), bias.shape, "int32")


def _rows(context: Context, made: _Attention, layer: str) -> int:
    """Rows of q in a tile."""
    tokens, depth = made.k.shape[1:]
    blocks, across = context.blocks(tokens), context.blocks(made.v.shape[2])
    weights = context.blocks(depth) * blocks + blocks * across
    planes = 2 if made.wide else 1
    extra = (made.bias is not None) + (made.mask is not None)
    rows = min(
        context.stream.slot_entries // (blocks * (1 + extra) + across * planes),
        context.stream.row_entries,
        context.config.inp_entries // 4 // (blocks * planes),
        context.config.inp_entries // 4 // context.blocks(depth),
    )
    if rows < 1 or 2 * weights > context.config.wgt_entries:
        raise UnsupportedModelError(
            f"{layer}: attention over {tokens} tokens of {depth} numbers does not fit the buffers"
        )
    return rows


def _emit_tile(
    context: Context, made: _Attention, index: int, part: tuple[int, int], serial: int
) -> None:
    (first, n), block = part, context.block
    tokens, depth = made.k.shape[1:]
    across, blocks = made.v.shape[2], context.blocks(tokens)
    planes = 2 if made.wide else 1
    q, k, v = made.rows
    query = Window(q.start(index, first), 1, n, depth, 0, q.step)
    move = query.move(made.q.address, made.q.dtype, 0, "INP")
    key = made.k.address + k.start(index, 0)
    value = made.v.address + v.start(index, 0)
    residents = [
        matrix_rows("WGT", key, tokens, depth, k.step, context, serial),
        matrix_rows("WGT_T", value, tokens, across, v.step, context, serial),
        Resident(("query", serial, first), n * context.blocks(depth), (move,)),
        Resident(("weights", serial, first), n * blocks * planes, ()),
        made.scale.resident(0, 1),
        made.table,
    ]
    biases = _biases(made, index, (first, n))
    reads = [span(window, t.address, t.dtype) for t, window in biases]
    tile = context.stream.tile(reads, residents)
    logits = Area(tile.slot, n, blocks, 0)
    sums = Area(tile.slot + n * blocks * (1 + len(biases)), n, -(-across // block), 0)
    for i, (tensor, window) in enumerate(biases, start=1):
        tile.load(window.move(tensor.address, tensor.dtype, logits.base + i * n * blocks))
    _logits(tile, made, logits, context.blocks(depth))
    _weights(tile, made, logits)
    _weighted(tile, made, sums, blocks)
    target = Window(made.written.start(index, first), 1, n, across, 0, made.written.step)
    tile.store(target.move(made.output.address, made.output.dtype, sums.base))
    context.stream.finish_tile(tile)


def _biases(made: _Attention, index: int, part: tuple[int, int]) -> list[tuple[Tensor, Window]]:
    result = []
    for tensor in (made.bias, made.mask):
        if tensor is not None:
            count, rows, tokens = tensor.shape
            start = ((index % count) * rows + part[0]) * tokens
            result.append((tensor, Window(start, 1, part[1], tokens, 0, tokens)))
    return result


def _logits(tile: Tile, made: _Attention, area: Area, depth: int) -> None:
    """AT1, AT2: q.k, plus bias, onto the grid of the exponential."""
    wgt, _, inp, _, scale, _ = tile.at
    outer, inner = Loop(area.blocks, 1, 0, depth), Loop(area.runs, area.blocks, depth)
    uops = [(area.base, inp + i, wgt + i) for i in range(depth)]
    tile.gemm(uops[:1], outer, inner, init=True, unsigned=False)
    tile.gemm(uops[1:], outer, inner, init=False, unsigned=False)
    other = area.base
    if made.bias is not None:
        other += area.runs * area.blocks
        tile.set(LOW=INT32_LOW, HIGH=INT32_HIGH)
        tile.vector("ADD", [(area.base, other, 0)], area.outer(), area.inner())
    tile.set(LOW=-LOGIT_LIMIT, HIGH=LOGIT_LIMIT, ZERO_POINT=0)
    tile.vector("REQ", [(area.base, area.base, scale)], area.outer(), area.inner())
    if made.mask is not None:
        other += area.runs * area.blocks
        tile.set(LOW=INT32_LOW, HIGH=INT32_HIGH)
        tile.vector("MIN", [(area.base, other, 0)], area.outer(), area.inner())


def _weights(tile: Tile, made: _Attention, area: Area) -> None:
    """AT3: weights into the input buffer, their sums into the row entries."""
    tile.set(TABLE_BASE=tile.at[5], TABLE_SIZE=made.table.entries)
    tile.softmax(
        exponential="WEIGHTS",
        result="WEIGHT_WIDE" if made.wide else "WEIGHT",
        target="INP",
        rows=area.runs,
        length=made.k.shape[1],
        src=area.base,
        src_step=area.blocks,
        dst=tile.at[3],
        dst_step=area.blocks,
        plane=area.runs * area.blocks,
        total=tile.row,
    )


def _weighted(tile: Tile, made: _Attention, area: Area, blocks: int) -> None:
    """AT4, AT5: the weighted sums of v, each row over its sum of weights."""
    wgt, inp, size = tile.at[1], tile.at[3], area.runs * area.blocks
    outer, inner = Loop(area.blocks, 1, 0, blocks), Loop(area.runs, area.blocks, blocks)
    for plane in range(2 if made.wide else 1):
        dst, src = area.base + plane * size, inp + plane * area.runs * blocks
        uops = [(dst, src + i, wgt + i) for i in range(blocks)]
        tile.gemm(uops[:1], outer, inner, init=True, unsigned=True)
        tile.gemm(uops[1:], outer, inner, init=False, unsigned=True)
    params = made.params
    tile.set(
        RESCALE_MULTIPLIER=int(params["rescale_multiplier"]),
        RESCALE_SHIFT=int(params["rescale_shift"]),
    )
    tile.vector("RECIPROCAL", [(tile.row, tile.row, 0)], Loop(area.runs, 1, 1), ONCE)
    tile.set(LOW=int(params["low"]), HIGH=int(params["high"]), ZERO_POINT=int(params["zero_point"]))
    source = area.base + size if made.wide else area.base
    op = "RESCALE_WIDE" if made.wide else "RESCALE"
    tile.vector(op, [(area.base, source, tile.row)], area.outer(1), area.inner())
