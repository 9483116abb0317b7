"""Quantized modules for tests of the accelerator, planned by ranges alone: quick to make."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import tvm
from numpy.typing import NDArray

import hyq_tvm
from hyq_tvm.quantization.lowering import lower
from hyq_tvm.quantization.plan import WIDE
from relay_passes.extract_graph import extract_graph
from relay_passes.quantize_graph import emit_program
from tests.quantization.lowering.planning import minmax_plan, tensor_plan

READ_WIDE = ("add", "layer_norm", "group_norm", "reduce")
PASS_THROUGH = ("view", "concat", "pad", "max_pool2d")


def quantized_model(model: Any, sample: NDArray[Any]) -> tvm.IRModule:
    """The integer module of a PyTorch model; ranges from one batch ``sample`` [n, C, H, W]."""
    module = hyq_tvm.from_torch(model, (torch.tensor(sample[:1]),))
    return quantized_graph(extract_graph(module), sample[:1])


def quantized_graph(graph: Any, sample: NDArray[Any], **options: Any) -> tvm.IRModule:
    """The integer module of a canonical graph."""
    wide = wide_tensors(graph)
    plan = minmax_plan(graph, sample, wide=wide, **options)
    constants = {
        f"{node.name}{WIDE}": tensor_plan(value.min(), value.max(), 16, True)
        for node in graph
        if node.op == "constant" and node.name in wide
        for value in [node.params["value"]]
    }
    plan = replace(plan, tensors={**plan.tensors, **constants})
    return emit_program(lower(graph, plan), plan)


def wide_tensors(graph: Any) -> tuple[str, ...]:
    """Tensors that adds and norms read, and whatever those are views of."""
    readers = graph.consumers()
    wide = {n.name for n in graph if any(r.op in READ_WIDE for r in readers[n.name])}
    for node in reversed(list(graph)):
        if node.op in PASS_THROUGH and node.name in wide:
            wide.update(node.inputs)
    return tuple(wide)


def noise(*shape: int) -> NDArray[np.float32]:
    """A batch of random images."""
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)
