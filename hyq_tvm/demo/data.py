"""The demonstration's images and weights, carried by the package; NumPy only.

The images are the handwritten digits of the UCI repository (E. Alpaydin, C. Kaynak, "Optical
Recognition of Handwritten Digits", doi:10.24432/C50P49, CC BY 4.0), enlarged from 8x8 to 32x32.
The ``hard`` split holds the test images turned, shifted, covered and drowned in noise by
``hyq_tvm.demo.train``, so that a quantization that loses precision shows.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import ArtifactError

SIZE = 32
CLASSES = tuple("0123456789")
SPLITS = ("calib", "test", "hard")
DATA_FILE = Path(__file__).with_name("digits_data.npz")
WEIGHTS_FILE = Path(__file__).with_name("digits_hybrid.npz")


@dataclass(frozen=True, eq=False)
class Split:
    """Grey images uint8 [N,32,32] and their classes uint8 [N]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)


def load_split(name: str) -> Split:
    """One of ``SPLITS``; raises ``ArtifactError`` when the file is missing or damaged."""
    arrays = _read(DATA_FILE)
    try:
        return Split(arrays[f"{name}_images"], arrays[f"{name}_labels"])
    except KeyError as error:
        raise ArtifactError(f"{DATA_FILE.name}: no split {name!r}; it has {SPLITS}") from error


def load_weights() -> dict[str, NDArray[np.float32]]:
    """Parameters and buffers by name, widened from float16 to float32."""
    return {name: value.astype(np.float32) for name, value in _read(WEIGHTS_FILE).items()}


def to_input(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images uint8 [N,32,32] as the model's input, float32 [N,1,32,32] in [0, 1]."""
    return (images[:, None].astype(np.float32) / np.float32(255)).astype(np.float32)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error}); make it again with python -m hyq_tvm.demo.train"
        ) from error
