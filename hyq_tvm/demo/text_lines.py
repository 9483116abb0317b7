"""Lines of text as a recogniser reads and writes them: pictures in, CTC scores out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import ConfigError, UnsupportedModelError

HEIGHT, WIDTH = 48, 320
INPUT = "x"
DISTRIBUTION = "rapidocr-onnxruntime"
"""A package that ships PP-OCRv4's recogniser (Apache-2.0); only its file is read."""

_MODEL = Path("rapidocr_onnxruntime", "models", "ch_PP-OCRv4_rec_infer.onnx")


def recogniser_file() -> Path:
    """The ONNX file of PP-OCRv4's text recogniser in this environment.

    Raises ``UnsupportedModelError`` saying how to install it.
    """
    remedy = f"install it with: pip install --no-deps {DISTRIBUTION}==1.4.4 (and onnx)"
    if find_spec("onnx") is None:
        raise UnsupportedModelError(f"reading the recogniser needs the package onnx; {remedy}")
    try:
        found = Path(str(metadata.distribution(DISTRIBUTION).locate_file(_MODEL)))
    except metadata.PackageNotFoundError as error:
        raise UnsupportedModelError(f"{DISTRIBUTION} is not installed; {remedy}") from error
    if not found.is_file():
        raise UnsupportedModelError(f"{DISTRIBUTION} lacks {_MODEL.name}; {remedy}")
    return found


def normalised(
    pictures: NDArray[np.uint8], widths: Sequence[int] | NDArray[Any], width: int = WIDTH
) -> NDArray[np.float32]:
    """Pictures uint8 BGR [n,48,w,3] as the model's input, float32 [n,3,48,width] in [-1, 1].

    Columns from ``widths`` on are zero, as the recogniser was trained. Raises ``ConfigError`` where
    a line is wider than ``width``.
    """
    if len(widths) and max(widths) > width:
        raise ConfigError(f"a line of {max(widths)} columns does not fit into {width}")
    found = np.zeros((len(pictures), width, HEIGHT, 3), np.float32)
    for row, (picture, columns) in enumerate(zip(pictures, widths, strict=True)):
        line = picture[:, :columns].astype(np.float32) / np.float32(255)
        found[row, :columns] = ((line - np.float32(0.5)) / np.float32(0.5)).transpose(1, 0, 2)
    return np.ascontiguousarray(found.transpose(0, 3, 2, 1))


@dataclass(frozen=True)
class Alphabet:
    """The classes of a CTC recogniser: ``characters[0]`` is the blank."""

    characters: tuple[str, ...]

    @classmethod
    def of_model(cls, file: Path) -> Alphabet:
        """As the ONNX file's metadata say; raises ``UnsupportedModelError`` where it has none."""
        import onnx

        found = {p.key: p.value for p in onnx.load(str(file)).metadata_props}
        if "character" not in found:
            raise UnsupportedModelError(f"{file} does not say which characters its classes are")
        return cls(("", *found["character"].splitlines(), " "))

    def text(self, scores: NDArray[np.floating]) -> str:
        """The best text of scores [steps, classes]: greedy, repetitions and blanks removed."""
        best = scores.argmax(axis=-1)
        kept = [b for b, before in zip(best, [0, *best[:-1]], strict=True) if b and b != before]
        return "".join(self.characters[b] for b in kept)

    def texts(self, scores: NDArray[np.floating]) -> list[str]:
        """Of scores [n, steps, classes]."""
        return [self.text(row) for row in scores]


def without_spaces(text: str) -> str:
    """How texts are compared: the recogniser was not trained to place spaces."""
    return text.replace(" ", "")


def edit_distance(a: str, b: str) -> int:
    """Fewest insertions, deletions and replacements of characters from ``a`` to ``b``."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


def character_accuracy(found: Sequence[str], true: Sequence[str]) -> float:
    """One minus edits over characters, of all lines together; spaces do not count."""
    pairs = [(without_spaces(f), without_spaces(t)) for f, t in zip(found, true, strict=True)]
    return 1 - sum(edit_distance(f, t) for f, t in pairs) / max(1, sum(len(t) for _, t in pairs))


def exact_matches(found: Sequence[str], true: Sequence[str]) -> NDArray[np.bool_]:
    """Per line, whether the text is right but for spaces."""
    return np.array(
        [without_spaces(f) == without_spaces(t) for f, t in zip(found, true, strict=True)]
    )
