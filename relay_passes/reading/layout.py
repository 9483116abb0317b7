"""Readers of operators that only move data: each becomes one view, or a concat or pad."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from hyq_tvm.quantization.view import View
from relay_passes.reading.reader import Call, CannotReadError, Handler, Reader

MOST_RUNS = 8
"""A gather by constant indices is read as a concat of at most this many slices."""


def same_order(reader: Reader, call: Call) -> Any:
    """Reshape, flatten, squeeze, expand_dims: the elements in the same order."""
    return reader.reshape(call.args[0], call.shape, call.label)


def _permute_dims(reader: Reader, call: Call) -> Any:
    rank = len(call.shape)
    axes = call.attrs.axes
    order = range(rank)[::-1] if axes is None else [int(a) % rank for a in axes]
    return reader.permute(call.args[0], tuple(order), call.label)


def _broadcast_to(reader: Reader, call: Call) -> Any:
    view = View.identity(reader.shape(call.args[0])).broadcast_to(call.shape)
    return reader.view(call.args[0], view, call.label)


def take_range(
    reader: Reader, value: Any, axis: int, begin: int, end: int, label: str, step: int = 1
) -> Any:
    """``value[begin:end:step]`` along one axis."""
    shape = reader.shape(value)
    begins, ends, steps = [0] * len(shape), list(shape), [1] * len(shape)
    begins[axis], ends[axis], steps[axis] = begin, end, step
    return reader.view(value, View.identity(shape).slice(begins, ends, steps), label)


def _strided_slice(reader: Reader, call: Call) -> Any:
    value, axes, begins, ends, *rest = call.args
    steps = rest[0] if rest else (1,) * len(axes)
    for axis, begin, end, step in zip(axes, begins, ends, steps, strict=True):
        if step < 1:
            raise CannotReadError(f"a slice with step {step}")
        length = reader.shape(value)[axis]
        first, last, _ = slice(begin, end, step).indices(length)
        if first >= last:
            raise CannotReadError("an empty slice")
        value = take_range(reader, value, axis % len(call.shape), first, last, call.label, step)
    return value


def _split(reader: Reader, call: Call) -> Any:
    value = call.args[0]
    shape = reader.shape(value)
    axis = int(call.attrs.axis) % len(shape)
    given = call.attrs.indices_or_sections
    if isinstance(given, int) or hasattr(given, "value"):
        size = -(-shape[axis] // int(given))
        bounds = list(range(size, shape[axis], size))
    else:
        bounds = [int(i) for i in given]
    edges = [0, *bounds, shape[axis]]
    return tuple(
        take_range(reader, value, axis, begin, end, f"{call.label}.{i}")
        for i, (begin, end) in enumerate(pairwise(edges))
    )


def _take(reader: Reader, call: Call) -> Any:
    value, indices = call.args
    if not isinstance(indices, np.ndarray):
        raise CannotReadError("indices that are not constant")
    axis = call.attrs.axis
    if isinstance(value, np.ndarray):
        return np.asarray(np.take(value, indices, None if axis is None else int(axis), mode="wrap"))
    shape = reader.shape(value)
    axis = int(axis or 0) % len(shape)
    flat = np.asarray(indices, np.int64).reshape(-1) % shape[axis]
    runs = _runs(flat)
    if len(runs) > MOST_RUNS:
        raise CannotReadError(f"a gather of {flat.size} scattered positions")
    parts = [take_range(reader, value, axis, *run, call.label) for run in runs]
    return reader.reshape(concat(reader, parts, axis, call.label), call.shape, call.label)


def _runs(indices: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    """Half-open ranges of consecutive indices, in order."""
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    return [(int(run[0]), int(run[-1]) + 1) for run in np.split(indices, breaks)]


def concat(reader: Reader, parts: Sequence[Any], axis: int, label: str) -> Any:
    """Values side by side along an axis."""
    if len(parts) == 1:
        return parts[0]
    shapes = [reader.shape(part) for part in parts]
    shape = list(shapes[0])
    shape[axis] = sum(s[axis] for s in shapes)
    return reader.emit("concat", parts, shape, label, {"axis": axis})


def _concat(reader: Reader, call: Call) -> Any:
    return concat(reader, call.args[0], int(call.attrs.axis or 0) % len(call.shape), call.label)


def _stack(reader: Reader, call: Call) -> Any:
    axis = int(call.attrs.axis or 0) % len(call.shape)
    shape = (*call.shape[:axis], 1, *call.shape[axis + 1 :])
    parts = [reader.reshape(part, shape, call.label) for part in call.args[0]]
    return concat(reader, parts, axis, call.label)


def _repeat(reader: Reader, call: Call) -> Any:
    value, times = call.args[0], int(call.attrs.repeats)
    shape = reader.shape(value)
    if call.attrs.axis is None:
        shape = (prod(shape),)
    axis = int(call.attrs.axis or 0) % len(shape)
    wide = (*shape[: axis + 1], times, *shape[axis + 1 :])
    view = View.identity(shape).reshape((*shape[: axis + 1], 1, *shape[axis + 1 :]))
    repeated = view.broadcast_to(wide)
    return reader.view(value, repeated and repeated.reshape(call.shape), call.label)


def _tile(reader: Reader, call: Call) -> Any:
    shape = reader.shape(call.args[0])
    times = [int(r) for r in call.attrs.repeats]
    rank = max(len(times), len(shape))
    times, shape = [1] * (rank - len(times)) + times, (1,) * (rank - len(shape)) + shape
    pairs = [n for length in shape for n in (1, length)]
    wide = [n for pair in zip(times, shape, strict=True) for n in pair]
    tiled = View.identity(shape).reshape(pairs).broadcast_to(wide)
    return reader.view(call.args[0], tiled and tiled.reshape(call.shape), call.label)


def _resize2d(reader: Reader, call: Call) -> Any:
    """Enlarging to the nearest neighbour by whole factors: every pixel is repeated."""
    attrs, shape = call.attrs, reader.shape(call.args[0])
    if str(attrs.method) != "nearest_neighbor" or str(attrs.layout) not in ("NCHW", "NHWC"):
        raise CannotReadError(f"resizing by {attrs.method} in {attrs.layout}")
    if str(attrs.coordinate_transformation_mode) == "align_corners":
        raise CannotReadError("resizing with aligned corners")
    if any(after % before for before, after in zip(shape, call.shape, strict=True)):
        raise CannotReadError(f"resizing {shape} to {call.shape}, which is no whole factor")
    pairs = [n for length in shape for n in (length, 1)]
    wide = [n for a, b in zip(shape, call.shape, strict=True) for n in (a, b // a)]
    repeated = View.identity(shape).reshape(pairs).broadcast_to(wide)
    return reader.view(call.args[0], repeated and repeated.reshape(call.shape), call.label)


def _pad(reader: Reader, call: Call) -> Any:
    widths = [int(w) for w in call.attrs.pad_width]
    pads = tuple(zip(widths[::2], widths[1::2], strict=True))
    if not any(widths):
        return call.args[0]
    if call.attrs.pad_mode != "constant" or min(widths) < 0:
        raise CannotReadError(f"padding {call.attrs.pad_mode} by {widths}")
    attrs = {"pads": pads, "value": float(call.attrs.pad_value)}
    return reader.emit("pad", call.args, call.shape, call.label, attrs)


def _same(reader: Reader, call: Call) -> Any:
    return call.args[0]


def _dropout(reader: Reader, call: Call) -> Any:
    return (call.args[0], np.ones((), np.float32))


HANDLERS: dict[str, Handler] = {
    "relax.reshape": same_order,
    "relax.flatten": same_order,
    "relax.nn.batch_flatten": same_order,
    "relax.squeeze": same_order,
    "relax.expand_dims": same_order,
    "relax.permute_dims": _permute_dims,
    "relax.broadcast_to": _broadcast_to,
    "relax.strided_slice": _strided_slice,
    "relax.split": _split,
    "relax.take": _take,
    "relax.concat": _concat,
    "relax.stack": _stack,
    "relax.repeat": _repeat,
    "relax.tile": _tile,
    "relax.image.resize2d": _resize2d,
    "relax.nn.pad": _pad,
    "relax.nn.dropout": _dropout,
    "relax.builtin.stop_lift_params": _same,
}
