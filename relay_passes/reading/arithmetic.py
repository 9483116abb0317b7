"""Readers of elementwise operators, and of the junk around softmax that they make safe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from relay_passes.reading.reader import Call, CannotReadError, Handler, Opaque, Reader

UNARY = {
    "relax.nn.relu": "relu",
    "relax.nn.silu": "silu",
    "relax.nn.gelu": "gelu",
    "relax.nn.gelu_tanh": "gelu_tanh",
    "relax.sigmoid": "sigmoid",
    "relax.tanh": "tanh",
    "relax.exp": "exp",
    "relax.sqrt": "sqrt",
    "relax.rsqrt": "rsqrt",
    "relax.square": "square",
    "relax.abs": "abs",
    "relax.negative": "neg",
    "relax.erf": "erf",
}

FOLDED: dict[str, Callable[..., Any]] = {
    "relax.add": np.add,
    "relax.subtract": np.subtract,
    "relax.multiply": np.multiply,
    "relax.divide": np.divide,
    "relax.floor_divide": np.floor_divide,
    "relax.mod": np.fmod,
    "relax.floor_mod": np.mod,
    "relax.maximum": np.maximum,
    "relax.minimum": np.minimum,
    "relax.power": np.power,
    "relax.equal": np.equal,
    "relax.not_equal": np.not_equal,
    "relax.less": np.less,
    "relax.less_equal": np.less_equal,
    "relax.greater": np.greater,
    "relax.greater_equal": np.greater_equal,
    "relax.logical_and": np.logical_and,
    "relax.logical_or": np.logical_or,
    "relax.logical_not": np.logical_not,
    "relax.floor": np.floor,
    "relax.ceil": np.ceil,
    "relax.round": np.round,
    "relax.log": np.log,
    "relax.isnan": np.isnan,
}
"""What is computed on the spot where all its operands are constants, in their own dtypes."""

_FULLY_MASKED = {
    "relax.equal", "relax.logical_not", "relax.astype", "relax.max", "relax.isnan",
}  # fmt: skip


def binary(reader: Reader, op: str, a: Any, b: Any, shape: tuple[int, ...], label: str) -> Any:
    """``add`` or ``multiply`` of two values, a constant one inside the node."""
    if isinstance(a, np.ndarray) and not isinstance(b, np.ndarray):
        a, b = b, a
    if isinstance(a, np.ndarray):
        return np.asarray({"add": np.add, "multiply": np.multiply}[op](a, b))
    if isinstance(b, np.ndarray):
        return reader.emit(op, [a], shape, label, params={"const": b})
    return reader.emit(op, [a, b], shape, label)


def _add(reader: Reader, call: Call) -> Any:
    return binary(reader, "add", call.args[0], call.args[1], call.shape, call.label)


def _multiply(reader: Reader, call: Call) -> Any:
    return binary(reader, "multiply", call.args[0], call.args[1], call.shape, call.label)


def _subtract(reader: Reader, call: Call) -> Any:
    a, b = call.args
    minus = np.asarray(-1.0, np.float32)
    negated = binary(reader, "multiply", b, minus, reader.shape(b), f"{call.label}.negated")
    return binary(reader, "add", a, negated, call.shape, call.label)


def _divide(reader: Reader, call: Call) -> Any:
    a, b = call.args
    if isinstance(b, np.ndarray):
        inverse: Any = np.asarray(1.0 / np.asarray(b, np.float64), np.float32)
    else:
        inverse = unary(reader, "reciprocal", b, f"{call.label}.reciprocal")
    return binary(reader, "multiply", a, inverse, call.shape, call.label)


def unary(reader: Reader, fn: str, value: Any, label: str, args: tuple[float, ...] = ()) -> Any:
    """A function of one number, applied to every element."""
    attrs = {"fn": fn, "args": args}
    return reader.emit("unary", [value], reader.shape(value), label, attrs)


def _scalar(value: Any) -> float:
    """The one number in a constant; a constant that holds several different ones is refused."""
    if not isinstance(value, np.ndarray) or np.ptp(value) != 0:
        raise CannotReadError("a second operand that is not one constant number")
    return float(value.reshape(-1)[0])


def _bounded(fn: Callable[[float], tuple[float, float]]) -> Handler:
    def read(reader: Reader, call: Call) -> Any:
        a, b = call.args
        value, bound = (b, a) if isinstance(a, np.ndarray) else (a, b)
        clipped = unary(reader, "clip", value, call.label, fn(_scalar(bound)))
        return clipped

    return read


def _clip(reader: Reader, call: Call) -> Any:
    value, low, high = call.args
    return unary(reader, "clip", value, call.label, (float(low), float(high)))


def _power(reader: Reader, call: Call) -> Any:
    value, exponent = call.args[0], _scalar(call.args[1])
    names = {2.0: "square", 0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}
    if exponent == 1.0:
        return value
    if exponent in names:
        return unary(reader, names[exponent], value, call.label)
    if exponent == 3.0:
        squared = unary(reader, "square", value, f"{call.label}.square")
        return binary(reader, "multiply", value, squared, call.shape, call.label)
    raise CannotReadError(f"exponent {exponent}")


def _leaky_relu(reader: Reader, call: Call) -> Any:
    return unary(reader, "leaky_relu", call.args[0], call.label, (float(call.attrs.alpha),))


def _prelu(reader: Reader, call: Call) -> Any:
    """A slope for negative numbers; one per channel as ``relu(x) - slope * relu(-x)``."""
    x, slope = call.args
    if not isinstance(slope, np.ndarray):
        raise CannotReadError("slopes that are not constant")
    if slope.size == 1:
        return unary(reader, "leaky_relu", x, call.label, (float(slope.item()),))
    axis = int(call.attrs.axis) % len(call.shape)
    factor = -slope.reshape(-1, *(1,) * (len(call.shape) - axis - 1))
    positive = unary(reader, "relu", x, f"{call.label}.positive")
    flipped = unary(reader, "neg", x, f"{call.label}.flipped")
    negative = unary(reader, "relu", flipped, f"{call.label}.negative")
    scaled = binary(reader, "multiply", negative, factor, call.shape, f"{call.label}.scaled")
    return binary(reader, "add", positive, scaled, call.shape, call.label)


def _unary(reader: Reader, call: Call) -> Any:
    return unary(reader, UNARY[call.op], call.args[0], call.label)


def _astype(reader: Reader, call: Call) -> Any:
    dtype = str(call.attrs.dtype)
    if isinstance(call.args[0], np.ndarray):
        return call.args[0].astype(dtype)
    if dtype != "float32":
        raise CannotReadError(f"a cast to {dtype}")
    return call.args[0]


def _where(reader: Reader, call: Call) -> Any:
    condition, when_true, when_false = call.args
    if all(isinstance(value, np.ndarray) for value in call.args):
        return np.where(*call.args)
    rows = isinstance(when_false, str) and reader.nodes[when_false].op == "softmax"
    zeros = isinstance(when_true, np.ndarray) and not np.any(when_true)
    if rows and zeros and isinstance(condition, Opaque) and condition.ops <= _FULLY_MASKED:
        # Rows whose logits are all -inf come out as 0: without such logits this is the softmax.
        return when_false
    raise CannotReadError("a choice that depends on data")


def _constant(make: Callable[[Call], Any]) -> Handler:
    return lambda reader, call: make(call)


def _foldable(op: str) -> Handler:
    """Constants are computed; anything else goes to the operator's own reader, if it has one."""

    def read(reader: Reader, call: Call) -> Any:
        if all(isinstance(value, np.ndarray) for value in call.args):
            return np.asarray(FOLDED[op](*call.args))
        handler = ELEMENTWISE.get(op)
        if handler is None:
            raise CannotReadError("not supported on activations")
        return handler(reader, call)

    return read


