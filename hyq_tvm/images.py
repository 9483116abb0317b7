"""Pictures from folders and arrays, prepared for a model, a few at a time."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hyq_tvm.errors import CalibrationError, ConfigError, InputError

Float = NDArray[np.float32]
Prepare = Callable[[Image.Image], Float]

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
BATCH = 16
LABELS = "labels.csv"

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocessing:
    """From a picture to the float32 [3, height, width] that a model reads.

    The short side is scaled to ``resize`` (0: the picture is squeezed to ``size`` exactly), the
    centre of ``size`` (height, width) is cut out, values / 255 are normalised per channel with
    ``mean`` and ``std``. Raises ``ConfigError`` on values that make no picture.
    """

    size: tuple[int, int]
    resize: int = 0
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise ConfigError(f"size={self.size!r}: give height and width in pixels")
        if self.resize and self.resize < max(self.size):
            raise ConfigError(f"resize={self.resize}: give 0 or at least {max(self.size)}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError("mean and std have three numbers each, and std is positive")
        if self.interpolation not in _FILTERS:
            raise ConfigError(
                f"interpolation={self.interpolation!r}: choose one of {sorted(_FILTERS)}"
            )

    def __call__(self, picture: Image.Image) -> Float:
        """The array of one picture."""
        height, width = self.size
        filtered = _FILTERS[self.interpolation]
        rgb = picture.convert("RGB")
        if self.resize:
            scale = self.resize / min(rgb.size)
            rgb = rgb.resize((round(rgb.width * scale), round(rgb.height * scale)), filtered)
            left, top = (rgb.width - width) // 2, (rgb.height - height) // 2
            rgb = rgb.crop((left, top, left + width, top + height))
        elif rgb.size != (width, height):
            rgb = rgb.resize((width, height), filtered)
        values = np.asarray(rgb, np.float32) / np.float32(255)
        normalised = (values - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(normalised.transpose(2, 0, 1))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for an artefact's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Preprocessing:
        """The inverse of ``to_dict``; raises ``ConfigError`` on unknown or missing fields."""
        unknown = set(data) - {f.name for f in fields(cls)}
        if unknown or "size" not in data:
            raise ConfigError(f"not a preprocessing: {dict(data)!r}")
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        return cls(**values)


@dataclass(frozen=True)
class ImageFolder:
    """Pictures of a folder and its subfolders in the order of their names; may be read again.

    Iterating gives float32 batches [n, 3, height, width], n <= ``batch``. Raises
    ``CalibrationError`` naming the folder without pictures or the file that is none.
    """

    folder: Path
    prepare: Prepare
    limit: int | None = None
    batch: int = BATCH

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise CalibrationError(f"{self.folder} is not a folder of images")
        if not self.files():
            raise CalibrationError(f"{self.folder} holds no images ({', '.join(sorted(SUFFIXES))})")

    def files(self) -> list[Path]:
        """The picture files that will be read."""
        found = sorted(p for p in self.folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        return found[: self.limit]

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self.files())

    def __iter__(self) -> Iterator[Float]:
        """Batches, read when they are needed."""
        files = self.files()
        for start in range(0, len(files), self.batch):
            chunk = files[start : start + self.batch]
            yield np.stack([read_image(file, self.prepare) for file in chunk])


def read_image(file: str | os.PathLike[str], prepare: Prepare) -> Float:
    """One prepared picture; raises ``CalibrationError`` naming a file that cannot be read."""
    try:
        with Image.open(file) as picture:
            return prepare(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CalibrationError(f"{file} is not a readable image: {error}") from error


def read_labels(folder: Path, files: list[Path]) -> NDArray[np.int64]:
    """The class of every file of ``files`` in ``folder``.

    From ``labels.csv`` (columns: file, class number), else from the subfolder that a file lies in:
    sorted names are numbered from 0. Raises ``InputError`` where neither is there.
    """
    table = folder / LABELS
    if table.is_file():
        return _labels_of_table(table, files)
    parents = [file.relative_to(folder).parts[0] for file in files]
    if any(file.parent == folder for file in files):
        raise InputError(f"{folder} has neither {LABELS} nor one subfolder a class")
    numbers = {name: number for number, name in enumerate(sorted(set(parents)))}
    return np.array([numbers[name] for name in parents], np.int64)


def _labels_of_table(table: Path, files: list[Path]) -> NDArray[np.int64]:
    known: dict[str, int] = {}
    with table.open(newline="", encoding="utf-8") as lines:
        for row in csv.reader(lines):
            if len(row) >= 2 and row[1].strip().isdecimal():
                known[row[0].strip()] = int(row[1])
    missing = [file.name for file in files if file.name not in known]
    if missing:
        raise InputError(f"{table} lacks {len(missing)} of the images, such as {missing[0]!r}")
    return np.array([known[file.name] for file in files], np.int64)
