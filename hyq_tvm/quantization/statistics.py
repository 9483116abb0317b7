"""What calibration remembers of a tensor: ranges, a histogram, a few rows; never the tensor.

Everything here has a fixed size whatever the number of images, and depends on the data alone and
not on how it is cut into batches: histogram ranges are powers of two, and rows are kept by random
keys that are drawn from the seed, the tensor's name and the number of the run.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import CalibrationError

Float = NDArray[np.float32]

BINS = 8192
"""Bins of a histogram over [-R, R), R a power of two: at least 2048 of them hold the data."""


class Histogram:
    """Counts of values over [-R, R); R doubles, exactly, when a value does not fit."""

    def __init__(self) -> None:
        self.radius = 0.0
        self.counts = np.zeros(BINS, np.int64)

    def add(self, values: Float) -> None:
        """Count finite float32 values of any shape."""
        peak = float(np.abs(values).max(initial=0.0))
        self._widen(peak)
        places = (values.ravel() + np.float32(self.radius)) * np.float32(BINS / (2 * self.radius))
        index = np.minimum(places.astype(np.int32), BINS - 1)
        self.counts += np.bincount(index, minlength=BINS)

    def merged(self, other: Histogram) -> Histogram:
        """The counts of both."""
        result = Histogram()
        for part in (self, other):
            result._widen(part.radius / 2)
        for part in (self, other):
            copy = Histogram()
            copy.radius, copy.counts = part.radius, part.counts
            copy._widen(result.radius / 2)
            result.counts = result.counts + copy.counts
        return result

    @property
    def centers(self) -> NDArray[np.float64]:
        """The middle of every bin."""
        return ((np.arange(BINS) + 0.5) / BINS * 2 - 1) * self.radius

    def occupied(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Centres and counts of the bins that are not empty."""
        kept = self.counts > 0
        return self.centers[kept], self.counts[kept]

    def percentile(self, percent: float) -> tuple[float, float]:
        """The range that leaves ``(100 - percent) / 2`` per cent out at either end."""
        total = np.cumsum(self.counts)
        tail = (100 - percent) / 200 * total[-1]
        width = 2 * self.radius / BINS
        low = int(np.searchsorted(total, tail, side="right"))
        high = int(np.searchsorted(total, total[-1] - tail, side="left"))
        return low * width - self.radius, (high + 1) * width - self.radius

    def _widen(self, peak: float) -> None:
        if self.radius == 0.0:
            self.radius = float(np.exp2(np.floor(np.log2(max(peak, 2.0**-60))) + 1))
        while peak >= self.radius:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(BINS, np.int64)
            self.counts[BINS // 4 : 3 * BINS // 4] = pairs
            self.radius *= 2


class RowSample:
    """At most ``limit`` rows, drawn uniformly without replacement from all rows that pass by.

    Every row gets a random key; the rows with the lowest keys are kept.
    """

    def __init__(self, limit: int, name: str, seed: int) -> None:
        self.limit, self.seed, self.name = limit, seed, zlib.crc32(name.encode())
        self.keys = np.zeros(0)
        self.rows: NDArray[Any] = np.zeros((0, 0), np.float32)
        self.seen = 0

    def offer(self, run: int, count: int, gather: Callable[[NDArray[np.int64]], Float]) -> None:
        """Let ``count`` rows of run number ``run`` compete.

        gather: indices (ascending) -> those rows, [len(indices), ...] float32; called for the
        few rows that are kept.
        """
        keys = np.random.default_rng([self.seed, self.name, run]).random(count)
        self.seen += count
        bar = self.keys.max() if len(self.keys) == self.limit else np.inf
        chosen = np.flatnonzero(keys < bar)
        if len(chosen) > self.limit:
            chosen = np.sort(chosen[np.argsort(keys[chosen], kind="stable")[: self.limit]])
        if not len(chosen):
            return
        rows = gather(chosen)
        if len(self.keys):
            rows = np.concatenate([self.rows, rows])
        keys = np.concatenate([self.keys, keys[chosen]])
        kept = np.sort(np.argsort(keys, kind="stable")[: self.limit])
        self.keys, self.rows = keys[kept], np.ascontiguousarray(rows[kept])


@dataclass
class TensorStatistics:
    """Ranges of one tensor: whole, per channel, and as a histogram."""

    channel_low: Float = field(default_factory=lambda: np.zeros(0, np.float32))
    channel_high: Float = field(default_factory=lambda: np.zeros(0, np.float32))
    histogram: Histogram = field(default_factory=Histogram)

    def add(self, name: str, values: Float) -> None:
        """Count a tensor whose last axis is the channel axis.

        Raises ``CalibrationError`` naming the tensor when it holds NaN or infinity.
        """
        rows = values.reshape(-1, values.shape[-1] if values.ndim else 1)
        low, high = rows.min(axis=0), rows.max(axis=0)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise CalibrationError(
                f"tensor {name!r} becomes NaN or infinite on the calibration data: "
                "check the model's weights and the images' normalisation"
            )
        if len(self.channel_low):
            low, high = np.minimum(low, self.channel_low), np.maximum(high, self.channel_high)
        self.channel_low, self.channel_high = low, high
        self.histogram.add(rows)

    @property
    def low(self) -> float:
        """Least value."""
        return float(self.channel_low.min())

    @property
    def high(self) -> float:
        """Greatest value."""
        return float(self.channel_high.max())


class WeightSquares:
    """Squared gradients of one layer's weight, with or without the mean of its input.

    With x' = x - mean the gradient of weight w[o, k] is g[o, k] - b[o] * mean[k], b the bias's: its
    square is known for any mean from three sums, so that the mean may be known last.
    """

    def __init__(self) -> None:
        self.weight: Any = 0.0
        self.product: Any = 0.0
        self.bias: Any = 0.0

    def add(self, weight: Float, bias: Float) -> None:
        """The gradients of one run: weight [O, ...], bias [O]."""
        across = bias.reshape(-1, *[1] * (weight.ndim - 1))
        self.weight = self.weight + np.square(weight)
        self.product = self.product + weight * across
        self.bias = self.bias + np.square(across)

    def finish(self, images: int) -> None:
        """Sums become means over images."""
        for name in ("weight", "product", "bias"):
            setattr(self, name, getattr(self, name) / np.float32(images))

    def centered(self, mean: Float) -> Float:
        """What is left when the input's mean (broadcasts against the weight) does no harm."""
        left = self.weight - 2 * mean * self.product + np.square(mean) * self.bias
        return np.asarray(np.maximum(left, 0.0), np.float32)
