"""Walks a Relax function and writes the raw graph: every layout change an explicit view node.

Values while reading are names of graph nodes, NumPy arrays (anything that depends on constants
alone is computed on the spot), tuples of values, or ``Opaque``: the result of something that the
graph cannot hold. An opaque value is an error only if an output needs it, so that all operators
that stand in the way are named in one message, and dead ones in none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tvm import ir, relax, tirx

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.quantization.float_executor import evaluate_node
from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.view import View

Array = NDArray[Any]


@dataclass(frozen=True)
class Opaque:
    """What the graph cannot hold: ``reasons`` for people, ``ops`` that led here, for patterns."""

    reasons: frozenset[str]
    ops: frozenset[str]


class CannotReadError(Exception):
    """Raised by an operator's reader; the message completes "<operator> at <place>: ..."."""


@dataclass(frozen=True)
class Call:
    """One Relax call, its arguments already read."""

    op: str
    args: tuple[Any, ...]
    attrs: Any
    label: str
    shape: tuple[int, ...]


Handler = Callable[["Reader", Call], Any]


class Reader:
    """The graph so far, and the operations by which handlers add to it."""

    def __init__(
        self, handlers: Mapping[str, Handler], constants_only: Collection[str] = ()
    ) -> None:
        self.handlers = handlers
        self.constants_only = constants_only
        self.nodes: dict[str, Node] = {}

    def read(self, function: relax.Function) -> Graph:
        """Read a function; raises ``UnsupportedModelError`` listing all that is in the way."""
        env: dict[Any, Any] = {var: self._input(var) for var in function.params}
        body = function.body
        for block in body.blocks:
            for binding in block.bindings:
                if not isinstance(binding, relax.VarBinding):
                    raise UnsupportedModelError(f"{binding.var.name}: shapes matched at run time")
                env[binding.var] = self._read(binding.value, env, binding.var.name)
        outputs = list(_flat(self._read(body.body, env, "output")))
        blocked = sorted(
            {r for value in outputs if isinstance(value, Opaque) for r in value.reasons}
        )
        if blocked:
            raise UnsupportedModelError("unsupported operators:\n  " + "\n  ".join(blocked))
        return Graph(self.nodes.values(), [self.name_of(v, "output") for v in outputs]).pruned()

    def shape(self, value: Any) -> tuple[int, ...]:
        """Shape of a node's tensor or of an array."""
        return value.shape if isinstance(value, np.ndarray) else self.nodes[value].shape

    def emit(
        self,
        op: str,
        inputs: Sequence[Any],
        shape: Sequence[int],
        label: str,
        attrs: Mapping[str, Any] | None = None,
        params: Mapping[str, Array] | None = None,
    ) -> Any:
        """Add a node and give its name; where all inputs are arrays, give its value instead."""
        weights = {k: np.array(v, np.float32, order="C") for k, v in (params or {}).items()}
        if inputs and all(isinstance(value, np.ndarray) for value in inputs):
            node = Node(label, op, ("_",) * len(inputs), tuple(shape), attrs or {}, weights)
            tensors = [torch.from_numpy(np.ascontiguousarray(v, np.float32)) for v in inputs]
            return np.asarray(evaluate_node(node, tensors))
        names = tuple(self.name_of(value, label) for value in inputs)
        node = Node(self.unique(label, op), op, names, tuple(shape), attrs or {}, weights)
        self.nodes[node.name] = node
        return node.name

    def view(self, value: Any, view: View | None, label: str) -> Any:
        """Read a value through a view; a view that does nothing adds nothing."""
        if view is None:
            raise CannotReadError("this layout change is not one strided read")
        if isinstance(value, np.ndarray):
            return view.apply(value)
        if view == View.identity(self.shape(value)):
            return value
        return self.emit("view", [value], view.out_shape, f"{label}.view", {"view": view})

    def permute(self, value: Any, axes: Sequence[int], label: str) -> Any:
        """Read a value with its axes in the given order."""
        return self.view(value, View.identity(self.shape(value)).permute(axes), label)

    def reshape(self, value: Any, shape: Sequence[int], label: str) -> Any:
        """Read a value under another shape."""
        return self.view(value, View.identity(self.shape(value)).reshape(shape), label)

    def name_of(self, value: Any, label: str) -> str:
        """The node that holds a value; an array gets a constant node."""
        if isinstance(value, str):
            return value
        array = np.array(value, np.float32, order="C")
        name = self.unique(f"{label}.constant", "constant")
        self.nodes[name] = Node(name, "constant", (), array.shape, {}, {"value": array})
        return name

    def unique(self, label: str, op: str) -> str:
        """``label`` if it is free, else with the operator and, if need be, a number behind it."""
        if label not in self.nodes:
            return label
        stem = label if label.endswith(f".{op}") else f"{label}.{op}"
        names = chain([stem], (f"{stem}.{i}" for i in count(1)))
        return next(name for name in names if name not in self.nodes)

    def _input(self, var: relax.Var) -> str:
        name = self.unique(var.name, "input")
        shape = _static_shape(var.ty, var.name)
        self.nodes[name] = Node(name, "input", (), shape)
        if len(shape) != 4:
            return name
        # Images come channels-first: bring the channels last at once, and let the way back sink
        # to where the first convolution cancels it.
        last = self.permute(name, (0, 2, 3, 1), name)
        return str(self.permute(last, (0, 3, 1, 2), name))

    def _read(self, expr: Any, env: Mapping[Any, Any], label: str) -> Any:
        if isinstance(expr, relax.Var):
            return env[expr]
        if isinstance(expr, ir.GenericConst):
            return expr.value.numpy()
        if isinstance(expr, relax.Tuple):
            return tuple(self._read(field, env, label) for field in expr.fields)
        if isinstance(expr, relax.TupleGetItem):
            whole = self._read(expr.tuple_value, env, label)
            return whole if isinstance(whole, Opaque) else whole[expr.index]
        if isinstance(expr, relax.Call):
            return self._read_call(expr, env, label)
        return _plain(expr, label)

    def _read_call(self, call: relax.Call, env: Mapping[Any, Any], label: str) -> Any:
        op = call.op.name if hasattr(call.op, "name") else str(call.op)
        args = tuple(self._read(arg, env, label) for arg in call.args)
        shape = _static_shape(call.ty, label) if isinstance(call.ty, relax.TensorType) else ()
        known = [value for value in _flat(args) if isinstance(value, Opaque)]
        handler = self.handlers.get(op)
        try:
            if handler is None:
                raise CannotReadError("not supported")
            if not known or op == "relax.where":
                return handler(self, Call(op, args, call.attrs, label, shape))
            if op in self.constants_only:
                raise CannotReadError("not supported on activations")
            reasons: frozenset[str] = frozenset()
        except CannotReadError as error:
            reasons = frozenset({f"{op} at {label}: {error}"})
        for value in known:
            reasons |= value.reasons
        return Opaque(reasons, frozenset({op}).union(*(value.ops for value in known)))


def _flat(value: Any) -> list[Any]:
    if isinstance(value, tuple):
        return [leaf for item in value for leaf in _flat(item)]
    return [value]


def _static_shape(type_: Any, label: str) -> tuple[int, ...]:
    dims = getattr(type_, "shape", None)
    if dims is None or not all(isinstance(d, tirx.IntImm) for d in dims):
        raise UnsupportedModelError(
            f"{label}: the shape {dims} is not static; import the model with fixed input shapes"
        )
    return tuple(int(d) for d in dims)


def _plain(expr: Any, label: str) -> Any:
    """Numbers, shapes and strings as Python's own."""
    if isinstance(expr, relax.ShapeExpr):
        return tuple(_plain(value, label) for value in expr.values)
    if isinstance(expr, tirx.IntImm):
        return int(expr.value)
    if isinstance(expr, tirx.FloatImm):
        return float(expr.value)
    return Opaque(frozenset({f"{type(expr).__name__} at {label}: not supported"}), frozenset())
