"""Readers of pooling, of sums and of means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from relay_passes.reading.arithmetic import binary, unary
from relay_passes.reading.geometry import from_last, last_shape, layout_of, sides, to_last
from relay_passes.reading.reader import Call, CannotReadError, Handler, Reader


def _pool(op: str) -> Handler:
    def read(reader: Reader, call: Call) -> Any:
        attrs = call.attrs
        if any(int(d) != 1 for d in attrs.dilation):
            raise CannotReadError("dilation")
        layout = layout_of(attrs.layout, attrs.out_layout)
        kernel, strides = (tuple(int(v) for v in a) for a in (attrs.pool_size, attrs.strides))
        x = to_last(reader, call.args[0], layout, call.label)
        shape = last_shape(call.shape, layout)
        padding = sides(attrs.padding)
        reach = _reaching(reader.shape(x), shape, kernel, strides, padding)
        node_attrs: dict[str, Any] = {"kernel": kernel, "strides": strides, "padding": reach}
        if op == "avg_pool2d":
            include = bool(attrs.count_include_pad)
            if include and any(padding) and reach != padding:
                raise CannotReadError("ceil mode that counts padding")
            node_attrs["count_include_pad"] = include and reach == padding
        out = reader.emit(op, [x], shape, call.label, node_attrs)
        return from_last(reader, out, layout, call.label)

    return read


def _reaching(
    shape: Sequence[int],
    out_shape: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: tuple[int, int, int, int],
) -> tuple[int, int, int, int]:
    """The padding, enlarged at the end to where the last windows reach (ceil mode)."""
    ends = []
    for i in (0, 1):
        needed = (out_shape[i + 1] - 1) * strides[i] + kernel[i] - shape[i + 1] - padding[i]
        ends.append(max(needed, padding[i + 2]))
    return padding[0], padding[1], ends[0], ends[1]


def _adaptive_avg_pool2d(reader: Reader, call: Call) -> Any:
    layout = layout_of(call.attrs.layout, call.attrs.out_layout)
    x = to_last(reader, call.args[0], layout, call.label)
    shape, source = last_shape(call.shape, layout), reader.shape(x)
    if any(s % o for s, o in zip(source[1:3], shape[1:3], strict=True)):
        raise CannotReadError(f"pooling {source[1:3]} to {shape[1:3]}: windows of unequal size")
    if shape[1:3] == (1, 1):
        attrs: dict[str, Any] = {"kind": "mean", "axes": (1, 2), "keepdims": True}
        out = reader.emit("reduce", [x], shape, call.label, attrs)
    else:
        kernel = (source[1] // shape[1], source[2] // shape[2])
        attrs = {"kernel": kernel, "strides": kernel, "padding": (0, 0, 0, 0)}
        attrs["count_include_pad"] = True
        out = reader.emit("avg_pool2d", [x], shape, call.label, attrs)
    return from_last(reader, out, layout, call.label)


def _axes(reader: Reader, call: Call) -> tuple[int, ...]:
    rank, given = len(reader.shape(call.args[0])), call.attrs.axis
    return tuple(range(rank)) if given is None else tuple(sorted(int(a) % rank for a in given))


def _reduce(kind: str) -> Handler:
    def read(reader: Reader, call: Call) -> Any:
        axes, keep = _axes(reader, call), bool(call.attrs.keepdims)
        attrs = {"kind": kind, "axes": axes, "keepdims": keep}
        return reader.emit("reduce", call.args, call.shape, call.label, attrs)

    return read


def _variance(reader: Reader, call: Call) -> Any:
    x, axes, label = call.args[0], _axes(reader, call), call.label
    shape = reader.shape(x)
    narrow = tuple(1 if i in axes else n for i, n in enumerate(shape))
    kept = {"kind": "mean", "axes": axes, "keepdims": True}
    mean = reader.emit("reduce", [x], narrow, f"{label}.mean", kept)
    minus = np.asarray(-1.0, np.float32)
    negated = binary(reader, "multiply", mean, minus, narrow, f"{label}.negated")
    centred = binary(reader, "add", x, negated, shape, f"{label}.centred")
    squared = unary(reader, "square", centred, f"{label}.square")
    attrs = {**kept, "keepdims": bool(call.attrs.keepdims)}
    return reader.emit("reduce", [squared], call.shape, label, attrs)


HANDLERS: dict[str, Handler] = {
    "relax.nn.avg_pool2d": _pool("avg_pool2d"),
    "relax.nn.max_pool2d": _pool("max_pool2d"),
    "relax.nn.adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "relax.mean": _reduce("mean"),
    "relax.sum": _reduce("sum"),
    "relax.variance": _variance,
}
