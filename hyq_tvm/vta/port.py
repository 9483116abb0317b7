"""The DRAM port that loads and stores share: a beat a cycle, turns where both want it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Burst:
    """The beats of a transfer, from cycle ``begin`` to before ``end``, which sharing moves."""

    begin: int
    end: int


class Port:
    """Remembers the last burst of each unit: those before it have ended."""

    def __init__(self) -> None:
        self._last: dict[str, Burst] = {}

    def take(self, unit: str, begin: int, beats: int) -> Burst:
        """``beats`` from cycle ``begin`` on; it and what is under way slow each other down."""
        burst = Burst(begin, begin + beats)
        for other, under_way in self._last.items():
            if other != unit:
                _share(burst, under_way)
        self._last[unit] = burst
        return burst


def _share(a: Burst, b: Burst) -> None:
    """Turns until the shorter rest is through, then the other goes on alone."""
    start = max(a.begin, b.begin)
    rest_a, rest_b = a.end - start, b.end - start
    if rest_a <= 0 or rest_b <= 0:
        return
    a.end = start + min(2 * rest_a, rest_a + rest_b)
    b.end = start + min(2 * rest_b, rest_a + rest_b)
