"""Element by element: identity, add, multiply, and sums over axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.vta.codegen.context import Context, Parameters, Tensor
from hyq_tvm.vta.codegen.epilogue import Epilogue, constant, make_epilogue, per_channel
from hyq_tvm.vta.codegen.source import Argument, Operation
from hyq_tvm.vta.codegen.steps import Area
from hyq_tvm.vta.codegen.tile import ONCE, Loop, Tile
from hyq_tvm.vta.codegen.window import (
    MAX_LENGTH,
    Window,
    dense_strides,
    merged,
    pieces,
    span,
    split_runs,
)
from hyq_tvm.vta.isa.table import INT32_HIGH, INT32_LOW

ZERO = np.zeros(1, np.int64)


@dataclass(frozen=True)
class _Operand:
    """A tensor and its strides over the output's axes; ``spread``: one element for a whole run."""

    tensor: Tensor
    strides: tuple[int, ...]
    spread: bool


Combine = Callable[[Tile, list[Area], Sequence[int]], None]
"""``(tile, areas of the operands, where own residents lie)``: leaves its result in the first."""


@dataclass(frozen=True)
class _Elementwise:
    """Operands, the step that makes one of them, and the epilogue."""

    operands: tuple[_Operand, ...]
    output: Tensor
    combine: Combine
    parameters: tuple[Parameters, ...]
    epilogue: Epilogue


def lower_identity(context: Context, operation: Operation) -> None:
    """A3."""
    x, *rest = operation.arguments
    offset = np.array([-int(operation.params["zero_point"])], np.int64)
    epilogue = make_epilogue(context, operation.params["epilogue"], rest, offset, operation.dtype)
    output = context.output(operation)
    operand = _operand(context, x, output.shape)
    _emit(context, _Elementwise((operand,), output, lambda *_: None, (), epilogue))


def lower_add(context: Context, operation: Operation) -> None:
    """A1: one rounding over both scaled operands."""
    a, b, *multipliers = operation.arguments
    params = operation.params
    ma, mb = (per_channel(constant(m)) for m in multipliers)
    shift = int(params["shift"])
    offset = -int(params["zero_point_a"]) * ma - int(params["zero_point_b"]) * mb
    parameters = context.parameters(ma, mb, offset + (1 << shift >> 1))

    def combine(tile: Tile, areas: list[Area], at: Sequence[int]) -> None:
        names = {"LOW": "low", "HIGH": "high", "ZERO_POINT": "zero_point", "SHIFT": "shift"}
        tile.set(**{register: int(params[name]) for register, name in names.items()})
        first, second = areas
        uops = [(first.base, second.base, at[0])]
        tile.vector("SCALE_ADD", uops, first.outer(), first.inner(parameters.step))

    output = context.output(operation)
    operands = tuple(_operand(context, x, output.shape) for x in (a, b))
    epilogue = Epilogue((), operation.dtype)
    _emit(context, _Elementwise(operands, output, combine, (parameters,), epilogue))


def lower_multiply(context: Context, operation: Operation) -> None:
    """A2."""
    a, b, *rest = operation.arguments
    params = operation.params
    zero_points = [int(params["zero_point_a"]), int(params["zero_point_b"])]

    def combine(tile: Tile, areas: list[Area], at: Sequence[int]) -> None:
        tile.set(LOW=INT32_LOW, HIGH=INT32_HIGH)
        for area, zero_point in zip(areas, zero_points, strict=True):
            if zero_point:
                tile.set(IMMEDIATE=zero_point)
                uops = [(area.base, 0, 0)]
                tile.vector("SUB", uops, area.outer(), area.inner(), operand="IMM")
        first, second = areas
        tile.vector("MUL", [(first.base, second.base, 0)], first.outer(), first.inner())

    output = context.output(operation)
    operands = tuple(_operand(context, x, output.shape) for x in (a, b))
    epilogue = make_epilogue(context, params["epilogue"], rest, ZERO, operation.dtype)
    _emit(context, _Elementwise(operands, output, combine, (), epilogue))


def _operand(context: Context, argument: Argument, shape: Sequence[int]) -> _Operand:
    """With stride 0 on the axes that it is repeated along."""
    own = (1,) * (len(shape) - len(argument.shape)) + tuple(argument.shape)
    strides = [
        0 if n == 1 and wanted > 1 else stride
        for n, wanted, stride in zip(own, shape, dense_strides(own), strict=True)
    ]
    spread = bool(shape) and own[-1] == 1 and shape[-1] > 1
    return _Operand(context.tensor(argument), tuple(strides), spread)


