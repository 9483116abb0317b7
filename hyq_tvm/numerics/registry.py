"""The table of golden operators; every module under ``reference`` adds its own to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

Operator = Callable[..., NDArray[Any]]

OPERATORS: dict[str, Operator] = {}
"""Name -> ``function(*arrays, **params) -> ndarray``: the definition of each integer operator."""


def operator(name: str) -> Callable[[Operator], Operator]:
    """Decorator that enters a function under ``name``; raises ``ValueError`` if that is taken."""

    def register(function: Operator) -> Operator:
        if name in OPERATORS:
            raise ValueError(f"operator {name!r} is defined twice")
        OPERATORS[name] = function
        return function

    return register
