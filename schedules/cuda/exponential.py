"""Weights of attention from differences: a line and shifts where those make the table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schedules.cuda import words
from schedules.cuda.words import Buffer, Expr
from schedules.rule import Array

_DEEPEST = 16
_TRIED = 65


@dataclass(frozen=True)
class Line:
    """``E[d] = (((start - slope * f) >> scale) + half of 2^q) >> q``, q and f the octave of d."""

    start: int
    slope: int
    scale: int
    fraction_bits: int

    def emit(self, d: Expr) -> Expr:
        """The weight of a difference, int32."""
        octave = words.bind(d >> words.const(self.fraction_bits))
        f = d & words.const((1 << self.fraction_bits) - 1)
        line = words.const(self.start) - f * words.const(self.slope)
        mantissa = line >> words.const(self.scale)
        half = (words.const(1) << octave) >> words.const(1)
        return words.bind((mantissa + half) >> octave)


def line_of(table: Array, fraction_bits: int) -> Line | None:
    """The line that makes every entry of ``table``; None where there is none in 31 bits."""
    steps = np.arange(1 << fraction_bits, dtype=np.int64)
    mantissas = table[: len(steps)].astype(np.int64)
    fall, count = int(mantissas[0]) - int(mantissas[-1]), max(1, len(steps) - 1)
    for scale in range(_DEEPEST):
        # Rounded ends leave a slope this much freedom.
        ends = ((fall - 1) << scale) // count, ((fall + 1) << scale) // count + 1
        for candidate in sorted({int(n) for n in np.linspace(*ends, _TRIED)}):
            low = int(((mantissas << scale) + candidate * steps).max())
            high = int((((mantissas + 1) << scale) - 1 + candidate * steps).min())
            found = Line(low, candidate, scale, fraction_bits)
            if low <= high < 2**31 and _makes(found, table):
                return found
    return None


def _makes(line: Line, table: Array) -> bool:
    d = np.arange(len(table), dtype=np.int64)
    octave, f = d >> line.fraction_bits, d & ((1 << line.fraction_bits) - 1)
    mantissa = (line.start - line.slope * f) >> line.scale
    return bool(np.array_equal((mantissa + ((1 << octave) >> 1)) >> octave, table.astype(np.int64)))


def looked_up(table: Buffer, d: Expr) -> Expr:
    """The weight from a table in shared memory, int32."""
    return words.bind(words.cast(table[d], "int32"))
