"""Whole models in float32: a canonical graph to a Relax module of the kernels beside this file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.relax import op as R

from benchmarks.float32 import rows
from benchmarks.float32.chains import Chain, chains
from benchmarks.float32.layers import layer
from benchmarks.float32.matmul import Product, matmul
from benchmarks.float32.target import float_isa, float_target
from hyq_tvm import topi
from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.runtime import VirtualMachine, load_library
from schedules.application import OPAQUE_PATTERN
from schedules.llvm import default
from schedules.rule import Constant, Kernel, Spec, Workload


class UnsupportedError(Exception):
    """The twin has no kernel for a node; the message names it."""


class Emitter:
    """Calls of kernels in a Relax function under construction."""

    def __init__(self, builder: Any, target: Any) -> None:
        self.builder = builder
        self.target = target
        self.isa = float_isa(target)

    def call(
        self, kernel: Kernel, arguments: Sequence[Any], shape: Sequence[int], dtype: str = "float32"
    ) -> Any:
        """The result of ``kernel`` on the operator's arguments."""
        function = kernel.function.without_attr("global_symbol")
        for attribute in ("hyq.op", "hyq.params"):
            function = function.without_attr(attribute)
        function = function.with_attr("op_pattern", OPAQUE_PATTERN)
        reference = self.builder.add_func(function, f"{kernel.name}_f32")
        passed = [
            relax.const(a.value, str(a.value.dtype)) if isinstance(a, Constant) else arguments[a]
            for a in kernel.arguments
        ]
        output = relax.TensorType(tuple(shape), dtype)
        return self.builder.emit(relax.call_tir(reference, relax.Tuple(passed), output))

    def operator(self, op: str, params: dict[str, Any], x: Sequence[Any], shape: Any) -> Any:
        """An operator of the integer modules that only moves data."""
        specs = tuple(Spec(_shape(v), "float32") for v in x)
        function = topi.prim_func(op, params, [(s.shape, s.dtype) for s in specs])
        workload = Workload(op, params, specs, Spec(tuple(shape), "float32"), function)
        return self.call(default.schedule(workload, self.target), x, shape)

    def attention(
        self, q: Any, k: Any, v: Any, scales: tuple[float, float], store: dict[str, Any]
    ) -> Any:
        """Unfused and exact: q.k, softmax, p.v, of float32 or int8 ``[batch,tokens,channels]``.

        scales: of the logits and of the result. store: further fields of its ``Product``.
        """
        (batch, tokens, depth), (_, keys, channels) = _shape(q), _shape(v)
        given = str(q.ty.dtype)
        shape = (batch, tokens, keys)
        logits = Product(batch, tokens, depth, keys, True, scales[0], (given, given))
        scores = self.call(matmul(logits, self.isa), [q, k], shape)
        weights = self.call(rows.softmax(shape), [scores], shape)
        types = ("float32", given)
        values = Product(batch, tokens, keys, channels, False, scales[1], types, **store)
        result = (batch, tokens, channels)
        return self.call(matmul(values, self.isa), [weights, v], result, values.output)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in value.ty.shape)


def float_module(graph: Graph, target: Any) -> tvm.IRModule:
    """The graph in float32; raises ``UnsupportedError`` on a node without a kernel."""
    builder = relax.BlockBuilder()
    emitter = Emitter(builder, target)
    found, inside = chains(graph)
    inputs = {n.name: relax.Var(f"x{i}", relax.TensorType(n.shape, "float32"))
              for i, n in enumerate(graph.inputs)}  # fmt: skip
    values: dict[str, Any] = dict(inputs)
    with builder.function("main", list(inputs.values())):
        with builder.dataflow():
            for node in graph:
                if node.name in found:
                    values[node.name] = _chain(emitter, found[node.name], values, node)
                elif node.name not in inside and node.op != "input":
                    values[node.name] = _node(emitter, node, values)
            results = [builder.emit_output(values[name]) for name in graph.outputs]
        builder.emit_func_output(results[0] if len(results) == 1 else relax.Tuple(results))
    return builder.get()


