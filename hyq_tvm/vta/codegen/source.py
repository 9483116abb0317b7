"""What the code generator needs of an integer program: the shape of its records.

``hyq_tvm.quantization.integer_program`` has classes of this shape; other sources may have theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]


class Argument(Protocol):
    """A tensor by name, or a constant, seen with ``shape``."""

    @property
    def value(self) -> str | Array:
        """A tensor's name, or an array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """How the operator sees it."""

    @property
    def dtype(self) -> str:
        """Its NumPy type."""


class Operation(Protocol):
    """``name = op(*arguments, **params)``: an operator of docs/numerics.md."""

    @property
    def name(self) -> str:
        """The tensor that it makes."""

    @property
    def op(self) -> str:
        """A key of ``hyq_tvm.numerics.OPERATORS``."""

    @property
    def arguments(self) -> Sequence[Argument]:
        """Tensors and constants."""

    @property
    def params(self) -> Mapping[str, Any]:
        """Parameters."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result."""

    @property
    def dtype(self) -> str:
        """Of the result."""

    @property
    def layer(self) -> str:
        """What messages call it."""
