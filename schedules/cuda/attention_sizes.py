"""Sizes of fused attention: what a choice of blocks makes of a workload, and which choices fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from schedules.cuda.tiles import SHARED
from schedules.llvm.choices import default_first
from schedules.rule import Workload

STEP = 32
"""Bytes of a product on tensor cores."""

ROWS = 16
"""Rows of a warp."""

PAD = 16
MOST = 128
_WARPS, _SPANS = (1, 2, 4, 8), (32, 64, 128)


@dataclass(frozen=True)
class Choice:
    """``warps`` of a block, 16 rows each; ``span`` keys in shared memory at once."""

    warps: int
    span: int


def own_choice(workload: Workload) -> Choice:
    """The rule's own choice."""
    (_, rows, _), (_, keys, _) = (s.shape for s in workload.arguments[:2])
    return Choice(min(4, -(-rows // ROWS)), 32 if keys <= 32 else 64)


def space(workload: Workload, target: Any) -> Sequence[Choice]:
    """Choices for ``workload``, the rule's own first; empty where it is not the rule's."""
    if not is_ours(workload):
        return ()
    (_, rows, _), (_, keys, _) = (s.shape for s in workload.arguments[:2])
    warps = [n for n in _WARPS if ROWS * n < 2 * max(rows, ROWS)]
    spans = [n for n in _SPANS if n < 2 * max(keys, _SPANS[0])]
    table = workload.arguments[5]
    rest = table.size * np.dtype(table.dtype).itemsize
    others = [Choice(*both) for both in product(warps, spans)]
    fitting = [c for c in others if Sizes.of(workload, c).shared + rest <= SHARED]
    return default_first(own_choice(workload), fitting)


def is_ours(workload: Workload) -> bool:
    """Whether the rule takes it: kinds with a table, up to ``MOST`` elements a head."""
    if workload.op != "attention" or workload.params["kind"] == "hyq":
        return False
    if any(workload.arguments[i].constant is None for i in (3, 4, 5)):
        return False
    return max(workload.arguments[0].shape[2], workload.arguments[2].shape[2]) <= MOST


@dataclass(frozen=True)
class Sizes:
    """Shapes and a choice, and what they become in fragments."""

    batch: int
    rows: int
    keys: int
    depth: int
    values: int
    warps: int
    span: int

    @classmethod
    def of(cls, workload: Workload, choice: Choice) -> Sizes:
        """Those of an ``attention``."""
        (batch, rows, depth), (_, keys, _), (_, _, values) = (
            s.shape for s in workload.arguments[:3]
        )
        return cls(batch, rows, keys, depth, values, choice.warps, choice.span)

    @property
    def shared(self) -> int:
        """Bytes of shared memory without a table."""
        turned = 8 * self.fragments * (self.span + PAD)
        return (ROWS * self.warps + self.span) * self.pitch + turned

    @property
    def steps(self) -> int:
        """Steps of 32 bytes of a score."""
        return -(-self.depth // STEP)

    @property
    def pitch(self) -> int:
        """Distance of rows of q and k in shared memory, where eight lie in different banks."""
        return self.steps * STEP + PAD

    @property
    def fragments(self) -> int:
        """Fragments of eight columns of the result, an even number."""
        return -(-self.values // 16) * 2

    @property
    def spans(self) -> int:
        """How often."""
        return -(-self.keys // self.span)
