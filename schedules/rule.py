"""What a rule sees of an operator, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Spec:
    """One argument of an operator: ``constant`` is its value where that is part of the module."""

    shape: tuple[int, ...]
    dtype: str
    constant: Array | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Workload:
    """One call of an operator of docs/architecture.md, "The integer module".

    function: its unscheduled PrimFunc. output: the result's spec.
    """

    op: str
    params: Mapping[str, Any]
    arguments: tuple[Spec, ...]
    output: Spec
    function: Any

    def constant(self, index: int) -> Array:
        """The value of an argument; raises ``ValueError`` where it is no constant."""
        value = self.arguments[index].constant
        if value is None:
            raise ValueError(f"argument {index} of {self.op} is no constant")
        return value


@dataclass(frozen=True, eq=False)
class Constant:
    """A constant argument that a kernel wants, re-laid out from those of the operator."""

    value: Array


@dataclass(frozen=True, eq=False)
class Kernel:
    """A scheduled PrimFunc and its arguments, its output buffer excluded.

    name: readable, without layer names, so that equal kernels are shared. arguments: an argument
    of the operator by number, or a new constant.
    """

    name: str
    function: Any
    arguments: tuple[int | Constant, ...]


def passed_specs(workload: Workload, arguments: Sequence[int | Constant]) -> list[Spec]:
    """What a kernel with these arguments takes."""
    return [
        Spec(a.value.shape, str(a.value.dtype))
        if isinstance(a, Constant)
        else workload.arguments[a]
        for a in arguments
    ]


Rule = Callable[[Workload, Any], Kernel | None]
"""``rule(workload, target)``: the kernel, or None where the operator is not the rule's."""


@dataclass(frozen=True)
class Tunable:
    """A rule with something to choose.

    name: what records call it. schedule: the rule, with a choice as a third argument. space: all
    choices for a workload, the rule's own first; empty where the operator is not the rule's. A
    choice is a frozen dataclass of integers; every one makes the same results.
    """

    name: str
    schedule: Callable[..., Kernel | None]
    space: Callable[[Workload, Any], Sequence[Any]]
