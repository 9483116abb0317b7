"""Unary tables, adds, multiplies, sums and pooling."""

from __future__ import annotations

import math
from math import prod

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.numerics.fixed_point import quantize_multipliers
from hyq_tvm.quantization.graph import Node
from hyq_tvm.quantization.integer_program import Argument, Instruction
from hyq_tvm.quantization.lowering.builder import NARROW, ProgramBuilder
from hyq_tvm.quantization.lowering.grid import Grid, Value
from hyq_tvm.quantization.lowering.pending import ADD_MULTIPLIER_BITS, Pending, fine_grid
from hyq_tvm.quantization.plan import WIDE
from hyq_tvm.quantization.unary import CLAMPS, evaluate

ADD_BITS = 22
ADD_REACH_BITS = 7
"""Of the multiplier: what it is off by, times an operand of 16 bits, stays below 1/8 of a step."""
FUSED_ADD_FRACTION_BITS = 7
TABLE_BITS = 12


def lower_unary(builder: ProgramBuilder, node: Node) -> None:
    """A clamp becomes the saturation of a requantize, everything else a table."""
    name, version = node.name, builder.target(node.name)
    fn, args = str(node.attrs["fn"]), tuple(float(a) for a in node.attrs.get("args", ()))
    source = node.inputs[0]
    waiting = builder.pending.pop(source, None)
    if waiting is None:
        waiting = builder.identity(builder.value(source, NARROW), name)
    grid = builder.grid(name, version)
    if fn in CLAMPS and waiting.is_accumulator and _clampable(grid, CLAMPS[fn](*args)):
        done = waiting.requantized(grid.clamped(*CLAMPS[fn](*args)))
        made = builder.emit_pending(done, name + version)
        builder.put(name, version, Value(made.source, made.shape, grid))
        return
    table_input = waiting.requantized(_table_grid(builder, source, waiting))
    if grid.uniform:
        done = table_input.looked_up(fn, args, grid)
    else:
        done = table_input.looked_up(fn, args, _table_output(fn, args, table_input)).requantized(
            grid
        )
    builder.put(name, version, builder.emit_pending(done, name + version))


def _clampable(grid: Grid, bounds: tuple[float, float]) -> bool:
    return grid.uniform or all(b in (0.0, -math.inf, math.inf) for b in bounds)


def _table_grid(builder: ProgramBuilder, source: str, waiting: Pending) -> Grid:
    """The planned narrow grid where a table can index it, else 12 bits over the same range."""
    grid = builder.grid(source, NARROW) if builder.has_grid(source, NARROW) else waiting.grid
    if grid is None:
        grid = builder.grid(source, WIDE)
    if grid.uniform and grid.high - grid.low < 2**TABLE_BITS:
        return grid
    return grid.covering(TABLE_BITS)


def _table_output(fn: str, args: tuple[float, ...], table_input: Pending) -> Grid:
    """A 16-bit grid that just holds the function's values; a per-channel requantize follows."""
    if table_input.grid is None:
        raise ValueError(f"{table_input.layer}: a table needs a grid")
    peak = float(np.abs(evaluate(fn, args, table_input.grid.levels())).max())
    return Grid.symmetric(max(peak, 1e-30) / 32767, 16)


def lower_add(builder: ProgramBuilder, node: Node) -> None:
    """A residual add joins its producer's epilogue where it can, else it is an operator."""
    version = builder.target(node.name)
    grid = builder.grid(node.name, version)
    waiting = _fusable(builder, node)
    if waiting is not None:
        other = next(name for name in node.inputs if name != waiting)
        value = builder.value(other, WIDE)
        sums = _sum_grid(grid)
        if value.shape == node.shape and _addable(value.grid, sums):
            pending = builder.pending.pop(waiting)
            fused = pending.requantized(sums).added(value, sums)
            if sums is not grid:
                fused = fused.requantized(grid)
            made = builder.emit_pending(fused, node.name + version)
            builder.put(node.name, version, Value(made.source, node.shape, grid))
            return
    a, b = _operands(builder, node, grid)
    reached = all(value.grid.scale.max() < _reach(grid, ADD_REACH_BITS) for value in (a, b))
    made = _add(builder, node, a, b, grid if reached else grid.covering(16))
    builder.put(node.name, version, builder.requantized(made, grid, node.name + ":channels"))


def _fusable(builder: ProgramBuilder, node: Node) -> str | None:
    if len(node.inputs) != 2:
        return None
    for name in node.inputs:
        pending = builder.pending.get(name)
        if pending is not None and pending.is_accumulator and pending.shape == node.shape:
            return name
    return None


def _sum_grid(grid: Grid) -> Grid:
    """Where an epilogue adds: on the output's grid, or a finer one that is requantized to it."""
    if grid.uniform and not grid.zero_point and grid.dtype == "int16":
        return grid
    return fine_grid(grid, FUSED_ADD_FRACTION_BITS)


def _addable(other: Grid, sums: Grid) -> bool:
    """Whether an epilogue's multiplier reaches from the other operand's steps to the sums'."""
    return other.uniform and bool(other.scale[0] < _reach(sums, ADD_MULTIPLIER_BITS))


