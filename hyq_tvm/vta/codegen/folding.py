"""Views that cost nothing: their readers read, or their producers write, where the view says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from hyq_tvm.vta.codegen.layout import (
    Rows,
    RowWalk,
    View,
    dense_rows,
    dense_walk,
    row_walk,
    rows_at,
)
from hyq_tvm.vta.codegen.source import Argument, Operation

ATTENTION_OPERANDS = 3


@dataclass(frozen=True, eq=False)
class Folded:
    """An operation that reads or writes through views.

    shape: of the tensor ``name``, which it writes. made: of its result before the view. second: an
    identity whose result it makes as well.
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
    second: Operation | None = None

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


def second_result(operation: Operation) -> Operation | None:
    """The identity that an operation computes along with its own result."""
    return operation.second if isinstance(operation, Folded) else None


def results(operation: Operation) -> list[Operation]:
    """What an operation makes: itself, and its second result."""
    second = second_result(operation)
    return [operation] if second is None else [operation, second]


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
    return rows_at(places, operation.made)


def walk_written(operation: Operation, channels: int) -> RowWalk:
    """How the rows of a result ``[..., channels]`` are written."""
    if isinstance(operation, Folded) and operation.writes is not None:
        found = row_walk(operation.writes, channels)
        if found is not None:
            return found
    return dense_walk(prod(operation.shape) // channels, channels)


def fold_views(operations: Sequence[Operation], outputs: Sequence[str]) -> list[Operation]:
    """The same program with fewer views, and without copies onto a second grid."""
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
        for identity in [o for o in self._operations.values() if o.op == "identity"]:
            self._make_with_producer(identity)
        for view in [o for o in self._operations.values() if o.op == "view"]:
            if not self._read_through(view):
                self._write_through(view)
        return list(self._operations.values())

    def _make_with_producer(self, identity: Operation) -> None:
        """A tensor on a second grid is made where the first one is."""
        source = identity.arguments[0].value
        producer = self._operations.get(source) if isinstance(source, str) else None
        if producer is None or not _can_make(producer, identity):
            return
        folded = replace(Folded.of(producer), second=identity)
        self._operations[producer.name] = folded
        del self._operations[identity.name]
        self._readers[producer.name].remove(identity.name)

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
                rows = rows_at(View.of(view).positions(), argument.shape)
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
        if producer is None or self._readers[source] != [view.name] or second_result(producer):
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


def _can_make(producer: Operation, identity: Operation) -> bool:
    """Whether one tile can hold both results, channel for channel."""
    stages = identity.params["epilogue"]
    return (
        producer.op in ("dense", "conv2d")
        and second_result(producer) is None
        and bool(stages)
        and all(stage["kind"] != "add" for stage in stages)
        and (stages[0]["kind"] == "requantize" or not identity.params["zero_point"])
        and producer.shape[-1] == identity.shape[-1]
        and prod(producer.shape) == prod(identity.shape)
    )


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
