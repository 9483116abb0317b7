"""Tiles of products on tensor cores: what they take, which is a rule's own, and which there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

LANES = 32
SHARED = 48 * 1024
"""Bytes of shared memory that a block has without asking for more."""

_MARGIN = 16
_MOST_FRAGMENTS = 32
"""Fragments of sums of a warp, four registers a lane each."""

_WARPS = ((1, 2), (2, 1), (2, 2), (1, 4), (4, 1), (2, 4), (4, 2))
_DOWN, _ACROSS, _STAGES, _SLICES = (1, 2, 4), (2, 4, 8), (2, 3, 4), (64, 128)


@dataclass(frozen=True)
class Tile:
    """Warps of a block, each with ``down`` times 16 rows and ``across`` times 8 columns.

    stages: slices under way or in use. slice: bytes of the reduction in one, a multiple of 64.
    """

    warps_down: int
    warps_across: int
    down: int
    across: int
    stages: int = 3
    slice: int = 64

    @property
    def rows(self) -> int:
        """Rows of a block's tile."""
        return 16 * self.down * self.warps_down

    @property
    def columns(self) -> int:
        """Columns of a block's tile."""
        return 8 * self.across * self.warps_across

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return LANES * self.warps_down * self.warps_across

    @property
    def pitch(self) -> int:
        """Distance of rows in shared memory: eight of them lie in different banks."""
        return self.slice + _MARGIN

    @property
    def shared(self) -> int:
        """Bytes of shared memory."""
        return self.stages * (self.rows + self.columns) * self.pitch


TILES = (
    Tile(2, 2, 4, 4),
    Tile(2, 2, 2, 4),
    Tile(2, 2, 2, 2),
    Tile(2, 2, 1, 4),
    Tile(2, 2, 1, 2),
    Tile(1, 4, 1, 2),
)
"""Among which a rule chooses by itself."""


def own_tile(rows: int, columns: int, batch: int = 1, multiprocessors: int = 108) -> Tile:
    """The tile with the least work per multiprocessor, the larger one of equals."""

    def cost(tile: Tile) -> float:
        blocks = batch * -(-rows // tile.rows) * -(-columns // tile.columns)
        waves = -(-blocks // multiprocessors)
        # A tile's loads grow with its edges, its products with its area.
        each = tile.rows * tile.columns + 24 * (tile.rows + tile.columns) + 1500
        return waves * each

    return min(TILES, key=cost)


def tile_space(rows: int, depth: int, columns: int, chunk: int) -> Sequence[Tile]:
    """Tiles for ``rows x depth`` times ``depth x columns`` whose bytes come in ``chunk``s."""
    shapes = product(_WARPS, _DOWN, _ACROSS, _STAGES, _SLICES)
    tiles = [Tile(*warps, down, across, stages, size)
             for warps, down, across, stages, size in shapes]  # fmt: skip
    return [
        tile for tile in tiles if _is_possible(tile, chunk) and _is_used(tile, rows, depth, columns)
    ]


def _is_possible(tile: Tile, chunk: int) -> bool:
    """Whether it fits a block, and every thread stays in its column of a slice."""
    whole = tile.threads % (tile.slice // chunk) == 0
    return whole and tile.shared <= SHARED and tile.down * tile.across <= _MOST_FRAGMENTS


def _is_used(tile: Tile, rows: int, depth: int, columns: int) -> bool:
    """Whether more than half of it is needed, and none like it does the same."""
    slices = -(-depth // tile.slice)
    fits = tile.rows < 2 * max(rows, 16) and tile.columns < 2 * max(columns, 16)
    return fits and tile.stages <= max(slices, _STAGES[0]) and tile.slice < 2 * max(depth, 64)
