"""The blocks that recipes name. Each takes the tensor it finds and another, whatever their shapes.

A block draws its sizes from its own generator and never makes an empty tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.fuzzing import primitives as p
from benchmarks.fuzzing.recipe import CHANNELS, Recipe, Step
from benchmarks.fuzzing.twin import Array, Network, Value

Rng = np.random.Generator
Block = Callable[[Network, Rng, Value, Value], Value]
MOST_ELEMENTS = 8_000
NAMES = tuple(p.ACTIVATIONS)


def build(recipe: Recipe) -> tuple[Network, Any]:
    """Both models of a recipe: the network, which runs in PyTorch, and the Relax module."""
    net = Network((recipe.batch, recipe.channels, recipe.height, recipe.width))
    made = {0: net.input}
    for step in recipe.steps:
        source, other = (made[_standing(made, n)] for n in (step.source, step.other))
        made[step.number] = _small(net, _apply(net, step, source, other))
    last = made[max(made)]
    if last is net.input:
        last = p.scaled(net, last, np.float32(0.5))
    return net, net.finish(_head(net, np.random.default_rng([recipe.seed, 1]), recipe, last))


def _standing(made: dict[int, Value], number: int) -> int:
    return max(n for n in made if n <= number)


def _apply(net: Network, step: Step, source: Value, other: Value) -> Value:
    return BLOCKS[step.kind](net, np.random.default_rng(step.seed), source, other)


def _small(net: Network, x: Value) -> Value:
    """Cut maps and tokens that grew too large: fuzzing wants many graphs, not large ones."""
    shape = list(x.shape)
    while np.prod(shape) > MOST_ELEMENTS:
        axis = 1 + int(np.argmax(shape[1:]))
        shape[axis] = (shape[axis] + 1) // 2
    return p.slice_to(net, x, shape)


def _head(net: Network, rng: Rng, recipe: Recipe, x: Value) -> list[Value]:
    if recipe.head == "as_is":
        return [x]
    tokens = p.as_tokens(net, x)
    if recipe.head == "flat_linear":
        flat = p.reshape(net, tokens, (tokens.shape[0], tokens.shape[1] * tokens.shape[2]))
        return [_linear(net, rng, flat, 7)]
    mean = p.mean(net, tokens, (1,), False)
    if recipe.head == "mean":
        return [mean]
    logits = _linear(net, rng, mean, 10)
    return [logits, x] if recipe.head == "two" else [logits]


def _linear(net: Network, rng: Rng, x: Value, outputs: int) -> Value:
    fan = x.shape[-1]
    bias = rng.normal(size=outputs) * 0.3 if rng.random() < 0.8 else None
    return p.linear(net, x, p.normal(rng, outputs, fan, fan=fan), bias)


def _pick(rng: Rng, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def _divisors(*numbers: int) -> list[int]:
    return [d for d in range(1, min(numbers) + 1) if all(n % d == 0 for n in numbers)]


def _affine(rng: Rng, channels: int) -> tuple[Array, Array]:
    return rng.normal(1, 0.3, channels), rng.normal(0, 0.3, channels)


def _convolution(net: Network, rng: Rng, x: Value, outputs: int, groups: int) -> Value:
    """Kernel, stride and padding of each side on their own; strides may skip columns."""
    kernel, strides, dilation, sides = [], [], [], []
    square = rng.random() < 0.6
    for length in x.shape[2:]:
        size = int(_pick(rng, (1, 1, 2, 3, 3, 3, 5)))
        step, spread = int(_pick(rng, (1, 1, 1, 2, 3, 4))), int(_pick(rng, (1, 1, 1, 2)))
        if square and kernel:
            size, step, spread = kernel[0], strides[0], dilation[0]
        low, high = (int(n) for n in rng.integers(0, size + 1, 2))
        if square:
            low = high = size // 2
        reach = (size - 1) * spread + 1
        high += max(0, reach - length - low - high)
        kernel.append(size)
        strides.append(step)
        dilation.append(spread)
        sides.append((low, high))
    (top, bottom), (left, right) = sides
    inputs = x.shape[1] // groups
    fan = inputs * kernel[0] * kernel[1]
    weight = p.normal(rng, outputs, inputs, *kernel, fan=fan)
    bias = rng.normal(size=outputs) * 0.3 if rng.random() < 0.7 else None
    return p.conv2d(
        net, x, weight, bias, strides=(strides[0], strides[1]), padding=(top, left, bottom, right),
        dilation=(dilation[0], dilation[1]), groups=groups,
    )  # fmt: skip


def _conv(net: Network, rng: Rng, source: Value, _: Value) -> Value:
    x = p.as_map(net, source)
    return _maybe_activated(net, rng, _convolution(net, rng, x, _pick(rng, CHANNELS), 1))


def _depthwise(net: Network, rng: Rng, source: Value, _: Value) -> Value:
    x = p.as_map(net, source)
    times = _pick(rng, (1, 1, 1, 2))
    return _maybe_activated(net, rng, _convolution(net, rng, x, x.shape[1] * times, x.shape[1]))


def _grouped(net: Network, rng: Rng, source: Value, _: Value) -> Value:
    x = p.as_map(net, source)
    groups = _pick(rng, _divisors(x.shape[1]))
    return _convolution(net, rng, x, groups * _pick(rng, (1, 2, 3, 4)), groups)


def _maybe_activated(net: Network, rng: Rng, x: Value) -> Value:
    if rng.random() < 0.4:
        x = _batch_norm(net, rng, x, x)
    return p.activation(net, x, _pick(rng, NAMES)) if rng.random() < 0.6 else x


def _activation(net: Network, rng: Rng, x: Value, _: Value) -> Value:
    return p.activation(net, x, _pick(rng, NAMES))


def _batch_norm(net: Network, rng: Rng, source: Value, _: Value) -> Value:
    x = p.as_map(net, source)
    channels = x.shape[1]
    mean, variance = rng.normal(0, 0.3, channels), rng.uniform(0.3, 2, channels)
    return p.batch_norm(net, x, *_affine(rng, channels), mean, variance)


def _group_norm(net: Network, rng: Rng, source: Value, _: Value) -> Value:
    x = p.as_map(net, source)
    groups = _pick(rng, _divisors(x.shape[1]))
    return p.group_norm(net, x, groups, *_affine(rng, x.shape[1]), float(_pick(rng, (1e-5, 1e-3))))


def _layer_norm(net: Network, rng: Rng, source: Value, _: Value) -> Value:
    x = p.as_tokens(net, source)
    return p.layer_norm(net, x, *_affine(rng, x.shape[-1]), float(_pick(rng, (1e-6, 1e-5))))


def _pool(net: Network, rng: Rng, source: Value, _: Value) -> Value:
    x = p.as_map(net, source)
    kernel = tuple(min(int(_pick(rng, (1, 2, 3, 5))), n) for n in x.shape[2:])
    strides = tuple(int(n) for n in rng.integers(1, 4, 2))
    pad = int(rng.integers(0, min(kernel) // 2 + 1))
    kind = _pick(rng, ("max", "avg", "avg_inside"))
    return p.pool(net, x, kind, kernel, strides, pad)  # type: ignore[arg-type]


def _squeeze(net: Network, rng: Rng, source: Value, _: Value) -> Value:
    """Channel attention: gates from the mean of all positions."""
    x = p.as_map(net, source)
    channels, hidden = x.shape[1], max(1, x.shape[1] // 4)
    mean = p.mean(net, x, (2, 3), True)
    down = p.conv2d(net, mean, p.normal(rng, hidden, channels, 1, 1, fan=channels))
    up = p.normal(rng, channels, hidden, 1, 1, fan=hidden)
    gates = p.conv2d(net, p.activation(net, down, "relu"), up, rng.normal(size=channels))
    return p.multiply(net, x, p.activation(net, gates, "sigmoid"))


def _fitted(net: Network, rng: Rng, x: Value, other: Value) -> tuple[Value, Value]:
    """Both as maps of equal shape: cut to the smaller size, channels by a product."""
    a, b = p.as_map(net, x), p.as_map(net, other)
    size = [min(pair) for pair in zip(a.shape[2:], b.shape[2:], strict=True)]
    a, b = (p.slice_to(net, v, (*v.shape[:2], *size)) for v in (a, b))
    if a.shape[1] != b.shape[1]:
        weight = p.normal(rng, a.shape[1], b.shape[1], 1, 1, fan=b.shape[1])
        b = p.conv2d(net, b, weight)
    return a, b


def _residual(net: Network, rng: Rng, x: Value, other: Value) -> Value:
    same = x.shape == other.shape
    a, b = (x, other) if same else _fitted(net, rng, x, other)
    return p.add(net, a, b)


def _multiply(net: Network, rng: Rng, x: Value, other: Value) -> Value:
    return p.multiply(net, *_fitted(net, rng, x, other))


def _concat(net: Network, rng: Rng, x: Value, other: Value) -> Value:
    a, b = p.as_map(net, x), p.as_map(net, other)
    size = [min(pair) for pair in zip(a.shape[2:], b.shape[2:], strict=True)]
    values = [p.slice_to(net, v, (*v.shape[:2], *size)) for v in (a, b)]
    return p.concat(net, values if rng.random() < 0.8 else [*values, values[0]], 1)


def _upsample(net: Network, rng: Rng, source: Value, _: Value) -> Value:
    return p.upsample(net, p.as_map(net, source), int(_pick(rng, (2, 2, 3))))


def _pad(net: Network, rng: Rng, source: Value, _: Value) -> Value:
    top, bottom, left, right = (int(n) for n in rng.integers(0, 3, 4))
    value = float(_pick(rng, (0.0, 0.0, 0.5)))
    return p.pad(net, p.as_map(net, source), (top + 1, bottom, left, right), value)


def _shuffle(net: Network, rng: Rng, source: Value, _: Value) -> Value:
    x = p.as_map(net, source)
    batch, channels, height, width = x.shape
    groups = _pick(rng, _divisors(channels))
    split = p.reshape(net, x, (batch, groups, channels // groups, height, width))
    return p.reshape(net, p.permute(net, split, (0, 2, 1, 3, 4)), x.shape)


def _slice(net: Network, rng: Rng, x: Value, _: Value) -> Value:
    lengths = (int(rng.integers((n + 1) // 2, n + 1)) for n in x.shape[1:])
    return p.slice_to(net, x, (x.shape[0], *lengths))


def _mean(net: Network, rng: Rng, x: Value, _: Value) -> Value:
    axis = int(rng.integers(1, len(x.shape)))
    return p.mean(net, x, (axis,), True)


def _dense(net: Network, rng: Rng, source: Value, _: Value) -> Value:
    return _linear(net, rng, p.as_tokens(net, source), _pick(rng, CHANNELS))


def _perceptron(net: Network, rng: Rng, source: Value, _: Value) -> Value:
    x = p.as_tokens(net, source)
    hidden = _linear(net, rng, _layer_norm(net, rng, x, x), _pick(rng, CHANNELS))
    inner = p.activation(net, hidden, _pick(rng, NAMES))
    return p.add(net, x, _linear(net, rng, inner, x.shape[-1]))


def _softmax(net: Network, rng: Rng, source: Value, _: Value) -> Value:
    x = p.as_tokens(net, source)
    return p.softmax(net, p.scaled(net, x, np.float32(rng.uniform(0.5, 4))), _pick(rng, (-1, 1)))


def _class_token(net: Network, rng: Rng, source: Value, _: Value) -> Value:
    """A learned token before the others, and learned positions added."""
    x = p.as_tokens(net, source)
    batch, count, channels = x.shape
    token = np.repeat(rng.normal(size=(1, 1, channels)), batch, axis=0).astype(np.float32)
    ours, theirs = p.constant(token)
    both = p.relax.op.concat([ours, x.var], 1)
    joined = net.emit(both, lambda t: p.torch.cat([theirs, t], 1), x)
    return p.offset(net, joined, rng.normal(size=(1, count + 1, channels)) * 0.5)


def _heads(net: Network, x: Value, heads: int, last: tuple[int, int]) -> Value:
    """[B, N, h*D] to [B, h, N, D], or with its last axes exchanged."""
    batch, count, channels = x.shape
    split = p.reshape(net, x, (batch, count, heads, channels // heads))
    return p.permute(net, split, (0, 2, *last))


def _attend(net: Network, rng: Rng, x: Value, memory: Value) -> Value:
    """Multi-head attention of x over memory, with or without a bias on the logits."""
    heads, depth = int(_pick(rng, (1, 1, 2, 3, 4))), int(_pick(rng, (1, 3, 4, 5, 8, 11, 16)))
    value_depth = depth if rng.random() < 0.7 else int(_pick(rng, (1, 2, 6, 9)))
    q = _heads(net, _linear(net, rng, x, heads * depth), heads, (1, 3))
    k = _heads(net, _linear(net, rng, memory, heads * depth), heads, (3, 1))
    v = _heads(net, _linear(net, rng, memory, heads * value_depth), heads, (1, 3))
    logits = p.scaled(net, p.matmul(net, q, k), np.float32(depth**-0.5 * rng.uniform(0.5, 3)))
    if rng.random() < 0.3:
        logits = p.offset(net, logits, rng.normal(size=(1, heads, *logits.shape[2:])))
    out = p.matmul(net, p.softmax(net, logits), v)
    joined = p.permute(net, out, (0, 2, 1, 3))
    merged = p.reshape(net, joined, (*x.shape[:2], heads * value_depth))
    return _linear(net, rng, merged, x.shape[-1])


def _attention(net: Network, rng: Rng, source: Value, other: Value) -> Value:
    x = p.as_tokens(net, source)
    inner = _layer_norm(net, rng, x, x) if rng.random() < 0.6 else x
    memory = p.as_tokens(net, other) if rng.random() < 0.25 else inner
    out = _attend(net, rng, inner, memory)
    return p.add(net, x, out) if rng.random() < 0.7 else out


def _separable_attention(net: Network, rng: Rng, source: Value, _: Value) -> Value:
    """One logit a token; the context vector, broadcast, gates the values (MobileViTv2)."""
    x = p.as_tokens(net, source)
    width = x.shape[-1]
    scores = p.softmax(net, _linear(net, rng, x, 1), 1)
    context = p.total(net, p.multiply(net, scores, _linear(net, rng, x, width)), (1,))
    gated = p.activation(net, _linear(net, rng, x, width), "relu")
    return _linear(net, rng, p.multiply(net, gated, context), width)


def _windows(net: Network, rng: Rng, source: Value, _: Value) -> Value:
    """Attention among the pixels of equal place in every patch, and back (MobileViT)."""
    x = p.as_map(net, source)
    batch, channels, height, width = x.shape
    side = max(_divisors(height, width, 12))
    patches = p.reshape(net, x, (batch * channels * height // side, side, width // side, side))
    swapped = p.permute(net, patches, (0, 2, 1, 3))
    grid = p.reshape(net, swapped, (batch, channels, height * width // side**2, side * side))
    tokens = p.reshape(
        net, p.permute(net, grid, (0, 3, 2, 1)),
        (batch * side * side, height * width // side**2, channels),
    )  # fmt: skip
    done = p.add(net, tokens, _attend(net, rng, tokens, tokens))
    apart = p.reshape(net, done, (batch, side * side, height * width // side**2, channels))
    back = p.reshape(net, p.permute(net, apart, (0, 3, 2, 1)), swapped.shape)
    return p.reshape(net, p.permute(net, back, (0, 2, 1, 3)), x.shape)


BLOCKS: dict[str, Block] = {
    "conv": _conv,
    "depthwise": _depthwise,
    "grouped": _grouped,
    "activation": _activation,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "pool": _pool,
    "squeeze": _squeeze,
    "residual": _residual,
    "concat": _concat,
    "multiply": _multiply,
    "upsample": _upsample,
    "pad": _pad,
    "shuffle": _shuffle,
    "linear": _dense,
    "perceptron": _perceptron,
    "layer_norm": _layer_norm,
    "attention": _attention,
    "class_token": _class_token,
    "separable_attention": _separable_attention,
    "windows": _windows,
    "softmax": _softmax,
    "slice": _slice,
    "mean": _mean,
}
