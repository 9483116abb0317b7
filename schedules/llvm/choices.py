"""What the lists of choices of several rules have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

Choice = TypeVar("Choice")

UNROLLED = (1, 2, 4)
"""Groups of a reduction in the body of its loop."""

_PIECES = (4, 8, 16, 32)


def cores(target: Any) -> int:
    """How many threads kernels for ``target`` are made for."""
    return int(target.attrs.get("num-cores", 1))


def thread_choices(target: Any, default: bool) -> tuple[int, ...]:
    """1 and 0 for a loop in parallel or not; the rule's own way alone where there is one core."""
    return (int(default),) if cores(target) == 1 else (1, 0)


def task_choices(target: Any, default: int, most: int) -> tuple[int, ...]:
    """Numbers of pieces for a loop of ``most`` iterations; 1 is a loop of one thread."""
    if cores(target) == 1:
        return (default,)
    return tuple(sorted({default, 1, *(n for n in _PIECES if n <= most)}))


def default_first(default: Choice, others: Iterable[Choice]) -> list[Choice]:
    """All of them once."""
    return [default, *(choice for choice in others if choice != default)]
