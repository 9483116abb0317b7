"""Single operators of both models. Maps are [B, C, H, W], tokens [B, N, C]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isqrt, prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tvm import relax

from benchmarks.fuzzing.twin import Array, Network, Value, constant

nn = relax.op.nn


def reshape(net: Network, x: Value, shape: Sequence[int]) -> Value:
    """The same elements in another shape."""
    return net.emit(relax.op.reshape(x.var, tuple(shape)), lambda t: t.reshape(tuple(shape)), x)


def permute(net: Network, x: Value, axes: Sequence[int]) -> Value:
    """Other order of axes."""
    return net.emit(relax.op.permute_dims(x.var, list(axes)), lambda t: t.permute(*axes), x)


def as_map(net: Network, x: Value) -> Value:
    """Tokens laid out as nearly a square as their number allows."""
    if len(x.shape) == 4:
        return x
    if len(x.shape) == 2:
        return reshape(net, x, (*x.shape, 1, 1))
    batch, count, channels = x.shape
    height = max(d for d in range(1, isqrt(count) + 1) if count % d == 0)
    first = permute(net, x, (0, 2, 1))
    return reshape(net, first, (batch, channels, height, count // height))


def as_tokens(net: Network, x: Value) -> Value:
    """Every position a token."""
    if len(x.shape) == 3:
        return x
    if len(x.shape) == 2:
        return reshape(net, x, (x.shape[0], 1, x.shape[1]))
    batch, channels, height, width = x.shape
    return permute(net, reshape(net, x, (batch, channels, height * width)), (0, 2, 1))


def slice_to(net: Network, x: Value, shape: Sequence[int]) -> Value:
    """The first elements along every axis."""
    cut = [a for a, (have, want) in enumerate(zip(x.shape, shape, strict=True)) if want < have]
    if not cut:
        return x
    ends = [int(shape[a]) for a in cut]
    expr = relax.op.strided_slice(x.var, cut, [0] * len(cut), ends)
    where = tuple(slice(0, int(n)) for n in shape)
    return net.emit(expr, lambda t: t[where], x)


def conv2d(
    net: Network,
    x: Value,
    weight: Array,
    bias: Array | None = None,
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Value:
    """padding: top, left, bottom, right."""
    ours, theirs = constant(weight)
    top, left, bottom, right = padding
    expr = nn.conv2d(x.var, ours, strides, padding, dilation, groups)

    def function(t: Any) -> Any:
        wide = F.pad(t, (left, right, top, bottom))
        return F.conv2d(wide, theirs, None, strides, 0, dilation, groups)

    out = net.emit(expr, function, x)
    return out if bias is None else offset(net, out, bias.reshape(1, -1, 1, 1))


def offset(net: Network, x: Value, by: Array) -> Value:
    """A tensor plus a constant."""
    ours, theirs = constant(by)
    return net.emit(relax.op.add(x.var, ours), lambda t: t + theirs, x)


def scaled(net: Network, x: Value, by: Array) -> Value:
    """A tensor times a constant."""
    ours, theirs = constant(by)
    return net.emit(relax.op.multiply(x.var, ours), lambda t: t * theirs, x)


def linear(net: Network, x: Value, weight: Array, bias: Array | None = None) -> Value:
    """[.., K] times weight [N, K] transposed."""
    ours, theirs = constant(weight.T)
    out = net.emit(relax.op.matmul(x.var, ours), lambda t: t @ theirs, x)
    return out if bias is None else offset(net, out, bias)


def add(net: Network, a: Value, b: Value) -> Value:
    """Sum, broadcast."""
    return net.emit(relax.op.add(a.var, b.var), torch.add, a, b)


def multiply(net: Network, a: Value, b: Value) -> Value:
    """Product, broadcast."""
    return net.emit(relax.op.multiply(a.var, b.var), torch.mul, a, b)


def matmul(net: Network, a: Value, b: Value) -> Value:
    """Batched product."""
    return net.emit(relax.op.matmul(a.var, b.var), torch.matmul, a, b)


def concat(net: Network, values: Sequence[Value], axis: int) -> Value:
    """Side by side."""
    expr = relax.op.concat([value.var for value in values], axis)
    return net.emit(expr, lambda *ts: torch.cat(ts, axis), *values)


def mean(net: Network, x: Value, axes: Sequence[int], keepdims: bool) -> Value:
    """Mean over axes."""
    expr = relax.op.mean(x.var, list(axes), keepdims)
    return net.emit(expr, lambda t: t.mean(tuple(axes), keepdim=keepdims), x)


def total(net: Network, x: Value, axes: Sequence[int]) -> Value:
    """Sum over axes, which stay with length 1."""
    return net.emit(relax.op.sum(x.var, list(axes), True), lambda t: t.sum(tuple(axes), True), x)


def softmax(net: Network, x: Value, axis: int = -1) -> Value:
    """Softmax over one axis."""
    return net.emit(nn.softmax(x.var, axis), lambda t: t.softmax(axis), x)


def pool(
    net: Network, x: Value, kind: str, kernel: tuple[int, int], strides: tuple[int, int], pad: int
) -> Value:
    """kind: max, avg (padding counts) or avg_inside (it does not)."""
    if kind == "max":
        expr = nn.max_pool2d(x.var, kernel, strides, (pad, pad))
        return net.emit(expr, lambda t: F.max_pool2d(t, kernel, strides, pad), x)
    counts = kind == "avg"
    expr = nn.avg_pool2d(x.var, kernel, strides, (pad, pad), count_include_pad=counts)
    function = lambda t: F.avg_pool2d(t, kernel, strides, pad, count_include_pad=counts)  # noqa: E731
    return net.emit(expr, function, x)


def layer_norm(net: Network, x: Value, gamma: Array, beta: Array, eps: float) -> Value:
    """Over the last axis."""
    (g, tg), (b, tb) = constant(gamma), constant(beta)
    expr = nn.layer_norm(x.var, g, b, [-1], eps)
    return net.emit(expr, lambda t: F.layer_norm(t, (len(gamma),), tg, tb, eps), x)


def group_norm(net: Network, x: Value, groups: int, gamma: Array, beta: Array, eps: float) -> Value:
    """Over the channels of a group and all positions."""
    (g, tg), (b, tb) = constant(gamma), constant(beta)
    expr = nn.group_norm(x.var, g, b, groups, 1, [2, 3], eps)

    def function(t: Any) -> Any:  # torch's own refuses groups of one element
        rows = t.reshape(t.shape[0], groups, -1)
        apart = rows - rows.mean(-1, keepdim=True)
        unit = apart * torch.rsqrt(apart.square().mean(-1, keepdim=True) + eps)
        return unit.reshape(t.shape) * tg.reshape(-1, 1, 1) + tb.reshape(-1, 1, 1)

    return net.emit(expr, function, x)


def batch_norm(net: Network, x: Value, gamma: Array, beta: Array, mu: Array, var: Array) -> Value:
    """With running statistics."""
    pairs = [constant(array) for array in (gamma, beta, mu, var)]
    ours, theirs = zip(*pairs, strict=True)
    call = net.builder.emit(nn.batch_norm(x.var, *ours, 1, 1e-5, training=False))
    g, b, m, v = theirs
    function = lambda t: F.batch_norm(t, m, v, g, b, False, 0.0, 1e-5)  # noqa: E731
    return net.emit(relax.TupleGetItem(call, 0), function, x)


def pad(net: Network, x: Value, widths: tuple[int, int, int, int], value: float) -> Value:
    """A border of a number; widths: top, bottom, left, right."""
    top, bottom, left, right = widths
    expr = nn.pad(x.var, [0, 0, 0, 0, *widths], "constant", value)
    return net.emit(expr, lambda t: F.pad(t, (left, right, top, bottom), value=value), x)


def upsample(net: Network, x: Value, factor: int) -> Value:
    """Nearest neighbour."""
    size = (x.shape[2] * factor, x.shape[3] * factor)
    expr = relax.op.image.resize2d(
        x.var, size, layout="NCHW", method="nearest_neighbor",
        coordinate_transformation_mode="asymmetric", rounding_method="floor",
    )  # fmt: skip
    return net.emit(expr, lambda t: F.interpolate(t, scale_factor=factor, mode="nearest"), x)


def _hardswish(v: Any) -> Any:
    six = relax.op.clip(relax.op.add(v, relax.const(3.0)), 0, 6)
    return relax.op.divide(relax.op.multiply(v, six), relax.const(6.0))


ACTIVATIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "relu": (nn.relu, F.relu),
    "relu6": (nn.relu6, F.relu6),
    "silu": (nn.silu, F.silu),
    "gelu": (nn.gelu, F.gelu),
    "gelu_tanh": (nn.gelu_tanh, lambda t: F.gelu(t, approximate="tanh")),
    "sigmoid": (relax.op.sigmoid, torch.sigmoid),
    "tanh": (relax.op.tanh, torch.tanh),
    "hardswish": (_hardswish, F.hardswish),
    "leaky": (lambda v: nn.leakyrelu(v, 0.1), lambda t: F.leaky_relu(t, 0.1)),
    "abs": (relax.op.abs, torch.abs),
    "negative": (relax.op.negative, torch.neg),
    "clip": (lambda v: relax.op.clip(v, -0.7, 1.3), lambda t: t.clamp(-0.7, 1.3)),
}


def activation(net: Network, x: Value, name: str) -> Value:
    """A function of one number, by its name in ``ACTIVATIONS``."""
    ours, theirs = ACTIVATIONS[name]
    return net.emit(ours(x.var), theirs, x)


def elements(x: Value) -> int:
    """How many numbers a tensor holds."""
    return prod(x.shape)


def normal(rng: np.random.Generator, *shape: int, fan: int = 1) -> Array:
    """Weights that keep variance; now and then an outlier, a dead channel, or all nearly equal."""
    weight = rng.normal(size=shape) / np.sqrt(fan)
    way = rng.random()
    if way < 0.15:
        weight[rng.integers(shape[0])] *= 20
    elif way < 0.25:
        weight[rng.integers(shape[0])] = 0
    elif way < 0.3:
        weight = 0.01 * weight + 0.05
    return weight.astype(np.float32)
