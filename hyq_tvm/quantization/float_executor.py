"""Runs the canonical float graph with torch: calibration's source of activations.

Tensors stay channels-last all the way: what the graph calls [B, H, W, C] is contiguous in memory,
which is what torch calls a channels-last [B, C, H, W], so convolutions need no reordering.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F

from hyq_tvm.errors import InputError
from hyq_tvm.quantization.graph import AFFINE, Graph, Node

Tensor: TypeAlias = Any  # torch.Tensor; torch comes without types here
Weights = Mapping[str, Tensor]
Tap = Callable[[str, Tensor], None]
Evaluator = Callable[[Node, Sequence[Tensor], Weights], Tensor]


class FloatExecutor:
    """Interprets a graph; weights are converted to torch once.

    threads: torch's intra-operator threads while running; ``None`` leaves torch's own setting.
    """

    def __init__(self, graph: Graph, threads: int | None = None) -> None:
        self.graph = graph
        self.threads = threads
        self._weights = {node.name: _weights(node) for node in graph}
        self._dead_after = _last_readers(graph)

    def run(self, *inputs: np.ndarray[Any, Any] | Tensor, tap: Tap | None = None) -> list[Tensor]:
        """The outputs for one batch, in the order of ``graph.outputs``.

        inputs: float32 arrays in the shapes of ``graph.inputs``; raises ``InputError`` otherwise.
        tap: called with every node's name and its tensor (channels last, as the graph says),
            constants excepted, in topological order; it must not change or keep the tensor.
        """
        values = dict(zip((n.name for n in self.graph.inputs), self._checked(inputs), strict=True))
        before = torch.get_num_threads()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        try:
            with torch.inference_mode():
                return self._run(values, tap)
        finally:
            torch.set_num_threads(before)

    def _run(self, values: dict[str, Tensor], tap: Tap | None) -> list[Tensor]:
        for node in self.graph:
            if node.op != "input":
                inputs = [values[name] for name in node.inputs]
                values[node.name] = EVALUATORS[node.op](node, inputs, self._weights[node.name])
            if tap is not None and node.op != "constant":
                tap(node.name, values[node.name])
            for name in self._dead_after[node.name]:
                del values[name]
        return [values[name] for name in self.graph.outputs]

    def _checked(self, inputs: Sequence[Any]) -> list[Tensor]:
        expected = self.graph.inputs
        if len(inputs) != len(expected):
            raise InputError(f"the model has {len(expected)} inputs, got {len(inputs)}")
        tensors = [torch.as_tensor(value) for value in inputs]
        for node, tensor in zip(expected, tensors, strict=True):
            if tuple(tensor.shape) != node.shape or tensor.dtype != torch.float32:
                raise InputError(
                    f"input {node.name!r}: expected float32 {node.shape}, "
                    f"got {tensor.dtype} {tuple(tensor.shape)}"
                )
        return tensors


def evaluate_node(node: Node, inputs: Sequence[Tensor], weights: Weights | None = None) -> Tensor:
    """One node's output for given inputs; differentiable in ``inputs`` and ``weights``.

    weights: tensors in place of the node's own ``params``, of the same names and shapes.
    """
    if node.op == "input":
        raise ValueError(f"{node.name} is an input: it has no value of its own")
    return EVALUATORS[node.op](node, inputs, _weights(node) if weights is None else weights)


def _weights(node: Node) -> Weights:
    return {key: torch.from_numpy(np.array(value)) for key, value in node.params.items()}


def _last_readers(graph: Graph) -> dict[str, list[str]]:
    """For every node the tensors that nobody needs once it has run."""
    dead: dict[str, list[str]] = {node.name: [] for node in graph}
    for name, readers in graph.consumers().items():
        if name not in graph.outputs:
            dead[readers[-1].name if readers else name].append(name)
    return dead


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _padded(x: Tensor, padding: Sequence[int], value: float = 0.0) -> Tensor:
    """Pad [B, H, W, C] by (top, left, bottom, right)."""
    top, left, bottom, right = padding
    return F.pad(x, (0, 0, left, right, top, bottom), value=value) if any(padding) else x


def _conv2d(node: Node, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    top, left, bottom, right = node.attrs["padding"]
    symmetric = (top, left) == (bottom, right)
    x = inputs[0] if symmetric else _padded(inputs[0], node.attrs["padding"])
    strides = node.attrs["strides"]
    if tuple(weights["weight"].shape[1:3]) == (1, 1) and not any(node.attrs["padding"]):
        # The gradient of strided 1x1 convolutions ends in PyTorch 2.13's oneDNN with a crash.
        x, strides = x[:, :: strides[0], :: strides[1]], (1, 1)
    out = F.conv2d(
        _channels_first(x),
        _channels_first(weights["weight"]),
        weights["bias"],
        strides,
        (top, left) if symmetric else (0, 0),
        node.attrs["dilation"],
        node.attrs["groups"],
    )
    return _channels_last(out)


def _dense(node: Node, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    return F.linear(inputs[0], weights["weight"], weights["bias"])


def _matmul(node: Node, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    scale = node.attrs.get("scale", 1.0)
    out = inputs[0] @ inputs[1].transpose(-1, -2)
    return out if scale == 1.0 else out * scale


def _attention(node: Node, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    query, key, value = inputs
    scale, bias = node.attrs["scale"], weights.get("bias")
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)


def _layer_norm(node: Node, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    return F.layer_norm(
        inputs[0], (node.channels,), weights["gamma"], weights["beta"], node.attrs["eps"]
    )


def _group_norm(node: Node, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    x = inputs[0].movedim(-1, 1)
    # Not torch.nn.functional's: it refuses groups of one value, which have a norm, beta.
    out = torch.group_norm(
        x, node.attrs["groups"], weights["gamma"], weights["beta"], node.attrs["eps"]
    )
    return out.movedim(1, -1)


def _add(node: Node, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    return inputs[0] + (inputs[1] if len(inputs) == 2 else weights["const"])


def _multiply(node: Node, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    return inputs[0] * (inputs[1] if len(inputs) == 2 else weights["const"])


def _reduce(node: Node, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    function = {"sum": torch.sum, "mean": torch.mean}[node.attrs["kind"]]
    return function(inputs[0], dim=node.attrs["axes"], keepdim=node.attrs["keepdims"])


def _avg_pool2d(node: Node, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    summed = _pool_sum(inputs[0], node)
    if node.attrs["count_include_pad"] or not any(node.attrs["padding"]):
        return summed / (node.attrs["kernel"][0] * node.attrs["kernel"][1])
    return summed / _pool_sum(torch.ones_like(inputs[0][:1, :, :, :1]), node)


def _pool_sum(x: Tensor, node: Node) -> Tensor:
    padded = _channels_first(_padded(x, node.attrs["padding"]))
    kernel, strides = node.attrs["kernel"], node.attrs["strides"]
    return _channels_last(F.avg_pool2d(padded, kernel, strides, divisor_override=1))


def _max_pool2d(node: Node, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    x = _padded(inputs[0], node.attrs["padding"], float("-inf"))
    out = F.max_pool2d(_channels_first(x), node.attrs["kernel"], node.attrs["strides"])
    return _channels_last(out)


def _pad(node: Node, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    pads = [side for pair in reversed(node.attrs["pads"]) for side in pair]
    return F.pad(inputs[0], pads, value=node.attrs["value"])


def _view(node: Node, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    view = node.attrs["view"]
    if view.is_identity:
        return inputs[0].reshape(view.out_shape)
    x = inputs[0].contiguous()
    window = x.as_strided(view.shape, view.strides, x.storage_offset() + view.offset)
    return window.reshape(view.out_shape)


def _unary(node: Node, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    fn, args = str(node.attrs["fn"]), node.attrs.get("args", ())
    if fn.endswith(AFFINE):
        scale, offset = args
        return scale * UNARY_FUNCTIONS[fn.removesuffix(AFFINE)](inputs[0]) + offset
    return UNARY_FUNCTIONS[fn](inputs[0], *args)


UNARY_FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "sigmoid": torch.sigmoid,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "hardtanh": F.hardtanh,
    "tanh": torch.tanh,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "exp": torch.exp,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "square": torch.square,
    "abs": torch.abs,
    "neg": torch.neg,
    "affine": lambda x, a, b: a * x + b,
    "clip": torch.clamp,
    "erf": torch.erf,
    "reciprocal": torch.reciprocal,
}
"""The graph's unary functions, and ``reciprocal``, which only an unfinished graph holds."""

EVALUATORS: Mapping[str, Evaluator] = {
    "constant": lambda node, inputs, weights: weights["value"],
    "conv2d": _conv2d,
    "dense": _dense,
    "matmul": _matmul,
    "attention": _attention,
    "softmax": lambda node, inputs, weights: inputs[0].softmax(-1),
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "unary": _unary,
    "add": _add,
    "multiply": _multiply,
    "concat": lambda node, inputs, weights: torch.cat(tuple(inputs), node.attrs["axis"]),
    "reduce": _reduce,
    "avg_pool2d": _avg_pool2d,
    "max_pool2d": _max_pool2d,
    "pad": _pad,
    "view": _view,
}
