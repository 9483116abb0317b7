"""Operators that only move integers: view, concat, pad, max pooling, constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from hyq_tvm.quantization.graph import Node
from hyq_tvm.quantization.integer_program import Argument, Instruction
from hyq_tvm.quantization.lowering.builder import NARROW, ProgramBuilder
from hyq_tvm.quantization.lowering.grid import Grid, Value
from hyq_tvm.quantization.plan import WIDE
from hyq_tvm.quantization.view import View


def lower_view(builder: ProgramBuilder, node: Node) -> None:
    """Every version that a reader wants is read through the view from the source's same version."""
    view: View = node.attrs["view"]
    for version in _versions(builder, node):
        source = builder.value(node.inputs[0], version)
        grid = _seen_through(view, source)
        if grid is None:
            source = builder.uniform(node.inputs[0], version)
            grid = source.grid
        made = _viewed(builder, node, source, view, version)
        builder.put(node.name, version, replace(made, grid=grid))


def _seen_through(view: View, source: Value) -> Grid | None:
    """The source's grid by the view's channels; None where one of them would have two scales."""
    grid, channels = source.grid, source.shape[-1] if source.shape else 1
    if grid.uniform or view.keeps_last_axis(channels):
        return grid
    scales = view.apply(np.broadcast_to(grid.scale, source.shape))
    rows = scales.reshape(-1, scales.shape[-1] if scales.ndim else 1)
    return replace(grid, scale=rows[0].copy()) if (rows == rows[0]).all() else None


def _viewed(builder: ProgramBuilder, node: Node, source: Value, view: View, version: str) -> Value:
    if not isinstance(source.source, str):
        return Value(view.apply(source.source), node.shape, source.grid)
    if view.is_identity:
        return Value(source.source, node.shape, source.grid)
    params = {
        "shape": list(view.shape),
        "strides": list(view.strides),
        "offset": view.offset,
    }
    shape = tuple(view.shape)
    flat = source.argument((view.source_size,))
    made = builder.emit(
        Instruction(
            node.name + version, "view", (flat,), params, shape, source.grid.dtype, node.name
        )
    )
    return Value(made, node.shape, source.grid)


def lower_concat(builder: ProgramBuilder, node: Node) -> None:
    """Operands are brought to the result's grid, then laid side by side."""
    axis = int(node.attrs["axis"])
    for version in _versions(builder, node):
        grid = builder.grid(node.name, version)
        parts, start = [], 0
        for name in node.inputs:
            length = builder.graph[name].shape[axis]
            piece = _slice(grid, start, length, axis == len(node.shape) - 1)
            start += length
            value = builder.value(name, version)
            parts.append(builder.requantized(value, piece, f"{name}:{node.name}"))
        made = builder.emit(
            Instruction(
                node.name + version,
                "concat",
                tuple(part.argument() for part in parts),
                {"axis": axis},
                node.shape,
                grid.dtype,
                node.name,
            )
        )
        builder.put(node.name, version, Value(made, node.shape, grid))


def _slice(grid: Grid, start: int, length: int, along_channels: bool) -> Grid:
    if grid.uniform or not along_channels:
        return grid
    scale = grid.scale[start : start + length]
    return Grid(scale, grid.zero_point, grid.low, grid.high, grid.dtype)


def lower_pad(builder: ProgramBuilder, node: Node) -> None:
    """Constant padding by a real value that every channel's grid holds."""
    for version in _versions(builder, node):
        source = builder.value(node.inputs[0], version)
        if not source.grid.uniform and node.attrs["value"]:
            source = builder.uniform(node.inputs[0], version)
        value = int(source.grid.quantize([float(node.attrs["value"])]).flat[0])
        params = {"pads": [list(pair) for pair in node.attrs["pads"]], "value": value}
        _emit_same_grid(builder, node, source, version, "pad", params)


def lower_max_pool2d(builder: ProgramBuilder, node: Node) -> None:
    """The largest integer of each window; order on a grid is order of reals."""
    for version in _versions(builder, node):
        source = builder.value(node.inputs[0], version)
        params = {k: list(node.attrs[k]) for k in ("kernel", "strides", "padding")}
        _emit_same_grid(builder, node, source, version, "max_pool2d", params)


def _emit_same_grid(
    builder: ProgramBuilder,
    node: Node,
    source: Value,
    version: str,
    op: str,
    params: Mapping[str, Any],
) -> None:
    argument = source.argument()
    if not isinstance(argument.value, str):
        argument = Argument.constant(argument.value)
    made = builder.emit(
        Instruction(
            node.name + version, op, (argument,), params, node.shape, source.grid.dtype, node.name
        )
    )
    builder.put(node.name, version, Value(made, node.shape, source.grid))


def lower_constant(builder: ProgramBuilder, node: Node) -> None:
    """A constant tensor on each planned grid."""
    for version in _versions(builder, node):
        grid = builder.grid(node.name, version)
        builder.put(
            node.name, version, Value(grid.quantize(node.params["value"]), node.shape, grid)
        )


def _versions(builder: ProgramBuilder, node: Node) -> list[str]:
    wanted = builder.needs(node.name)
    return [v for v in (WIDE, NARROW) if v in wanted] or [builder.target(node.name)]
