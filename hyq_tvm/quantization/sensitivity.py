"""How much the model's output feels an error anywhere inside it.

For a random sign vector s the gradient g of ``sum(s * outputs)`` with respect to a tensor has
``E[g_i^2] = sum_j (d output_j / d tensor_i)^2``: g_i^2 times the squared error of element i
estimates the squared error that it causes at the output, to first order (Hutchinson's estimate of
the diagonal of the Gauss-Newton matrix). One backward pass per run gives it for all tensors.

A tensor that several operators read has a gradient per way of reading: the narrow grid of a
residual stream disturbs the convolution that reads it, not the add.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from hyq_tvm.quantization.demand import TRANSPARENT, reads_wide_where_possible
from hyq_tvm.quantization.float_executor import evaluate_node
from hyq_tvm.quantization.graph import Graph, Node

Tensor = Any

VALUE = ""
"""The gradient of a tensor as a whole."""
NARROW = "narrow"
"""The part of it through operators that always read the narrow grid."""
STREAM = "stream"
"""The part through operators that read the wide grid where there is one."""
WEIGHT = "weight"
"""The gradient of a conv2d's or dense's weight, under the node's name."""
BIAS = "bias"
"""The gradient of its bias, right after the weight's."""

Receive = Callable[[str, str, Tensor], None]


class GradientPass:
    """Runs a graph forward and backward; weights are converted to torch once."""

    def __init__(self, graph: Graph, seed: int) -> None:
        self.graph, self.seed = graph, seed
        self.weights: Mapping[str, Mapping[str, Tensor]] = {
            node.name: {key: torch.from_numpy(np.array(v)) for key, v in node.params.items()}
            for node in graph
        }
        self.layers = [node.name for node in graph if node.op in ("conv2d", "dense")]
        for name in self.layers:
            for parameter in (WEIGHT, BIAS):
                self.weights[name][parameter].requires_grad_()

    def run(self, number: int, x: Any, receive: Receive) -> float:
        """One run: ``receive(name, way, gradient)`` for every gradient there is.

        number: of the run; with the seed it decides the random signs. x: float32 of the graph's
        input shape. Returns the outputs' energy.
        """
        with torch.enable_grad():
            outputs = self._forward(x, receive)
            signs = [self._signs(number, i, tuple(y.shape)) for i, y in enumerate(outputs)]
            torch.stack(
                [(y * s).sum() for y, s in zip(outputs, signs, strict=True)]
            ).sum().backward()
        for name in self.layers:
            for way in (WEIGHT, BIAS):
                parameter = self.weights[name][way]
                if parameter.grad is not None:
                    receive(name, way, parameter.grad)
                    parameter.grad = None
        return float(sum(float(y.detach().square().sum()) for y in outputs))

    def _forward(self, x: Any, receive: Receive) -> list[Tensor]:
        values: dict[tuple[str, str], Tensor] = {}
        for node in self.graph:
            if node.op == "input":
                value = torch.as_tensor(x).clone().requires_grad_()
            else:
                way = _way(node)
                inputs = [values[name, way] for name in node.inputs]
                value = evaluate_node(node, inputs, self.weights[node.name])
            for way in (VALUE, NARROW, STREAM):
                seen = value if way == VALUE else value.view_as(value)
                values[node.name, way] = seen
                if seen.requires_grad:
                    _listen(seen, node.name, way, receive)
        return [values[name, VALUE] for name in self.graph.outputs]

    def _signs(self, number: int, output: int, shape: tuple[int, ...]) -> Tensor:
        draw = np.random.default_rng([self.seed, number, output])
        return torch.from_numpy(draw.choice(np.array([-1.0, 1.0], np.float32), size=shape))


def _way(reader: Node) -> str:
    if reader.op in TRANSPARENT or not reader.inputs:
        return VALUE
    return STREAM if reads_wide_where_possible(reader) else NARROW


def _listen(tensor: Tensor, name: str, way: str, receive: Receive) -> None:
    tensor.register_hook(lambda gradient: receive(name, way, gradient))