def _emit(context: Context, made: _Elementwise) -> None:
    """Tiles of runs along the last axis, or along all axes where channels do not matter."""
    shape = list(made.output.shape) or [1]
    strides = [list(dense_strides(shape)), *(list(o.strides) or [1] for o in made.operands)]
    fixed = any(o.spread for o in made.operands) or not _is_uniform(made)
    if fixed:
        head, rows = merged(shape[:-1], [s[:-1] for s in strides])
        shape = [*head, shape[-1]]
        strides = [[*r, s[-1]] for r, s in zip(rows, strides, strict=True)]
    else:
        shape, strides = merged(shape, strides)
        if any(s[-1] != 1 for s in strides):
            shape, strides = [*shape, 1], [[*s, 1] for s in strides]
    areas = len(made.operands) + made.epilogue.areas - 1 + any(o.spread for o in made.operands)
    room = context.stream.slot_entries // areas
    length = min(shape[-1], room * context.block, MAX_LENGTH // context.block * context.block)
    runs = max(1, room // context.blocks(length))
    runs = context.choice.fewer_rows(runs)
    for channel, windows in split_runs(shape, strides, runs, length):
        _emit_tile(context, made, channel, windows)


def _is_uniform(made: _Elementwise) -> bool:
    """Whether nothing depends on the channel."""
    parameters = [*made.parameters]
    parameters += [p for s in made.epilogue.steps if (p := getattr(s, "parameters", None))]
    return all(p.shared for p in parameters)


def _emit_tile(context: Context, made: _Elementwise, channel: int, windows: list[Window]) -> None:
    target, *sources = windows
    blocks = target.blocks(context.block)
    shape = (target.runs, blocks, channel // context.block)
    size = target.runs * blocks
    sources = [_narrow(o, w) for o, w in zip(made.operands, sources, strict=True)]
    reads = [
        span(w, o.tensor.address, o.tensor.dtype)
        for o, w in zip(made.operands, sources, strict=True)
    ]
    own = [p.resident(shape[2], blocks) for p in made.parameters]
    wanted = made.epilogue.residents(Area(0, *shape))
    tile = context.stream.tile([*reads, *made.epilogue.reads(target)], [*own, *wanted])
    # The epilogue's areas follow the result's, so the other operands come last.
    behind = tile.slot + made.epilogue.areas * size
    bases = [tile.slot, *(behind + i * size for i in range(len(sources)))]
    areas = [Area(base, *shape) for base in bases[: len(sources)]]
    spare = bases[len(sources)]
    for operand, window, area in zip(made.operands, sources, areas, strict=True):
        tensor = operand.tensor
        sram = spare if operand.spread else area.base
        tile.load(window.move(tensor.address, tensor.dtype, sram))
        if operand.spread:
            _spread(tile, area, spare)
    made.epilogue.load(tile, target, areas[0])
    made.combine(tile, areas, tile.at[: len(own)])
    made.epilogue.emit(tile, areas[0], tile.at[len(own) :])
    tile.store(target.move(made.output.address, made.epilogue.dtype, tile.slot))
    context.stream.finish_tile(tile)


def _narrow(operand: _Operand, window: Window) -> Window:
    """Runs of one element for an operand that is repeated along the last axis."""
    if not operand.spread:
        return window
    return Window(window.start, window.y, window.x, 1, window.y_stride, window.x_stride)


def _spread(tile: Tile, area: Area, column: int) -> None:
    """Lane 0 of the entries from ``column`` on, one a run, into all lanes of the area."""
    tile.set(LOW=INT32_LOW, HIGH=INT32_HIGH, IMMEDIATE=0, LANES=1)
    tile.vector("MOV", [(area.base, 0, 0)], area.outer(), area.inner(), operand="IMM")
    outer = Loop(area.runs, area.blocks, 1)
    tile.vector("ROW_SUM", [(area.base, column, 0)], outer, Loop(area.blocks, 1, 0))


def lower_reduce_sum(context: Context, operation: Operation) -> None:
    """A4: over the last axis alone, or over neighbouring axes before it."""
    x, *rest = operation.arguments
    params = operation.params
    axes = sorted(axis % len(x.shape) for axis in params["axes"])
    count = prod(x.shape[axis] for axis in axes)
    offset = np.array([-count * int(params["zero_point"])], np.int64)
    epilogue = make_epilogue(context, params["epilogue"], rest, offset, operation.dtype)
    if axes != list(range(axes[0], axes[-1] + 1)):
        raise UnsupportedModelError(f"{operation.layer}: a sum over the separate axes {axes}")
    source, output = context.tensor(x), context.output(operation)
    outer, inner = prod(x.shape[: axes[0]]), prod(x.shape[axes[-1] + 1 :])
    factors = _factors(params["epilogue"], rest)
    if inner == 1 and count > 1 and axes[-1] == len(x.shape) - 1:
        if factors > 1:
            raise UnsupportedModelError(f"{operation.layer}: sums of rows with a scale each")
        _sum_rows(context, source, output, epilogue, (outer, count))
    else:
        channels = factors if factors > 1 else inner
        _sum_columns(context, source, output, epilogue, (outer, count, inner), channels)


def _factors(stages: Sequence[Mapping[str, Any]], arguments: Sequence[Argument]) -> int:
    """The most multipliers that a stage has: along the output's last axis, here the rows."""
    left, most = list(arguments), 1
    for stage in stages:
        if stage["kind"] == "requantize":
            most = max(most, prod(left[0].shape))
        del left[: 2 if stage["kind"] == "requantize" else 1]
    return most


def _sum_columns(
    context: Context,
    x: Tensor,
    output: Tensor,
    epilogue: Epilogue,
    shape: tuple[int, int, int],
    channels: int,
) -> None:
    """``[outer, count, inner]`` over the middle axis, entry by entry.

    channels: so many values have parameters of their own, then these repeat.
    """
    outer, count, inner = shape
    room = context.stream.slot_entries // (count + epilogue.areas)
    if room < 1:
        raise UnsupportedModelError(f"a sum over {count} positions does not fit the accumulators")
    length = min(room * context.block, MAX_LENGTH // context.block * context.block)
    for start in range(0, outer * inner, channels):
        index, within = divmod(start, inner)
        for first, n in pieces(channels, length):
            source = Window(index * count * inner + within + first, 1, count, n, 0, inner)
            target = Window(start + first, 1, 1, n, 0, 0)
            blocks = target.blocks(context.block)
            area = Area(0, 1, blocks, first // context.block)
            reads = [span(source, x.address, x.dtype), *epilogue.reads(target)]
            tile = context.stream.tile(reads, epilogue.residents(area))
            area = Area(tile.slot, 1, blocks, first // context.block)
            values = tile.slot + epilogue.areas * blocks
            tile.load(source.move(x.address, x.dtype, values))
            epilogue.load(tile, target, area)
            tile.set(LOW=INT32_LOW, HIGH=INT32_HIGH)
            uops = [(area.base, values, 0)]
            tile.vector("MOV", uops, ONCE, Loop(blocks, 1, 1))
            if count > 1:
                uops = [(area.base, values + blocks, 0)]
                tile.vector("ADD", uops, Loop(count - 1, 0, blocks), Loop(blocks, 1, 1))
            epilogue.emit(tile, area, tile.at)
            tile.store(target.move(output.address, epilogue.dtype, area.base))
            context.stream.finish_tile(tile)


def _sum_rows(
    context: Context, x: Tensor, output: Tensor, epilogue: Epilogue, shape: tuple[int, int]
) -> None:
    """``[rows, count]`` over the last axis: the sum of a row is lane 0 of one entry."""
    rows, count = shape
    blocks = context.blocks(count)
    room = context.stream.slot_entries // (blocks + epilogue.areas)
    if room < 1 or count > MAX_LENGTH:
        raise UnsupportedModelError(f"a sum over {count} elements does not fit the accumulators")
    for first, n in pieces(rows, room):
        source = Window(first * count, 1, n, count, 0, count)
        target = Window(first, 1, n, 1, 0, 1)
        reads = [span(source, x.address, x.dtype), *epilogue.reads(target)]
        tile = context.stream.tile(reads, epilogue.residents(Area(0, n, 1, 0)))
        area = Area(tile.slot, n, 1, 0)
        values = Area(tile.slot + epilogue.areas * n, n, blocks, 0)
        tile.load(source.move(x.address, x.dtype, values.base))
        epilogue.load(tile, target, area)
        tile.set(LOW=INT32_LOW, HIGH=INT32_HIGH, IMMEDIATE=0)
        tile.vector("MOV", [(area.base, 0, 0)], area.outer(), operand="IMM")
        reduce_rows(tile, "ROW_SUM", area.base, values, count)
        epilogue.emit(tile, area, tile.at)
        tile.store(target.move(output.address, epilogue.dtype, area.base))
        context.stream.finish_tile(tile)


def reduce_rows(
    tile: Tile, op: str, into: int, values: Area, count: int, into_step: int = 1
) -> None:
    """A reduction over the ``count`` elements of each row, into one entry a row."""
    block = tile.stream.config.block
    full, rest = divmod(count, block)
    if full:
        tile.set(LANES=block)
        outer = Loop(values.runs, into_step, values.blocks)
        tile.vector(op, [(into, values.base, 0)], outer, Loop(full, 0, 1))
    if rest:
        tile.set(LANES=rest)
        outer = Loop(values.runs, into_step, values.blocks)
        tile.vector(op, [(into, values.base + full, 0)], outer)
