"""Small grey images in a terminal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

RAMP = " .:-=+*#%@"
"""Characters from dark to light, for terminals without colours."""

SIDE = 16
"""Characters of a picture's width; a character shows two pixels, one above the other."""


def shrink(image: NDArray[np.uint8], side: int = SIDE) -> NDArray[np.uint8]:
    """Image [H,W] averaged down to [side,side]; H and W are multiples of ``side``."""
    height, width = image.shape
    blocks = image.reshape(side, height // side, side, width // side)
    means: NDArray[np.uint8] = blocks.mean(axis=(1, 3)).round().astype(np.uint8)
    return means


def picture(image: NDArray[np.uint8], colors: bool) -> Text:
    """Eight lines of sixteen characters: half blocks in grey, or a ramp of characters."""
    pixels = shrink(image)
    pairs = zip(pixels[::2], pixels[1::2], strict=True)
    line = _blocks if colors else _ramp
    return Text("\n").join(line(upper, lower) for upper, lower in pairs)


def _blocks(upper: NDArray[np.uint8], lower: NDArray[np.uint8]) -> Text:
    text = Text()
    for a, b in zip(upper.tolist(), lower.tolist(), strict=True):
        text.append("▀", style=f"rgb({a},{a},{a}) on rgb({b},{b},{b})")
    return text


def _ramp(upper: NDArray[np.uint8], lower: NDArray[np.uint8]) -> Text:
    means = (upper.astype(np.int64) + lower) // 2
    return Text("".join(RAMP[mean * len(RAMP) // 256] for mean in means.tolist()))
