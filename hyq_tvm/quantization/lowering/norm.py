"""LayerNorm and GroupNorm: gamma, beta and the output's (per-channel) scale become integers."""

from __future__ import annotations

from math import prod
from typing import Any

from hyq_tvm.numerics.reference.norm import layer_norm_constants
from hyq_tvm.quantization.graph import Node
from hyq_tvm.quantization.integer_program import Argument, Instruction
from hyq_tvm.quantization.lowering.builder import ProgramBuilder
from hyq_tvm.quantization.lowering.grid import Value
from hyq_tvm.quantization.plan import WIDE


def lower_layer_norm(builder: ProgramBuilder, node: Node) -> None:
    """Over the last axis of an int8 or int16 tensor."""
    rows = prod(node.shape[:-1])
    _lower(builder, node, "layer_norm", (rows, node.channels), node.channels, {})


def lower_group_norm(builder: ProgramBuilder, node: Node) -> None:
    """Over all positions and the channels of a group, per sample."""
    groups = int(node.attrs["groups"])
    shape = (node.shape[0], prod(node.shape[1:-1]), node.channels)
    count = shape[1] * node.channels // groups
    _lower(builder, node, "group_norm", shape, count, {"groups": groups})


def _lower(
    builder: ProgramBuilder,
    node: Node,
    op: str,
    shape: tuple[int, ...],
    count: int,
    extra: dict[str, Any],
) -> None:
    x = builder.uniform(node.inputs[0], WIDE)
    version = builder.target(node.name)
    grid = builder.grid(node.name, version)
    gamma, beta, epsilon, shift = layer_norm_constants(
        node.params["gamma"],
        node.params["beta"],
        float(node.attrs["eps"]),
        float(x.grid.scale[0]),
        grid.scale,
        count,
    )
    params = {
        **extra,
        "epsilon": epsilon,
        "shift": shift,
        "zero_point": grid.zero_point,
        "low": grid.low,
        "high": grid.high,
        "dtype": grid.dtype,
    }
    arguments = (x.argument(shape), Argument.constant(gamma), Argument.constant(beta))
    made = builder.emit(
        Instruction(node.name + version, op, arguments, params, shape, grid.dtype, node.name)
    )
    builder.put(node.name, version, Value(made, node.shape, grid))
