"""The driver: walks the graph, calls each operator's rule, lets epilogues grow, ends in float."""

from __future__ import annotations

from collections.abc import Callable

from hyq_tvm.errors import PlanError
from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.integer_program import Argument, IntegerProgram
from hyq_tvm.quantization.lowering.attention import lower_attention, lower_softmax
from hyq_tvm.quantization.lowering.builder import ProgramBuilder
from hyq_tvm.quantization.lowering.conversion import emit_dequantize, emit_quantize
from hyq_tvm.quantization.lowering.elementwise import (
    lower_add,
    lower_avg_pool2d,
    lower_multiply,
    lower_reduce,
    lower_unary,
)
from hyq_tvm.quantization.lowering.island import lower_island
from hyq_tvm.quantization.lowering.layout import (
    lower_concat,
    lower_constant,
    lower_max_pool2d,
    lower_pad,
    lower_view,
)
from hyq_tvm.quantization.lowering.linear import lower_conv2d, lower_dense, lower_matmul
from hyq_tvm.quantization.lowering.norm import lower_group_norm, lower_layer_norm
from hyq_tvm.quantization.lowering.pending import Pending
from hyq_tvm.quantization.plan import WIDE, QuantPlan

ACCUMULATING: dict[str, Callable[[ProgramBuilder, Node], Pending]] = {
    "conv2d": lower_conv2d,
    "dense": lower_dense,
    "matmul": lower_matmul,
    "multiply": lower_multiply,
    "reduce": lower_reduce,
    "avg_pool2d": lower_avg_pool2d,
}
"""Operators that end in an int32 accumulator, whose epilogue may grow into their reader."""

COMPLETE: dict[str, Callable[[ProgramBuilder, Node], None]] = {
    "constant": lower_constant,
    "unary": lower_unary,
    "add": lower_add,
    "view": lower_view,
    "concat": lower_concat,
    "pad": lower_pad,
    "max_pool2d": lower_max_pool2d,
    "layer_norm": lower_layer_norm,
    "group_norm": lower_group_norm,
    "softmax": lower_softmax,
    "attention": lower_attention,
}

EXTENDS = frozenset({"unary", "add", "softmax"})
"""Readers that may take over an epilogue."""


def lower(graph: Graph, plan: QuantPlan) -> IntegerProgram:
    """The integer program of ``graph`` under ``plan``.

    Raises ``PlanError`` when the plan was made for another model or lacks a tensor.
    """
    if plan.fingerprint and plan.fingerprint != graph.fingerprint():
        raise PlanError("the plan was made for another model: make a new one with quantize()")
    builder = ProgramBuilder(graph, plan)
    for node in graph:
        _lower_node(builder, node)
    outputs = {}
    for name in graph.outputs:
        value = builder.value(name, WIDE)
        outputs[name] = str(emit_dequantize(builder, value, f"{name}:output", name).value)
    return builder.program(outputs)


def _lower_node(builder: ProgramBuilder, node: Node) -> None:
    if node.op == "input":
        _quantize_input(builder, node)
    elif builder.layer(node).exclude:
        lower_island(builder, node)
    elif node.op in ACCUMULATING:
        pending = ACCUMULATING[node.op](builder, node)
        if _may_wait(builder, node):
            builder.pending[node.name] = pending
        else:
            builder.finish(node.name, pending)
    else:
        COMPLETE[node.op](builder, node)


def _may_wait(builder: ProgramBuilder, node: Node) -> bool:
    readers = builder.consumers[node.name]
    if len(readers) != 1 or node.name in builder.graph.outputs:
        return False
    reader = readers[0]
    if builder.layer(reader).exclude or reader.op not in EXTENDS:
        return False
    return reader.op != "add" or (len(set(reader.inputs)) == 2 and reader.shape == node.shape)


def _quantize_input(builder: ProgramBuilder, node: Node) -> None:
    version = builder.target(node.name)
    source = Argument(node.name, node.shape, "float32")
    grid = builder.grid(node.name, version)
    value = emit_quantize(builder, source, grid, f"{node.name}:quantized", node.name)
    builder.put(node.name, version, value)
