"""Views that cost nothing: their readers read, or their producers write, where the view says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.vta.codegen.source import Argument, Operation
from hyq_tvm.vta.codegen.window import dense_strides, merged

ATTENTION_OPERANDS = 3


@dataclass(frozen=True)
class View:
    """L2: ``out[i...] = x.flat[offset + sum(i * stride)]``."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, operation: Operation) -> View:
        """Of a view operator."""
        params = operation.params
        shape, strides = (tuple(int(n) for n in params[key]) for key in ("shape", "strides"))
        return cls(shape, strides, int(params["offset"]))

    def positions(self) -> NDArray[np.int64]:
        """The element of x that each element of the result is."""
        found = np.full(self.shape, self.offset, np.int64)
        for axis, (count, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            steps = np.arange(count, dtype=np.int64) * stride
            found += steps.reshape(-1, *(1,) * (len(self.shape) - axis - 1))
        return found

    def is_permutation(self) -> bool:
        """Every element of x is taken once, in another order of axes."""
        axes = sorted(zip(self.strides, self.shape, strict=True), reverse=True)
        dense = dense_strides([n for _, n in axes])
        return not self.offset and all(
            n == 1 or s == d for (s, n), d in zip(axes, dense, strict=True)
        )


@dataclass(frozen=True)
class Rows:
    """Matrices ``[B, N, D]`` in a larger tensor: where each starts, and from row to row."""

    starts: tuple[int, ...]
    step: int

    def start(self, index: int, row: int) -> int:
        """The first element of a row."""
        return self.starts[index] + row * self.step


def dense_rows(shape: Sequence[int]) -> Rows:
    """Of a tensor ``[B, N, D]`` that lies by itself."""
    batch, rows, depth = shape
    return Rows(tuple(index * rows * depth for index in range(batch)), depth)


def _rows(positions: NDArray[np.int64], shape: Sequence[int]) -> Rows | None:
    """``positions`` of ``[B, N, D]`` as rows of neighbours; None if they are none."""
    found = positions.reshape(shape)
    steps = np.diff(found[:, :, 0], axis=1)
    if (np.diff(found, axis=2) != 1).any() or (steps.size and (steps != steps.flat[0]).any()):
        return None
    step = int(steps.flat[0]) if steps.size else int(shape[2])
    return Rows(tuple(int(s) for s in found[:, 0, 0]), step) if step > 0 else None


@dataclass(frozen=True)
class RowWalk:
    """Rows of ``[R, C]`` as axes ``sizes``, and the steps of each through two tensors.

    own: in rows of the matrix. target: in elements of the tensor that is written.
    """

    sizes: tuple[int, ...]
    own: tuple[int, ...]
    target: tuple[int, ...]


def dense_walk(rows: int, channels: int) -> RowWalk:
    """A matrix that is written as it is."""
    return RowWalk((rows,), (1,), (channels,))


def row_walk(view: View, channels: int) -> RowWalk | None:
    """How rows of ``channels`` elements spread when they are written through a view.

    The longest axes come last: a tile covers two of them.
    """
    if not view.is_permutation():
        return None
    order = sorted(range(len(view.shape)), key=lambda axis: -view.strides[axis])
    sizes = [view.shape[axis] for axis in order]
    outer = dense_strides(view.shape)
    steps = [[view.strides[axis] for axis in order], [outer[axis] for axis in order]]
    sizes, (own, target) = merged(sizes, steps)
    last = sizes[-1]
    if (own[-1], target[-1]) != (1, 1) or last % channels:
        return None
    axes = [*zip(sizes[:-1], own, target, strict=False), (last // channels, channels, channels)]
    axes = sorted((axis for axis in axes if axis[0] > 1), key=lambda axis: axis[0]) or axes[-1:]
    return RowWalk(
        tuple(size for size, _, _ in axes),
        tuple(step // channels for _, step, _ in axes),
        tuple(step for _, _, step in axes),
    )


@dataclass(frozen=True, eq=False)
class Folded:
    """An operation that reads or writes through views.

    shape: of the tensor ``name``, which it writes. made: of its result before the view.
    """

    name: str
    op: str
    arguments: Sequence[Argument]
    params: Mapping[str, Any]
    shape: tuple[int, ...]
    dtype: str
    layer: str
    made: tuple[int, ...]
    reads: Mapping[int, Rows] = field(default_factory=dict)
    writes: View | None = None

    @classmethod
    def of(cls, operation: Operation) -> Folded:
        """The same operation, ready for views."""
        if isinstance(operation, cls):
            return operation
        return cls(
            operation.name,
            operation.op,
            operation.arguments,
            operation.params,
            operation.shape,
            operation.dtype,
            operation.layer,
            operation.shape,
        )


@dataclass(frozen=True)
class _Seen:
    """An argument with another tensor behind it."""

    value: str
    shape: tuple[int, ...]
    dtype: str


def made_shape(operation: Operation) -> tuple[int, ...]:
    """The shape of an operation's result before a view that it writes through."""
    return operation.made if isinstance(operation, Folded) else operation.shape


def rows_read(operation: Operation, index: int) -> Rows:
    """Where the rows of an operand ``[B, N, D]`` lie."""
    if isinstance(operation, Folded) and index in operation.reads:
        return operation.reads[index]
    return dense_rows(operation.arguments[index].shape)


def rows_written(operation: Operation) -> Rows:
    """Where the rows of a result ``[B, N, D]`` go."""
    found = _rows_written(operation)
    return dense_rows(made_shape(operation)) if found is None else found


def _rows_written(operation: Operation) -> Rows | None:
    if not isinstance(operation, Folded) or operation.writes is None:
        return None
    places = np.empty(prod(operation.made), np.int64)
    places[operation.writes.positions().reshape(-1)] = np.arange(places.size)
    return _rows(places, operation.made)


def walk_written(operation: Operation, channels: int) -> RowWalk:
    """How the rows of a result ``[..., channels]`` are written."""
    if isinstance(operation, Folded) and operation.writes is not None:
        found = row_walk(operation.writes, channels)
        if found is not None:
            return found
    return dense_walk(prod(operation.shape) // channels, channels)


def fold_views(operations: Sequence[Operation], outputs: Sequence[str]) -> list[Operation]:
    """The same program with fewer views."""
    return _Folding(operations, outputs).run()


class _Folding:
    def __init__(self, operations: Sequence[Operation], outputs: Sequence[str]) -> None:
        self._operations: dict[str, Operation] = {o.name: o for o in operations}
        self._outputs = set(outputs)
        self._readers: dict[str, list[str]] = {}
        for operation in operations:
            for argument in operation.arguments:
                if isinstance(argument.value, str):
                    self._readers.setdefault(argument.value, []).append(operation.name)

    def run(self) -> list[Operation]:
        for view in [o for o in self._operations.values() if o.op == "view"]:
            if not self._read_through(view):
                self._write_through(view)
        return list(self._operations.values())

    def _read_through(self, view: Operation) -> bool:
        """Attention takes its operands where they are."""
        source, readers = view.arguments[0].value, self._readers.get(view.name, [])
        if view.name in self._outputs or not readers or not isinstance(source, str):
            return False
        found = [self._rows_for(view, self._operations[name]) for name in readers]
        if any(rows is None for rows in found):
            return False
        for name, rows in zip(readers, found, strict=True):
            self._operations[name] = _reading(self._operations[name], view.name, source, rows or {})
            self._readers[source].append(name)
        self._readers[source].remove(view.name)
        del self._operations[view.name]
        return True

    def _rows_for(self, view: Operation, reader: Operation) -> dict[int, Rows] | None:
        if reader.op != "attention":
            return None
        found: dict[int, Rows] = {}
        for index, argument in enumerate(reader.arguments):
            if _reads(argument, view.name):
                rows = _rows(View.of(view).positions(), argument.shape)
                if index >= ATTENTION_OPERANDS or rows is None:
                    return None
                found[index] = rows
        return found

    def _write_through(self, view: Operation) -> None:
        """A producer that nobody else reads puts its rows where the view wants them."""
        source = view.arguments[0].value
        if not isinstance(source, str) or source in self._outputs:
            return
        producer = self._operations.get(source)
        if producer is None or self._readers[source] != [view.name]:
            return
        base = Folded.of(producer)
        folded = replace(base, name=view.name, shape=view.shape, writes=View.of(view))
        if base.writes is None and _can_write(folded):
            self._operations = {
                (view.name if name == source else name): (folded if name == source else o)
                for name, o in self._operations.items()
                if name != view.name
            }
            for names in self._readers.values():
                names[:] = [view.name if name == source else name for name in names]


def _reads(argument: Argument, name: str) -> bool:
    return isinstance(argument.value, str) and argument.value == name


def _reading(reader: Operation, old: str, source: str, rows: Mapping[int, Rows]) -> Folded:
    base = Folded.of(reader)
    arguments = [_Seen(source, a.shape, a.dtype) if _reads(a, old) else a for a in base.arguments]
    return replace(base, arguments=arguments, reads={**base.reads, **rows})


def _can_write(folded: Folded) -> bool:
    view = folded.writes
    if view is None or not view.is_permutation():
        return False
    if folded.op == "attention":
        return _rows_written(folded) is not None
    stages = folded.params.get("epilogue", ())
    if any(stage["kind"] == "add" for stage in stages) or not _has_rows(folded):
        return False
    return row_walk(view, folded.made[-1]) is not None


def _has_rows(folded: Folded) -> bool:
    """Operators whose rules write rows of channels wherever they are told to."""
    if folded.op in ("layer_norm", "dense"):
        return True
    kernel, params = folded.arguments[1].shape if folded.op == "conv2d" else (), folded.params
    return (
        tuple(kernel[1:3]) == (1, 1)
        and tuple(params["strides"]) == (1, 1)
        and not any(params["padding"])
        and params["groups"] == 1
    )
