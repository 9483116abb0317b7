"""Imported image layouts and paddings, as channels-last operators want them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay_passes.reading.reader import CannotReadError, Reader


def layout_of(data: Any, out: Any) -> str:
    """The layout of input and output alike; raises ``CannotReadError`` where they differ."""
    if str(out) not in ("", str(data)):
        raise CannotReadError(f"layout {data} in and {out} out")
    return str(data)


def to_last(reader: Reader, value: Any, layout: str, label: str) -> Any:
    """An imported image tensor with its channels last."""
    if layout not in ("NCHW", "NHWC"):
        raise CannotReadError(f"layout {layout}")
    return reader.permute(value, (0, 2, 3, 1), label) if layout == "NCHW" else value


def from_last(reader: Reader, value: Any, layout: str, label: str) -> Any:
    """A channels-last tensor in the imported layout."""
    return reader.permute(value, (0, 3, 1, 2), label) if layout == "NCHW" else value


def last_shape(shape: Sequence[int], layout: str) -> tuple[int, ...]:
    """The channels-last form of an imported rank-4 shape."""
    n, a, b, c = shape
    return (n, b, c, a) if layout == "NCHW" else (n, a, b, c)


def sides(padding: Any) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of one, two or four numbers."""
    pads = [int(p) for p in padding]
    top, left, bottom, right = {1: pads * 4, 2: pads * 2, 4: pads}[len(pads)]
    return top, left, bottom, right
