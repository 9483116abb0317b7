"""Ranges of a grid: min-max, percentile, least squared error, and the choice between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from hyq_tvm.quantization.config import QuantConfig
from hyq_tvm.quantization.statistics import TensorStatistics

PERCENTILES = (99.9, 99.99, 99.999)
"""What ``observer="auto"`` tries besides min-max and least squared error."""

FRACTIONS = tuple(float(f) for f in np.geomspace(1.0, 0.02, 40))
"""Parts of the full range that the search tries at either end."""

Error = Callable[[float, float], float]


@dataclass(frozen=True)
class Range:
    """Real bounds that a grid covers, and which observer they come from."""

    low: float
    high: float
    observer: str


def minmax(tensors: Iterable[TensorStatistics]) -> Range:
    """The least and greatest value seen, and 0."""
    seen = list(tensors)
    low, high = min(t.low for t in seen), max(t.high for t in seen)
    return Range(min(low, 0.0), max(high, 0.0), "minmax")


def percentile(tensors: Sequence[TensorStatistics], percent: float) -> Range:
    """The range that holds the middle ``percent`` per cent of all values, within min-max."""
    merged = tensors[0].histogram
    for other in tensors[1:]:
        merged = merged.merged(other.histogram)
    low, high = merged.percentile(percent)
    full = minmax(tensors)
    low, high = min(max(low, full.low), 0.0), max(min(high, full.high), 0.0)
    if low == high:
        return full
    return Range(low, high, f"percentile {percent:g}")


def search(full: Range, error: Error, observer: str) -> Range:
    """The part of ``full`` with the least ``error(low, high)``: each end in turn, then again."""
    low, high = full.low, full.high
    for _ in range(2):
        high = _best(full.high, partial(error, low))
        low = _best(full.low, partial(_swapped, error, high))
    return Range(low, high, observer)


def _swapped(error: Error, high: float, low: float) -> float:
    return error(low, high)


def _best(full: float, error: Callable[[float], float]) -> float:
    if full == 0.0:
        return full
    ends = [full * fraction for fraction in FRACTIONS]
    return min(ends, key=error)


def candidates(
    tensors: Sequence[TensorStatistics], config: QuantConfig, observer: str, error: Error
) -> list[Range]:
    """The ranges that an observer may choose from; ``error`` is what least error means."""
    full = minmax(tensors)
    if full.low == full.high:
        return [full]
    if observer == "minmax":
        return [full]
    if observer == "percentile":
        return [percentile(tensors, config.percentile)]
    if observer == "mse":
        return [search(full, error, "mse")]
    return [
        full,
        *(percentile(tensors, percent) for percent in PERCENTILES),
        search(full, error, "mse"),
    ]
