"""Rendered lines of text that the package carries: JPEGs in one array, and what they say.

48 lines without labels calibrate, 100 are read. A quarter each is clean, a little, more and very
noisy, blurred and turned. Rendered for this package from random words, numbers, dates and letters.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hyq_tvm.demo import text_lines
from hyq_tvm.errors import ArtifactError

FILE = Path(__file__).with_name("text_lines.npz")
SPLITS = ("calib", "test")


@dataclass(frozen=True, eq=False)
class TextLines:
    """Pictures uint8 BGR [n,48,320,3], their used columns [n], and their texts."""

    pictures: NDArray[np.uint8]
    widths: NDArray[np.int64]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def inputs(self) -> NDArray[np.float32]:
        """As the recogniser reads them, float32 [n,3,48,320]."""
        return text_lines.normalised(self.pictures, self.widths)


def load_lines(split: str) -> TextLines:
    """One of ``SPLITS``; raises ``ArtifactError`` when the file is missing or damaged."""
    try:
        with np.load(FILE) as arrays:
            content, ends = bytes(arrays[f"{split}_jpegs"]), arrays[f"{split}_ends"]
            texts = tuple(str(text) for text in arrays[f"{split}_texts"])
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactError(
            f"{FILE}: cannot be read ({error}); install the package again"
        ) from error
    starts = [0, *ends[:-1]]
    pictures = np.zeros((len(texts), text_lines.HEIGHT, text_lines.WIDTH, 3), np.uint8)
    widths = np.zeros(len(texts), np.int64)
    for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
        with Image.open(io.BytesIO(content[start:end])) as opened:
            picture = np.asarray(opened.convert("RGB"))[:, :, ::-1]
        widths[row] = picture.shape[1]
        pictures[row, :, : picture.shape[1]] = picture
    return TextLines(pictures, widths, texts)
