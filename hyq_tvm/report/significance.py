"""What a difference between two classifiers on the same images is worth; NumPy only."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Exact two-sided p of McNemar's test: how surprising the discordant images are by chance.

    ``first`` and ``second`` say per image whether each classifier was right, [N] bool.
    """
    lost = int(np.sum(first & ~second))
    won = int(np.sum(~first & second))
    discordant = lost + won
    tail = sum(math.comb(discordant, k) for k in range(min(lost, won) + 1))
    return min(1.0, 2 * tail / 2**discordant) if discordant else 1.0


def wilson(right: int, total: int) -> tuple[float, float]:
    """95 % interval of a share ``right / total`` (Wilson's, good near 0 and 1)."""
    share, square = right / total, Z95**2
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = Z95 * math.sqrt(share * (1 - share) / total + square / (4 * total**2))
    half /= 1 + square / total
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_difference(
    first: NDArray[np.bool_], second: NDArray[np.bool_]
) -> tuple[float, float, float]:
    """Change of accuracy from first to second and its 95 % interval, in shares of 1, paired."""
    total = len(first)
    change = second.astype(np.int64) - first.astype(np.int64)
    mean = float(change.mean())
    half = Z95 * float(change.std()) / math.sqrt(total)
    return mean, mean - half, mean + half


def sqnr_db(signal: NDArray[np.floating], noisy: NDArray[np.floating]) -> float:
    """Signal to noise of ``noisy`` against ``signal`` in decibels; infinite when they are equal."""
    exact = signal.astype(np.float64)
    noise = float(np.sum((exact - noisy.astype(np.float64)) ** 2))
    return 10 * math.log10(float(np.sum(exact**2)) / noise) if noise else math.inf