ELEMENTWISE: dict[str, Handler] = {
    "relax.add": _add,
    "relax.subtract": _subtract,
    "relax.multiply": _multiply,
    "relax.divide": _divide,
    "relax.maximum": _bounded(lambda bound: (bound, float("inf"))),
    "relax.minimum": _bounded(lambda bound: (float("-inf"), bound)),
    "relax.power": _power,
}

HANDLERS: dict[str, Handler] = {
    **{op: _unary for op in UNARY},
    **{op: _foldable(op) for op in FOLDED},
    "relax.clip": _clip,
    "relax.nn.leakyrelu": _leaky_relu,
    "relax.nn.prelu": _prelu,
    "relax.astype": _astype,
    "relax.where": _where,
    "relax.shape_of": lambda reader, call: np.asarray(reader.shape(call.args[0]), np.int64),
    "relax.shape_to_tensor": lambda reader, call: np.asarray(call.args[0], np.int64),
    "relax.tensor_to_shape": lambda reader, call: tuple(int(n) for n in call.args[0]),
    "relax.arange": _constant(lambda call: np.arange(*call.args, dtype=str(call.attrs.dtype))),
    "relax.zeros": _constant(lambda call: np.zeros(call.shape, str(call.attrs.dtype))),
    "relax.ones": _constant(lambda call: np.ones(call.shape, str(call.attrs.dtype))),
    "relax.full": _constant(lambda call: np.full(call.shape, call.args[1])),
    "relax.full_like": _constant(lambda call: np.full(call.shape, call.args[1])),
    "relax.zeros_like": _constant(lambda call: np.zeros(call.shape, np.float32)),
    "relax.ones_like": _constant(lambda call: np.ones(call.shape, np.float32)),
}

CONSTANTS_ONLY = frozenset(FOLDED) - frozenset(ELEMENTWISE)
"""What the graph has no operator for; on constants it is computed."""
