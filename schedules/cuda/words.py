"""Words of GPU code: what ``schedules.llvm.vector`` is for processors, thread by thread.

Device functions named here are those of ``device.cuh``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

Expr = Any
Buffer = Any


@contextmanager
def grid(blocks: Sequence[int], threads: int) -> Iterator[tuple[Expr, ...]]:
    """A launch: the numbers of the block on every axis, then of the thread."""
    with ExitStack() as stack:
        axes = zip("xyz", blocks, strict=False)
        numbers = [
            stack.enter_context(T.launch_thread(f"blockIdx.{axis}", count)) for axis, count in axes
        ]
        yield (*numbers, stack.enter_context(T.launch_thread("threadIdx.x", threads)))


def shared(count: int, dtype: str = "int8") -> Buffer:
    """Memory of a block of threads."""
    return _whole(T.alloc_buffer((count,), dtype, scope="shared"), count)


def local(count: int, dtype: str = "int32") -> Buffer:
    """Registers, as long as every index is known once loops are unrolled."""
    return _whole(T.alloc_buffer((count,), dtype, scope="local"), count)


def _whole(buffer: Buffer, count: int) -> Buffer:
    """TVM cuts memory to the elements that it sees used; addresses alone do not count as use."""
    call("hyq_whole", at(buffer, 0), at(buffer, count - 1))
    return buffer


def at(buffer: Buffer, index: Expr) -> Expr:
    """The address of an element."""
    return T.address_of(buffer[index])


def call(name: str, *arguments: Expr) -> None:
    """A device function for its effect."""
    T.evaluate(T.call_extern("void", name, *arguments))


def value(name: str, *arguments: Expr, dtype: str = "int32") -> Expr:
    """What a device function returns, computed here."""
    return T.Bind(T.call_extern(dtype, name, *arguments))


def bind(expression: Expr) -> Expr:
    """``expression`` computed here, once."""
    return T.Bind(expression)


def store(buffer: Buffer, index: Expr, expression: Expr) -> None:
    """One element."""
    T.buffer_store(buffer, expression, [index])


def barrier() -> None:
    """All threads of the block, and their shared memory, arrive here."""
    T.evaluate(T.tvm_storage_sync("shared"))


def loop(extent: int) -> Any:
    """A loop, as a context manager that gives its variable."""
    return T.serial(extent)


def unrolled(extent: int) -> Any:
    """The same without a jump: its variable is known in every turn."""
    return T.unroll(extent)


@contextmanager
def when(condition: Expr) -> Iterator[None]:
    """Code for the threads for which ``condition`` holds; ``True`` is all of them."""
    if condition is True:
        yield
        return
    with T.If(condition), T.Then():
        yield


def const(number: int, dtype: str = "int32") -> Expr:
    """A number."""
    return tirx.const(number, dtype)


def cast(expression: Expr, dtype: str) -> Expr:
    """The same number in another type."""
    return T.cast(expression, dtype)


def clip(expression: Expr, low: int, high: int, dtype: str = "int32") -> Expr:
    """``expression`` saturated to ``[low, high]``."""
    return tirx.max(tirx.min(expression, tirx.const(high, dtype)), tirx.const(low, dtype))


def every(*conditions: Expr) -> Expr:
    """Whether all of them hold; those that are ``True`` already are left out."""
    open_ones = [condition for condition in conditions if condition is not True]
    return tirx.all(*open_ones) if open_ones else True


def below(index: Expr, limit: int, most: int) -> Expr:
    """``index < limit`` where ``index`` may be up to ``most - 1``; ``True`` if that is no more."""
    return True if most <= limit else index < limit
