"""Float against integer predictions on the same images: what was lost, and whether that is real."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.report.significance import mcnemar, paired_difference, wilson

Classes = NDArray[np.int64]
FIVE = 5


@dataclass(frozen=True)
class Score:
    """One model on ``images`` images; shares in 0..1, the interval holds 95 % (Wilson).

    ``top5`` is None where fewer than six classes make it meaningless.
    """

    images: int
    right: int
    top1: float
    interval: tuple[float, float]
    top5: float | None


@dataclass(frozen=True)
class Comparison:
    """The paired comparison of two models on the same images.

    change: top-1 of the second minus the first, in shares, with its 95 % interval (paired normal).
    lost, won: images that only the first, only the second gets right. mcnemar_p: exact, two-sided.
    agreement: share of images with the same first class, right or wrong.
    """

    change: float
    interval: tuple[float, float]
    lost: int
    won: int
    agreement: float
    mcnemar_p: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def score(classes: Classes, truth: Classes) -> Score:
    """Judge best classes [n, k], best first, against the true ones [n]; n >= 1."""
    hits = classes == truth[:, None]
    right = int(hits[:, 0].sum())
    top5 = float(hits.any(axis=1).mean()) if classes.shape[1] >= FIVE else None
    return Score(len(truth), right, right / len(truth), wilson(right, len(truth)), top5)


def compare(first: Classes, second: Classes, truth: Classes) -> Comparison:
    """Best classes [n, k] of two models against the true ones [n]; n >= 1."""
    a, b = first[:, 0] == truth, second[:, 0] == truth
    change, low, high = paired_difference(a, b)
    return Comparison(
        change=change,
        interval=(low, high),
        lost=int((a & ~b).sum()),
        won=int((~a & b).sum()),
        agreement=float((first[:, 0] == second[:, 0]).mean()),
        mcnemar_p=mcnemar(a, b),
    )
