"""The end of a row of attention: one division, then every channel's rescale and store (AT5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schedules.cuda import words
from schedules.cuda.words import Buffer, Expr

_BYTES = {"int8": 1, "int16": 2}


@dataclass(frozen=True)
class RowEnd:
    """``rows`` rows of ``values`` channels a sample; planes: bytes of a weight."""

    params: Mapping[str, Any]
    rows: int
    values: int
    planes: int

    def emit(
        self,
        out: Buffer,
        sample: Expr,
        row: Expr,
        lane: Expr,
        sums: Sequence[Buffer],
        totals: Buffer,
    ) -> None:
        """``sums[plane][fragment][4]`` and ``totals[2]`` of the rows ``row`` and ``row + 8``."""
        fragments = -(-self.values // 16) * 2
        width = 2 * fragments
        channel = words.bind(lane % 4 * width)
        for half in range(2):
            number = words.bind(row + 8 * half)
            with words.when(words.every(number < self.rows, channel < self.values)):
                place = words.bind((sample * self.rows + number) * self.values + channel)
                factor, shift = self._rescale(totals[half])
                done = [
                    self._stored([s[4 * fragment + 2 * half + side] for s in sums], factor, shift)
                    for fragment in range(fragments)
                    for side in range(2)
                ]
                self._store(out, place, channel, done)

    def _rescale(self, total: Expr) -> tuple[Expr, Expr]:
        """The row's multiplier, int64, and shift, int32."""
        multiplier = words.const(int(self.params["rescale_multiplier"]))
        factor = words.value("hyq_row_multiplier", total, multiplier, dtype="int64")
        bits = words.value("hyq_row_bits", total)
        return factor, words.bind(bits + int(self.params["rescale_shift"]))

    def _stored(self, planes: Sequence[Expr], factor: Expr, shift: Expr) -> Expr:
        wide = words.cast(planes[0], "int64")
        for plane in planes[1:]:
            wide = wide * words.const(256, "int64") + words.cast(plane, "int64")
        scaled = words.value("hyq_shift_wide", wide * factor, shift, dtype="int64")
        moved = scaled + words.const(int(self.params["zero_point"]), "int64")
        low, high = int(self.params["low"]), int(self.params["high"])
        return words.bind(words.cast(words.clip(moved, low, high, "int64"), "int32"))

    def _store(self, out: Buffer, place: Expr, channel: Expr, done: Sequence[Expr]) -> None:
        dtype = str(self.params["dtype"])
        size = _BYTES[dtype]
        if self.values % len(done) == 0 and len(done) * size in (4, 8, 16):
            each = 4 // size
            name = "hyq_pack" if size == 1 else "hyq_pack_pair"
            packed = [words.value(name, *done[i : i + each]) for i in range(0, len(done), each)]
            words.call(f"hyq_write_{len(done) * size}", words.at(out, place), *packed)
            return
        for i, value in enumerate(done):
            reach = -(-self.values // len(done)) * len(done)
            with words.when(words.below(channel + i, self.values, reach)):
                words.store(out, place + i, words.cast(value, dtype))
