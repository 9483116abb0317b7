"""Float islands: a layer that the user excluded is computed in float between two conversions."""

from __future__ import annotations

from hyq_tvm.quantization.graph import Node
from hyq_tvm.quantization.integer_program import Argument, Instruction
from hyq_tvm.quantization.lowering.builder import NARROW, ProgramBuilder
from hyq_tvm.quantization.lowering.conversion import emit_dequantize, emit_quantize
from hyq_tvm.quantization.plan import WIDE

ISLAND = "float_island"
"""Instruction that has no integer definition; ``params`` holds the graph operator and its attrs."""


def lower_island(builder: ProgramBuilder, node: Node) -> None:
    """Dequantize the inputs, compute ``node`` in float32, quantize the result onto its grid."""
    arguments = [_as_float(builder, name, node.name) for name in node.inputs]
    keys = sorted(node.params)
    arguments += [Argument.constant(node.params[key].astype("float32")) for key in keys]
    params = {"op": node.op, "attrs": dict(node.attrs), "constants": keys}
    made = builder.emit(
        Instruction(
            f"{node.name}:float",
            ISLAND,
            tuple(arguments),
            params,
            node.shape,
            "float32",
            node.name,
        )
    )
    version = builder.target(node.name)
    source = Argument(made, node.shape, "float32")
    grid = builder.grid(node.name, version)
    value = emit_quantize(builder, source, grid, f"{node.name}:as_integer", node.name)
    builder.put(node.name, version, value)


def _as_float(builder: ProgramBuilder, name: str, layer: str) -> Argument:
    version = WIDE if builder.has_grid(name, WIDE) else NARROW
    return emit_dequantize(builder, builder.value(name, version), f"{name}:as_float", layer)
