"""Layers that stay in float: Relax that computes what the graph's operator does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import tvm
from tvm import relax

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.quantization.float_executor import evaluate_node
from hyq_tvm.quantization.graph import Node
from hyq_tvm.quantization.integer_program import Instruction
from relay_passes.float_island import float_island

RNG = np.random.default_rng(3)


def numbers(*shape):
    return RNG.normal(size=shape).astype(np.float32)


CONV = {"strides": (2, 1), "padding": (1, 2, 0, 1), "dilation": (1, 2), "groups": 2}
ISLANDS = [
    Node(
        "conv2d", "conv2d", ("x",), (2, 2, 6, 6), CONV,
        {"weight": numbers(6, 3, 2, 2), "bias": numbers(6)},
    ),
    Node("dense", "dense", ("x",), (2, 3, 5), {}, {"weight": numbers(5, 4), "bias": numbers(5)}),
    Node("attention", "attention", ("q", "k", "v"), (2, 3, 5, 4), {"scale": 0.3}),
    Node(
        "biased", "attention", ("q", "k", "v"), (2, 3, 5, 4), {"scale": 0.3},
        {"bias": numbers(3, 5, 6)},
    ),
    Node(
        "layer_norm", "layer_norm", ("x",), (2, 3, 4), {"eps": 0.25},
        {"gamma": numbers(4), "beta": numbers(4)},
    ),
    Node("softmax", "softmax", ("x",), (2, 3, 4)),
]  # fmt: skip
INPUTS = {
    "conv2d": [(2, 5, 5, 4)],
    "dense": [(2, 3, 4)],
    "attention": [(2, 3, 5, 7), (2, 3, 6, 7), (2, 3, 6, 4)],
    "layer_norm": [(2, 3, 4)],
    "softmax": [(2, 3, 4)],
}


def instruction(node):
    """As lowering writes it: constants by the names of the graph's, in their order."""
    params = {"op": node.op, "attrs": dict(node.attrs), "constants": sorted(node.params)}
    return Instruction("made", "float_island", (), params, node.shape, "float32", node.name)


@pytest.mark.parametrize("node", ISLANDS, ids=lambda node: node.name)
def test_islands_compute_what_the_graph_does(node):
    arrays = [numbers(*shape) for shape in INPUTS[node.op]]
    builder = relax.BlockBuilder()
    inputs = [
        relax.Var(f"x{i}", relax.TensorType(a.shape, "float32")) for i, a in enumerate(arrays)
    ]
    constants = [relax.const(node.params[key]) for key in sorted(node.params)]
    with builder.function("main", inputs):
        with builder.dataflow():
            island = builder.emit(float_island([*inputs, *constants], instruction(node)))
            out = builder.emit_output(island)
        builder.emit_func_output(out)
    machine = relax.VirtualMachine(tvm.compile(builder.get(), target="llvm"), tvm.cpu())
    found = machine["main"](*(tvm.runtime.tensor(a) for a in arrays)).numpy()
    want = evaluate_node(node, [torch.from_numpy(a) for a in arrays])
    assert found.shape == node.shape
    np.testing.assert_allclose(found, np.asarray(want), rtol=1e-4, atol=1e-5)


def test_others_are_refused_by_name():
    node = Node("act1", "unary", ("x",), (2, 3), {"fn": "relu", "args": ()})
    with pytest.raises(UnsupportedModelError) as caught:
        float_island([], instruction(node))
    assert str(caught.value) == (
        "act1: unary cannot be excluded from quantization; "
        "these can: attention, conv2d, dense, layer_norm, softmax"
    )
