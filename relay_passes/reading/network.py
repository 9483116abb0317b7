"""Readers of neural network operators: channels-last nodes with a view before and behind."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.quantization.view import View
from relay_passes.reading.arithmetic import binary
from relay_passes.reading.geometry import from_last, last_shape, layout_of, sides, to_last
from relay_passes.reading.reader import Call, CannotReadError, Handler, Reader

Array = NDArray[Any]

_KERNEL_ORDER = {"OIHW": (0, 2, 3, 1), "OHWI": (0, 1, 2, 3), "HWIO": (3, 0, 1, 2)}


def _weight(value: Any) -> Array:
    if not isinstance(value, np.ndarray):
        raise CannotReadError("weights that are not constant")
    return value


def _conv2d(reader: Reader, call: Call) -> Any:
    attrs = call.attrs
    if str(attrs.kernel_layout) not in _KERNEL_ORDER:
        raise CannotReadError(f"kernel layout {attrs.kernel_layout}")
    layout = layout_of(attrs.data_layout, attrs.out_layout)
    weight = _weight(call.args[1]).transpose(_KERNEL_ORDER[str(attrs.kernel_layout)])
    node_attrs = {
        "strides": tuple(int(s) for s in attrs.strides),
        "padding": sides(attrs.padding),
        "dilation": tuple(int(d) for d in attrs.dilation),
        "groups": int(attrs.groups),
    }
    x = to_last(reader, call.args[0], layout, call.label)
    params = {"weight": weight, "bias": np.zeros(weight.shape[0], np.float32)}
    shape = last_shape(call.shape, layout)
    out = reader.emit("conv2d", [x], shape, call.label, node_attrs, params)
    return from_last(reader, out, layout, call.label)


def _conv1d(reader: Reader, call: Call) -> Any:
    attrs = call.attrs
    if (str(attrs.data_layout), str(attrs.kernel_layout)) != ("NCW", "OIW"):
        raise CannotReadError(f"layouts {attrs.data_layout}, {attrs.kernel_layout}")
    layout_of(attrs.data_layout, attrs.out_layout)
    left, right = (int(p) for p in attrs.padding)
    weight = _weight(call.args[1]).transpose(0, 2, 1)[:, None]
    node_attrs = {
        "strides": (1, int(attrs.strides[0])),
        "padding": (0, left, 0, right),
        "dilation": (1, int(attrs.dilation[0])),
        "groups": int(attrs.groups),
    }
    n, c, width = reader.shape(call.args[0])
    last = reader.permute(call.args[0], (0, 2, 1), call.label)
    x = reader.reshape(last, (n, 1, width, c), call.label)
    params = {"weight": weight, "bias": np.zeros(weight.shape[0], np.float32)}
    n, channels, length = call.shape
    out = reader.emit("conv2d", [x], (n, 1, length, channels), call.label, node_attrs, params)
    flat = reader.reshape(out, (n, length, channels), call.label)
    return reader.permute(flat, (0, 2, 1), call.label)


def dense(reader: Reader, x: Any, weight: Array, label: str) -> Any:
    """``x [.., K]`` times ``weight [N, K]`` transposed."""
    shape = (*reader.shape(x)[:-1], weight.shape[0])
    params = {"weight": weight, "bias": np.zeros(weight.shape[0], np.float32)}
    return reader.emit("dense", [x], shape, label, params=params)


def _swap(reader: Reader, value: Any, label: str) -> Any:
    """Exchange the last two axes."""
    rank = len(reader.shape(value))
    return reader.permute(value, (*range(rank - 2), rank - 1, rank - 2), label)


def _matmul(reader: Reader, call: Call) -> Any:
    a, b = call.args
    if min(len(reader.shape(a)), len(reader.shape(b))) < 2:
        raise CannotReadError("a vector operand")
    if isinstance(b, np.ndarray) and prod(b.shape[:-2]) == 1:
        return reader.reshape(
            dense(reader, a, b.reshape(b.shape[-2:]).T, call.label), call.shape, call.label
        )
    if isinstance(a, np.ndarray) and prod(a.shape[:-2]) == 1 and not isinstance(b, np.ndarray):
        columns = dense(reader, _swap(reader, b, call.label), a.reshape(a.shape[-2:]), call.label)
        return reader.reshape(_swap(reader, columns, call.label), call.shape, call.label)
    return matmul(reader, a, _swap(reader, b, call.label), call.shape, call.label)


def matmul(reader: Reader, a: Any, b: Any, shape: Sequence[int], label: str) -> Any:
    """``a [.., M, K]`` times ``b [.., N, K]`` transposed; batch axes broadcast by views."""
    operands = []
    for value in (a, b):
        wide = (*shape[:-2], *reader.shape(value)[-2:])
        own = reader.shape(value)
        if prod(own) == prod(wide):
            operands.append(reader.reshape(value, wide, label))
        else:
            operands.append(_broadcast(reader, value, wide, label))
    return reader.emit("matmul", operands, shape, label, {"scale": 1.0})


def _broadcast(reader: Reader, value: Any, shape: Sequence[int], label: str) -> Any:
    return reader.view(value, View.identity(reader.shape(value)).broadcast_to(shape), label)


def _attention(reader: Reader, call: Call) -> Any:
    if call.attrs.causal_mask is not None or call.attrs.window_size is not None:
        raise CannotReadError("a causal mask or a window")
    label = call.label
    query, key, value = (reader.permute(v, (0, 2, 1, 3), label) for v in call.args[:3])
    batch, heads, rows, depth = reader.shape(query)
    given = call.attrs.scale
    scale = depth**-0.5 if given is None else float(getattr(given, "value", given))
    shape = (batch, heads, rows, reader.shape(value)[-1])
    bias = call.args[3] if len(call.args) > 3 else None
    if bias is None or isinstance(bias, np.ndarray):
        params = {} if bias is None else {"bias": bias}
        operands = [query, key, value]
        out = reader.emit("attention", operands, shape, label, {"scale": scale}, params)
    else:
        weights = _scores(reader, query, key, scale, bias, label)
        out = matmul(reader, weights, _swap(reader, value, label), shape, label)
    return reader.permute(out, (0, 2, 1, 3), label)


def _scores(reader: Reader, query: Any, key: Any, scale: float, bias: Any, label: str) -> Any:
    """Softmax of scaled products plus a bias that is computed at run time."""
    shape = (*reader.shape(query)[:-1], reader.shape(key)[-2])
    products = matmul(reader, query, key, shape, f"{label}.scores")
    factor = np.asarray(scale, np.float32)
    scaled = binary(reader, "multiply", products, factor, shape, f"{label}.scaled")
    biased = binary(reader, "add", scaled, bias, shape, f"{label}.biased")
    return reader.emit("softmax", [biased], shape, f"{label}.softmax")


def _batch_norm(reader: Reader, call: Call) -> Any:
    if call.attrs.training:
        raise CannotReadError("batch statistics; import the model in evaluation mode")
    x, gamma, beta, mean, variance = call.args
    gamma, beta = (array.astype(np.float64) for array in _affine(call, gamma, beta))
    scale = gamma / np.sqrt(_weight(variance).astype(np.float64) + float(call.attrs.epsilon))
    shape = reader.shape(x)
    axis = int(call.attrs.axis) % len(shape)
    trailing = (-1, *(1,) * (len(shape) - axis - 1))
    factor = scale.reshape(trailing)
    shift = (beta - _weight(mean) * scale).reshape(trailing)
    scaled = binary(reader, "multiply", x, factor, shape, f"{call.label}.scale")
    return (binary(reader, "add", scaled, shift, shape, call.label), mean, variance)


def _affine(call: Call, gamma: Any, beta: Any) -> tuple[Array, Array]:
    """Gamma and beta; what the operator leaves out is 1 or 0."""
    gamma, beta = _weight(gamma), _weight(beta)
    return (
        gamma if call.attrs.scale else np.ones_like(gamma),
        beta if call.attrs.center else np.zeros_like(beta),
    )


def _layer_norm(reader: Reader, call: Call) -> Any:
    shape, axes = call.shape, [int(a) % len(call.shape) for a in call.attrs.axes]
    if axes != list(range(len(shape) - len(axes), len(shape))):
        raise CannotReadError(f"normalisation over axes {axes} of {len(shape)}")
    width = prod(shape[a] for a in axes)
    flat = (*shape[: axes[0]], width)
    value, *weights = call.args
    x = reader.reshape(value, flat, call.label)
    gamma, beta = (array.reshape(width) for array in _affine(call, *weights))
    out = reader.emit(
        "layer_norm", [x], flat, call.label,
        {"eps": float(call.attrs.epsilon)}, {"gamma": gamma, "beta": beta},
    )  # fmt: skip
    return reader.reshape(out, shape, call.label)


def _group_norm(reader: Reader, call: Call) -> Any:
    return _grouped_norm(reader, call, int(call.attrs.num_groups))


def _instance_norm(reader: Reader, call: Call) -> Any:
    return _grouped_norm(reader, call, call.shape[1])


def _grouped_norm(reader: Reader, call: Call, groups: int) -> Any:
    rank = len(call.shape)
    axes = sorted(int(a) % rank for a in call.attrs.axes)
    if axes[:1] == [0] and call.shape[0] == 1:
        axes = axes[1:]  # a batch of one, as where the batch was merged into the channels
    if int(call.attrs.channel_axis) % rank != 1 or axes != list(range(2, rank)):
        raise CannotReadError(f"normalisation over axes {axes} of {rank}")
    last, first = (0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))
    x = reader.permute(call.args[0], last, call.label)
    params = dict(zip(("gamma", "beta"), _affine(call, *call.args[1:3]), strict=True))
    attrs = {"groups": groups, "eps": float(call.attrs.epsilon)}
    out = reader.emit("group_norm", [x], reader.shape(x), call.label, attrs, params)
    return reader.permute(out, first, call.label)


def _softmax(reader: Reader, call: Call) -> Any:
    rank = len(call.shape)
    axis = int(call.attrs.axis) % rank
    order = (*(a for a in range(rank) if a != axis), axis)
    x = reader.permute(call.args[0], order, call.label)
    out = reader.emit("softmax", [x], reader.shape(x), call.label)
    return reader.permute(out, tuple(order.index(a) for a in range(rank)), call.label)


HANDLERS: dict[str, Handler] = {
    "relax.nn.conv2d": _conv2d,
    "relax.nn.conv1d": _conv1d,
    "relax.matmul": _matmul,
    "relax.nn.attention": _attention,
    "relax.nn.attention_bias": _attention,
    "relax.nn.batch_norm": _batch_norm,
    "relax.nn.layer_norm": _layer_norm,
    "relax.nn.group_norm": _group_norm,
    "relax.nn.instance_norm": _instance_norm,
    "relax.nn.softmax": _softmax,
}
