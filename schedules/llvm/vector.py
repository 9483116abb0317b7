"""Words of vector code: TIR expressions and statements on flat buffers.

Kernels that LLVM cannot find by itself are written down with these, loop by loop and register by
register. ``lanes`` is always a number known while emitting; one lane is a scalar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

Expr = Any
Buffer = Any


def vector_type(dtype: str, lanes: int) -> str:
    """``int8x64`` and the like."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def constant(value: int, dtype: str, lanes: int = 1) -> Expr:
    """``value`` in every lane."""
    return tirx.const(value, vector_type(dtype, lanes))


def load(buffer: Buffer, offset: Expr, lanes: int) -> Expr:
    """``lanes`` consecutive elements."""
    return buffer[offset if lanes == 1 else T.ramp(offset, 1, lanes)]


def load_some(buffer: Buffer, offset: Expr, lanes: int, count: int, dtype: str) -> Expr:
    """The first ``count`` of ``lanes`` elements; the others are not touched and have any value."""
    if count >= lanes:
        return load(buffer, offset, lanes)
    if count == 1:
        return broadcast(load(buffer, offset, 1), lanes)
    index = T.ramp(offset, 1, lanes)
    return tirx.op.masked_load(vector_type(dtype, lanes), buffer, index, _mask(lanes, count))


def load_padded(buffer: Buffer, offset: Expr, lanes: int, count: int, dtype: str) -> Expr:
    """The first ``count`` of ``lanes`` elements, then zeros."""
    if count >= lanes:
        return load(buffer, offset, lanes)
    some = load_some(buffer, offset, lanes, count, dtype)
    order = [i if i < count else lanes for i in range(lanes)]
    return shuffle([some, constant(0, dtype, lanes)], order)


def store(buffer: Buffer, offset: Expr, value: Expr, lanes: int) -> None:
    """``lanes`` elements to consecutive places."""
    T.buffer_store(buffer, value, [offset if lanes == 1 else T.ramp(offset, 1, lanes)])


def store_some(buffer: Buffer, offset: Expr, value: Expr, lanes: int, count: int) -> None:
    """The first ``count`` of ``lanes`` elements; memory behind them stays."""
    if count >= lanes:
        store(buffer, offset, value, lanes)
        return
    if count == 1:
        # LLVM stores four bytes for one masked byte that it has narrowed from 32 bits.
        store(buffer, offset, shuffle([value], [0]), 1)
        return
    mask = _mask(lanes, count)
    T.evaluate(tirx.op.masked_store(buffer, value, T.ramp(offset, 1, lanes), mask))


def _mask(lanes: int, count: int) -> Expr:
    return T.ramp(0, 1, lanes) < constant(count, "int32", lanes)


def broadcast(value: Expr, lanes: int) -> Expr:
    """A scalar in every lane."""
    return T.broadcast(value, lanes)


def reinterpret(value: Expr, dtype: str, lanes: int) -> Expr:
    """The same bits as another vector."""
    return T.reinterpret(vector_type(dtype, lanes), value)


def cast(value: Expr, dtype: str, lanes: int) -> Expr:
    """The same numbers in another type."""
    return T.cast(value, vector_type(dtype, lanes))


def intrinsic(name: str, dtype: str, lanes: int, *arguments: Expr) -> Expr:
    """A call of LLVM's intrinsic ``name``, which has no side effects."""
    return tirx.call_llvm_pure_intrin(vector_type(dtype, lanes), name, *arguments)


def shuffle(vectors: Sequence[Expr], indices: Sequence[int]) -> Expr:
    """The lanes ``indices`` of ``vectors``, which count as one long vector."""
    return tirx.Shuffle(list(vectors), [tirx.const(i, "int32") for i in indices])


def concat(vectors: Sequence[Expr], lanes: int) -> Expr:
    """Vectors of ``lanes`` each, one behind the other."""
    if len(vectors) == 1:
        return vectors[0]
    return shuffle(vectors, range(lanes * len(vectors)))


def minimum(value: Expr, high: int, dtype: str, lanes: int) -> Expr:
    """``value``, at most ``high``."""
    return tirx.min(value, constant(high, dtype, lanes))


def maximum(value: Expr, low: int, dtype: str, lanes: int) -> Expr:
    """``value``, at least ``low``."""
    return tirx.max(value, constant(low, dtype, lanes))


def larger(a: Expr, b: Expr) -> Expr:
    """The larger one of each lane."""
    return tirx.max(a, b)


def clip(value: Expr, low: int, high: int, dtype: str, lanes: int) -> Expr:
    """``value`` saturated to ``[low, high]``."""
    return maximum(minimum(value, high, dtype, lanes), low, dtype, lanes)


def at_most(value: Expr, limit: int) -> Expr:
    """A position, at most ``limit``."""
    return tirx.min(value, tirx.const(limit, "int32"))


def select(condition: Expr, yes: Expr, no: Expr) -> Expr:
    """Lane by lane ``yes`` or ``no``, both computed."""
    return tirx.Select(condition, yes, no)


def gather(buffer: Buffer, indices: Expr) -> Expr:
    """The elements at ``indices``, a vector of int32."""
    return buffer[indices]


def bind(value: Expr) -> Expr:
    """``value`` computed here, once.

    Vectors go through memory that LLVM promotes: TVM's simplifier puts what is bound back into its
    uses unless it is read from memory, and those into theirs, so that code grows exponentially.
    """
    dtype = str(value.ty.dtype)
    kind, _, lanes = dtype.partition("x")
    if not lanes or kind == "bool":
        return T.Bind(value)
    cell = local(kind, int(lanes))
    store(cell, 0, value, int(lanes))
    return T.Bind(load(cell, 0, int(lanes)))


def local(dtype: str, count: int) -> Buffer:
    """A few registers: memory on the stack that LLVM promotes where all offsets are known.

    Less than a kilobyte in TVM's scope "global", for in any other it asks its allocator.
    """
    # "default" is none here as well, but looked for in all frames of the builder each time.
    return T.alloc_buffer((count,), dtype, layout=None)


def scratch(dtype: str, count: int) -> Buffer:
    """Memory of one thread until the enclosing loop's iteration ends."""
    return T.alloc_buffer((count,), dtype)


def loop(extent: int) -> Any:
    """A loop from 0 to ``extent``, as a context manager that gives its variable."""
    return T.serial(extent)


def tasks(extent: int, parallel: bool) -> Any:
    """A loop whose iterations are independent, in several threads where ``parallel`` says so."""
    return T.parallel(extent) if parallel else T.serial(extent)


def within(value: Expr, size: int) -> Expr:
    """Whether ``0 <= value < size``."""
    return tirx.all(value >= 0, value < size)


def branch(condition: Expr, yes: Callable[[], None], no: Callable[[], None]) -> None:
    """Code of which one part runs."""
    with T.If(condition):
        with T.Then():
            yes()
        with T.Else():
            no()
