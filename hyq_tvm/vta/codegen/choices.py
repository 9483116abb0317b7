"""What may be chosen about an operator's tiles: the search space of the tuner.

Every choice computes the same integers. The rules' own choice, the default, takes the largest tiles
that the buffers hold; smaller ones let units overlap earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from hyq_tvm.vta.codegen.source import Operation


@dataclass(frozen=True)
class TileChoice:
    """rows, chunk: by how much the rows and the output channels of a tile are fewer than fit.

    rank: which tiling of a sliding window, by the bytes that it moves; 0 moves the fewest.
    """

    rows: int = 1
    chunk: int = 1
    rank: int = 0

    def fewer_rows(self, rows: int) -> int:
        """Of ``rows`` that would fit."""
        return -(-rows // self.rows)

    def fewer_channels(self, blocks: int) -> int:
        """Of ``blocks`` of output channels that would fit."""
        return -(-blocks // self.chunk)


OWN = TileChoice()
Choose = Callable[[Operation], TileChoice]
"""The choice for an operator."""


def own(_: Operation) -> TileChoice:
    """The rules' own choice for every operator."""
    return OWN


_RANKS = 12
_PRODUCTS = tuple(TileChoice(rows, chunk) for rows, chunk in product((1, 2, 3, 4, 6), (1, 2, 3)))
_ROWS = tuple(TileChoice(rows) for rows in (1, 2, 3, 4, 6, 8))
_WINDOWS = tuple(TileChoice(rank=rank) for rank in range(_RANKS))
_SPACES: dict[str, Sequence[TileChoice]] = {
    "dense": _PRODUCTS,
    "matmul": _PRODUCTS,
    "attention": _ROWS,
    "layer_norm": _ROWS,
    "identity": _ROWS,
    "add": _ROWS,
    "multiply": _ROWS,
    "view": _ROWS,
    "concat": _ROWS,
}


def space(operation: Operation) -> Sequence[TileChoice]:
    """All choices for an operator, the rules' own first."""
    if operation.op != "conv2d":
        return _SPACES.get(operation.op, (OWN,))
    kernel = operation.arguments[1].shape[1:3]
    return _PRODUCTS if tuple(kernel) == (1, 1) else _WINDOWS
