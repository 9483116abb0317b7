"""QuantizeGraph: the canonical float graph and its plan become an integer-only Relax module."""

from __future__ import annotations

import json
from typing import Any

import tvm
from tvm import relax

from hyq_tvm.quantization.accumulators import check_accumulators
from hyq_tvm.quantization.graph import Graph
from hyq_tvm.quantization.integer_program import Argument, Instruction, IntegerProgram
from hyq_tvm.quantization.lowering import lower
from hyq_tvm.quantization.lowering.island import ISLAND
from hyq_tvm.quantization.plan import QuantPlan
from hyq_tvm.topi import prim_func
from relay_passes.float_island import float_island

PLAN_ATTRIBUTE = "hyq.plan"
LAYERS_ATTRIBUTE = "hyq.layers"


def quantize_graph(graph: Graph, plan: QuantPlan) -> tvm.IRModule:
    """The integer module of ``graph`` under ``plan``; it carries the plan.

    Raises ``PlanError`` (a plan of another model), ``AccumulatorOverflowError`` (an int32
    intermediate that could overflow, by the layer's name).
    """
    program = lower(graph, plan)
    check_accumulators(program)
    return emit_program(program, plan)


def emit_program(program: IntegerProgram, plan: QuantPlan) -> tvm.IRModule:
    """One ``call_tir`` an instruction; see docs/architecture.md, "The integer module"."""
    builder = relax.BlockBuilder()
    inputs = {
        name: relax.Var(_identifier(name), relax.TensorType(shape, "float32"))
        for name, shape in program.inputs.items()
    }
    values: dict[str, Any] = dict(inputs)
    labels: dict[str, tuple[str, str]] = {}
    with builder.function("main", list(inputs.values())):
        with builder.dataflow():
            for instruction in program:
                var = _emit(builder, instruction, values)
                values[instruction.name] = var
                labels[var.name] = (instruction.name, instruction.layer)
            results = [
                builder.emit_output(_seen(builder, values[name], shape))
                for name, shape in program.outputs.items()
            ]
        builder.emit_func_output(results[0] if len(results) == 1 else relax.Tuple(results))
    module = builder.finalize()
    attributes = {PLAN_ATTRIBUTE: plan.to_json(), LAYERS_ATTRIBUTE: json.dumps(labels)}
    return module.with_attrs(attributes)


def _emit(builder: Any, instruction: Instruction, values: dict[str, Any]) -> Any:
    arguments = [_argument(builder, a, values) for a in instruction.arguments]
    if instruction.op == ISLAND:
        return builder.emit(float_island(arguments, instruction), _identifier(instruction.name))
    specs = [(a.shape, a.dtype) for a in instruction.arguments]
    function = prim_func(instruction.op, dict(instruction.params), specs)
    # The builder shares equal functions only while they bear no name of their own.
    reference = builder.add_func(function.without_attr("global_symbol"), instruction.op)
    output = relax.TensorType(instruction.shape, instruction.dtype)
    call = relax.call_tir(reference, relax.Tuple(arguments), output)
    return builder.emit(call, _identifier(instruction.name))


def _argument(builder: Any, argument: Argument, values: dict[str, Any]) -> Any:
    if isinstance(argument.value, str):
        return _seen(builder, values[argument.value], argument.shape)
    return relax.const(argument.value, argument.dtype)


def _seen(builder: Any, value: Any, shape: tuple[int, ...]) -> Any:
    if tuple(int(n) for n in value.ty.shape) == tuple(shape):
        return value
    return builder.emit(relax.op.reshape(value, shape), f"{value.name}_seen")


def _identifier(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)
