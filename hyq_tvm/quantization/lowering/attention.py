"""Attention and stand-alone softmax: the exponential's constants come from the grids."""

from __future__ import annotations

import math
from math import prod
from typing import Any

import numpy as np

from hyq_tvm.errors import PlanError
from hyq_tvm.numerics.constants import quantize_attention_bias
from hyq_tvm.numerics.exponential import GRID_KINDS
from hyq_tvm.numerics.softmax_tables import attention_constants, probability_rescale
from hyq_tvm.quantization.graph import Node
from hyq_tvm.quantization.integer_program import Argument, Instruction
from hyq_tvm.quantization.lowering.builder import NARROW, ProgramBuilder
from hyq_tvm.quantization.lowering.grid import Grid, Value
from hyq_tvm.quantization.lowering.island import lower_island
from hyq_tvm.quantization.plan import WIDE, LayerPlan

LOGIT_BITS = 16
BYTE = 255
PROBABILITY = Grid(np.array([1 / BYTE]), 0, 0, BYTE, "uint8")
"""The grid of normalised probabilities (docs/numerics.md, softmax)."""


def lower_attention(builder: ProgramBuilder, node: Node) -> None:
    """Q [..,N,D], k [..,M,D], v [..,M,E] -> [..,N,E] in one operator, the division deferred."""
    layer = builder.layer(node)
    if layer.softmax == "exact":
        lower_island(builder, node)
        return
    q, k, v = (builder.symmetric(name) for name in node.inputs[:3])
    version = builder.target(node.name)
    planned = builder.grid(node.name, version)
    grid = planned if planned.uniform else planned.covering(16)
    constants = attention_constants(
        scale_q=float(q.grid.scale[0]),
        scale_k=float(k.grid.scale[0]),
        scale_v=float(v.grid.scale[0]),
        softmax_scale=float(node.attrs["scale"]),
        scale_out=float(grid.scale[0]),
        head_dim=q.shape[-1],
        tokens=k.shape[-2],
        kind=layer.softmax or "linear_pot",
        weight_bits=layer.softmax_weight_bits,
        fraction_bits=layer.softmax_fraction_bits,
        logit_scale=_logit_scale(layer, node) if layer.softmax == "hyq" else None,
    )
    batch = prod(q.shape[:-2])
    bias = _bias(node, q, k)
    arguments = [
        *(value.argument((batch, *value.shape[-2:])) for value in (q, k, v)),
        *(Argument.constant(constants[key]) for key in ("multiplier", "shift", "table")),
        *bias,
    ]
    params: dict[str, Any] = {
        "kind": layer.softmax or "linear_pot",
        "weight_bits": layer.softmax_weight_bits,
        "fraction_bits": layer.softmax_fraction_bits,
        "has_bias": bool(bias),
        "rescale_multiplier": int(constants["rescale_multiplier"]),
        "rescale_shift": int(constants["rescale_shift"]),
        "zero_point": grid.zero_point,
        "low": grid.low,
        "high": grid.high,
        "dtype": grid.dtype,
    }
    if layer.softmax == "hyq":
        params["logit_scale"] = _logit_scale(layer, node)
    shape = (batch, q.shape[-2], v.shape[-1])
    made = builder.emit(
        Instruction(
            node.name + version,
            "attention",
            tuple(arguments),
            params,
            shape,
            grid.dtype,
            node.name,
        )
    )
    value = Value(made, node.shape, grid)
    builder.put(node.name, version, builder.requantized(value, planned, node.name + ":channels"))


def _bias(node: Node, q: Value, k: Value) -> list[Argument]:
    if "bias" not in node.params:
        return []
    scale = float(q.grid.scale[0]) * float(k.grid.scale[0]) * float(node.attrs["scale"])
    steps = quantize_attention_bias(node.params["bias"], scale)
    return [Argument.constant(steps.reshape(-1, *steps.shape[-2:]))]


def _logit_scale(layer: LayerPlan, node: Node) -> float:
    if layer.softmax_logit_scale <= 0:
        raise PlanError(f"{node.name}: softmax kind 'hyq' needs softmax_logit_scale in the plan")
    return layer.softmax_logit_scale


def lower_softmax(builder: ProgramBuilder, node: Node) -> None:
    """Softmax over the last axis, from logits on the fine grid.

    Probabilities are uint8 in steps of 1/255, or of the planned size where that is much finer.
    """
    layer = builder.layer(node)
    if layer.softmax == "exact":
        lower_island(builder, node)
        return
    source = node.inputs[0]
    waiting = builder.pending.pop(source, None)
    if waiting is None:
        waiting = builder.identity(builder.value(source, WIDE), node.name)
    kind = layer.softmax or "linear_pot"
    version, probability = _probabilities(builder, node.name, kind)
    params: dict[str, Any] = {"kind": kind, **_output(probability)}
    if kind == "hyq":
        grid = Grid.symmetric(_logit_scale(layer, node), 8)
        params["scale"] = float(grid.scale[0])
    else:
        params["fraction_bits"] = layer.softmax_fraction_bits if kind in GRID_KINDS else 8
        grid = Grid.symmetric(math.log(2) / 2 ** params["fraction_bits"], LOGIT_BITS)
    value = builder.emit_pending(waiting.requantized(grid), f"{node.name}:logits")
    rows = (prod(node.shape[:-1]), node.shape[-1])
    logits = value.argument(rows)
    made = builder.emit(
        Instruction(
            node.name + version, "softmax", (logits,), params, rows, probability.dtype, node.name
        )
    )
    builder.put(node.name, version, Value(made, node.shape, probability))


def _probabilities(builder: ProgramBuilder, name: str, kind: str) -> tuple[str, Grid]:
    """The version of the probabilities that is made, and its grid: steps of 1/255, or the plan's.

    Bytes of less than half of that step are worth a grid of their own. They have no sign, so that
    a symmetric plan's grid holds twice the calibrated range.
    """
    version = builder.target(name)
    if kind == "hyq" or not builder.has_grid(name, version):
        return NARROW, PROBABILITY
    planned = builder.grid(name, version)
    if not planned.uniform or planned.scale[0] * 2 > PROBABILITY.scale[0]:
        return NARROW, PROBABILITY
    if planned.dtype != "int8":
        return version, planned
    return NARROW, Grid(planned.scale, 0, 0, BYTE, "uint8")


def _output(grid: Grid) -> dict[str, Any]:
    """What the operator needs to know of the grid it makes (SM8)."""
    if grid is PROBABILITY:
        return {"output": "uint8"}
    multiplier, shift = probability_rescale(float(grid.scale[0]))
    return {
        "output": "grid",
        "rescale_multiplier": multiplier,
        "rescale_shift": shift,
        "zero_point": grid.zero_point,
        "low": grid.low,
        "high": grid.high,
        "dtype": grid.dtype,
    }