def _reach(grid: Grid, bits: int) -> float:
    """The largest step from which a multiplier of so many bits leads to ``grid``."""
    return float(grid.scale.min()) * 2.0 ** (bits - 2)


def _operands(builder: ProgramBuilder, node: Node, grid: Grid) -> tuple[Value, Value]:
    a = builder.value(node.inputs[0], WIDE)
    if len(node.inputs) == 2:
        return a, builder.value(node.inputs[1], WIDE)
    constant = node.params["const"]
    peak = float(np.abs(constant).max()) or float(grid.scale.max())
    bits = 16 if grid.dtype == "int16" else 12
    fitted = Grid.symmetric(peak / (2 ** (bits - 1) - 1), bits)
    shape = (1,) * (len(node.shape) - constant.ndim) + constant.shape
    return a, Value(fitted.quantize(constant.reshape(shape)), shape, fitted)


def _add(builder: ProgramBuilder, node: Node, a: Value, b: Value, grid: Grid) -> Value:
    a, b = (_rank(value, len(node.shape)) for value in (a, b))
    (ma, mb), shift = quantize_multipliers(
        a.grid.scale / grid.scale, b.grid.scale / grid.scale, bits=ADD_BITS
    )
    params = {
        "zero_point_a": a.grid.zero_point,
        "zero_point_b": b.grid.zero_point,
        "shift": shift,
        "multiplier_bits": ADD_BITS,
        "zero_point": grid.zero_point,
        "low": grid.low,
        "high": grid.high,
        "dtype": grid.dtype,
    }
    arguments = (a.argument(), b.argument(), Argument.constant(ma), Argument.constant(mb))
    name = builder.emit(
        Instruction(node.name, "add", arguments, params, node.shape, grid.dtype, node.name)
    )
    return Value(name, node.shape, grid)


def _rank(value: Value, rank: int) -> Value:
    shape = (1,) * (rank - len(value.shape)) + value.shape
    source = value.source if isinstance(value.source, str) else value.source.reshape(shape)
    return Value(source, shape, value.grid)


def lower_multiply(builder: ProgramBuilder, node: Node) -> Pending:
    """The product of two tensors, or of a tensor and a constant, int32."""
    a = builder.value(node.inputs[0], NARROW)
    if len(node.inputs) == 2:
        b = builder.value(node.inputs[1], NARROW)
    else:
        b = _constant_factor(node.params["const"])
    a, b = _rank(a, len(node.shape)), _rank(b, len(node.shape))
    params = {"zero_point_a": a.grid.zero_point, "zero_point_b": b.grid.zero_point}
    return Pending(
        layer=node.name,
        op="multiply",
        arguments=(a.argument(), b.argument()),
        params=params,
        raw_shape=node.shape,
        shape=node.shape,
        factor=a.grid.scale * b.grid.scale,
    )


def _constant_factor(constant: NDArray[np.floating]) -> Value:
    values = np.atleast_1d(constant)
    grid = Grid.symmetric((float(np.abs(values).max()) or 1.0) / 32767, 16)
    return Value(grid.quantize(values), values.shape, grid)


def lower_reduce(builder: ProgramBuilder, node: Node) -> Pending:
    """Sum or mean over axes, int32."""
    x = builder.value(node.inputs[0], WIDE)
    axes = [int(axis) for axis in node.attrs["axes"]]
    if len(x.shape) - 1 in axes and not x.grid.uniform:
        x = builder.uniform(node.inputs[0], WIDE)
    count = prod(x.shape[axis] for axis in axes) if node.attrs["kind"] == "mean" else 1
    return Pending(
        layer=node.name,
        op="reduce_sum",
        arguments=(x.argument(),),
        params={
            "axes": axes,
            "keepdims": bool(node.attrs["keepdims"]),
            "zero_point": x.grid.zero_point,
        },
        raw_shape=node.shape,
        shape=node.shape,
        factor=x.grid.scale / count,
    )


def lower_avg_pool2d(builder: ProgramBuilder, node: Node) -> Pending:
    """Window sums; the divisor is in the multiplier, per position where padding is excluded."""
    x = builder.value(node.inputs[0], WIDE)
    kernel, strides, padding = (list(node.attrs[k]) for k in ("kernel", "strides", "padding"))
    counts = np.array([[float(kernel[0] * kernel[1])]])
    if not node.attrs["count_include_pad"]:
        rows = _window_counts(x.shape[1], kernel[0], strides[0], padding[0], node.shape[1])
        columns = _window_counts(x.shape[2], kernel[1], strides[1], padding[1], node.shape[2])
        counts = np.outer(rows, columns)
    factor = x.grid.scale / counts[..., None]
    if not any(padding):
        factor = x.grid.scale / counts[0, 0]
    return Pending(
        layer=node.name,
        op="avg_pool2d",
        arguments=(x.argument(),),
        params={
            "kernel": kernel,
            "strides": strides,
            "padding": padding,
            "zero_point": x.grid.zero_point,
        },
        raw_shape=node.shape,
        shape=node.shape,
        factor=factor,
    )


def _window_counts(
    length: int, kernel: int, stride: int, before: int, out: int
) -> NDArray[np.float64]:
    starts = np.arange(out) * stride - before
    return np.asarray(np.minimum(starts + kernel, length) - np.maximum(starts, 0), dtype=np.float64)