def float_program(graph: Graph, library: Path) -> VirtualMachine:
    """The graph compiled for this machine, by way of the file ``library``."""
    target = float_target()
    library.parent.mkdir(parents=True, exist_ok=True)
    tvm.compile(float_module(graph, target), target=target).export_library(str(library))
    return VirtualMachine(load_library(library))


def _chain(emitter: Emitter, chain: Chain, values: dict[str, Any], last: Node) -> Any:
    node = chain.layer
    weight, bias = (np.ascontiguousarray(node.params[k], np.float32) for k in ("weight", "bias"))
    arguments = [values[node.inputs[0]], None, None, *(values[name] for name in chain.others)]
    specs = [Spec(_shape(a), "float32") if a is not None else None for a in arguments]
    specs[1:3] = [Spec(a.shape, "float32", a) for a in (weight, bias)]
    params = {**node.attrs, "pad_value": 0} if node.op == "conv2d" else {}
    workload = Workload(node.op, params, tuple(specs), Spec(last.shape, "float32"), None)
    return emitter.call(layer(workload, emitter.isa, chain.steps), arguments, last.shape)


def _node(emitter: Emitter, node: Node, values: dict[str, Any]) -> Any:
    if node.op not in _NODES:
        raise UnsupportedError(f"{node.name}: the float twin has no {node.op}")
    return _NODES[node.op](emitter, node, [values[name] for name in node.inputs])


def _view(emitter: Emitter, node: Node, x: list[Any]) -> Any:
    view = node.attrs["view"]
    if view.offset == 0 and prod(view.shape) == view.source_size and _in_order(view):
        return emitter.builder.emit(R.reshape(x[0], node.shape))
    params = {"shape": view.shape, "strides": view.strides, "offset": view.offset}
    moved = emitter.operator("view", params, x, view.shape)
    return moved if view.shape == node.shape else emitter.builder.emit(R.reshape(moved, node.shape))


def _in_order(view: Any) -> bool:
    expected = 1
    for length, stride in zip(reversed(view.shape), reversed(view.strides), strict=True):
        if length > 1 and stride != expected:
            return False
        expected *= length
    return True


def _attention(emitter: Emitter, node: Node, x: list[Any]) -> Any:
    if "bias" in node.params:
        raise UnsupportedError(f"{node.name}: the float twin has no attention with a bias")
    flat = []
    for value in x:
        shape = _shape(value)
        joined = (prod(shape[:-2]), *shape[-2:])
        flat.append(emitter.builder.emit(R.reshape(value, joined)))
    made = emitter.attention(*flat, (float(node.attrs["scale"]), 1.0), {})
    return emitter.builder.emit(R.reshape(made, node.shape))


def _layer_norm(emitter: Emitter, node: Node, x: list[Any]) -> Any:
    gamma, beta = (np.ascontiguousarray(node.params[k], np.float32) for k in ("gamma", "beta"))
    kernel = rows.layer_norm(node.shape, gamma, beta, float(node.attrs["eps"]))
    return emitter.call(kernel, x, node.shape)


def _constant(_: Emitter, node: Node, __: list[Any]) -> Any:
    return relax.const(np.asarray(node.params["value"], np.float32), "float32")


def _two(op: Callable[[Any, Any], Any]) -> Callable[[Emitter, Node, list[Any]], Any]:
    def emit(emitter: Emitter, node: Node, x: list[Any]) -> Any:
        if len(x) == 1:
            x = [*x, relax.const(np.asarray(node.params["const"], np.float32), "float32")]
        return emitter.builder.emit(op(*x))

    return emit


def _reduce(emitter: Emitter, node: Node, x: list[Any]) -> Any:
    op = R.mean if node.attrs["kind"] == "mean" else R.sum
    return emitter.builder.emit(op(x[0], list(node.attrs["axes"]), bool(node.attrs["keepdims"])))


def _concat(emitter: Emitter, node: Node, x: list[Any]) -> Any:
    return emitter.operator("concat", {"axis": int(node.attrs["axis"])}, x, node.shape)


_NODES: dict[str, Callable[[Emitter, Node, list[Any]], Any]] = {
    "view": _view,
    "attention": _attention,
    "layer_norm": _layer_norm,
    "constant": _constant,
    "add": _two(R.add),
    "multiply": _two(R.multiply),
    "reduce": _reduce,
    "concat": _concat,
}
