"""The two float operators of a program, N2: quantize at the way in, dequantize at the way out."""

from __future__ import annotations

from hyq_tvm.quantization.integer_program import Argument, Instruction
from hyq_tvm.quantization.lowering.builder import ProgramBuilder
from hyq_tvm.quantization.lowering.grid import Grid, Value

FINER_BITS = 8
"""How much finer the 16-bit grid is on which values wait for a per-channel requantize."""


def emit_quantize(
    builder: ProgramBuilder, source: Argument, planned: Grid, name: str, layer: str
) -> Value:
    """A float tensor onto ``planned``, by way of a finer uniform grid if that has many scales."""
    grid = planned
    if not planned.uniform:
        grid = Grid.symmetric(float(planned.scale.max()) / 2**FINER_BITS, 16)
    params = {
        "scale": float(grid.scale[0]),
        "zero_point": grid.zero_point,
        "low": grid.low,
        "high": grid.high,
        "dtype": grid.dtype,
    }
    made = builder.emit(
        Instruction(name, "quantize", (source,), params, source.shape, grid.dtype, layer)
    )
    return builder.requantized(Value(made, source.shape, grid), planned, f"{name}:channels")


def emit_dequantize(builder: ProgramBuilder, value: Value, name: str, layer: str) -> Argument:
    """The float32 values of an integer tensor."""
    params = {
        "scale": [float(s) for s in value.grid.scale],
        "zero_point": value.grid.zero_point,
    }
    made = builder.emit(
        Instruction(name, "dequantize", (value.argument(),), params, value.shape, "float32", layer)
    )
    return Argument(made, value.shape, "float32")
