"""Images that lie in NumPy files: ``file.npy`` or ``file.npz:name``."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hyq_tvm.errors import InputError
from hyq_tvm.images import BATCH, Float, ImageFolder, Prepare


@dataclass(frozen=True, eq=False)
class ImageArray:
    """Pictures uint8 [n, height, width, 3] or [n, height, width], prepared batch by batch."""

    pictures: NDArray[np.uint8]
    prepare: Prepare
    batch: int = BATCH

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self.pictures)

    def __iter__(self) -> Iterator[Float]:
        """Float32 batches [m, 3, height, width], m <= ``batch``."""
        for start in range(0, len(self), self.batch):
            chunk = self.pictures[start : start + self.batch]
            yield np.stack([self.prepare(Image.fromarray(picture)) for picture in chunk])


@dataclass(frozen=True, eq=False)
class ReadyArray:
    """Model inputs float32 [n, ...], cut into batches as they are."""

    inputs: Float
    batch: int = BATCH

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self.inputs)

    def __iter__(self) -> Iterator[Float]:
        """Batches [m, ...], m <= ``batch``."""
        for start in range(0, len(self), self.batch):
            yield self.inputs[start : start + self.batch]


_ABSURD = (MemoryError, OverflowError, SyntaxError, RecursionError, zlib.error)
"""What NumPy's reader runs into where a header lies."""

ImageSource = ImageFolder | ImageArray | ReadyArray


def open_images(source: str, prepare: Prepare, limit: int | None = None) -> ImageSource:
    """Images of a folder, or of an array in a NumPy file.

    uint8 arrays [n, height, width, 3] are pictures and go through ``prepare``; float32 arrays are
    taken as they are. Raises ``InputError`` or ``CalibrationError`` naming what is wrong.
    """
    if Path(source).is_dir():
        return ImageFolder(Path(source), prepare, limit)
    array = read_array(source)[:limit]
    if array.ndim < 2 or len(array) == 0:
        raise InputError(f"{source} has shape {array.shape}: axis 0 counts images")
    if array.dtype == np.uint8 and array.ndim in (3, 4):
        return ImageArray(array, prepare)
    if array.dtype == np.float32:
        return ReadyArray(array)
    raise InputError(
        f"{source} is {array.dtype} {array.shape}: give uint8 [n, height, width, 3] or float32 "
        "in the model's input shape"
    )


def read_array(source: str) -> NDArray[Any]:
    """The array of ``file.npy``, ``file.npz`` with one array, or ``file.npz:name``.

    Raises ``InputError`` naming the file, or the arrays there are.
    """
    path, _, name = source.partition(".npz:")
    file = Path(f"{path}.npz" if name else source)
    try:
        if file.exists() and not file.is_file():
            raise ValueError("it is not a regular file")
        loaded = np.load(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{file} does not exist: give a folder of images, .npy or .npz") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, *_ABSURD) as error:
        raise InputError(f"{file} is neither a folder nor a readable NumPy file") from error
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        return _member(loaded, file, name)


def _member(archive: Any, file: os.PathLike[str], name: str) -> NDArray[Any]:
    names = list(archive.files)
    chosen = name or (names[0] if len(names) == 1 else "")
    if chosen not in names:
        raise InputError(f"{file} holds the arrays {names}: write {file}:NAME")
    try:
        return np.asarray(archive[chosen])
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, *_ABSURD) as error:
        raise InputError(f"{file}: array {chosen!r} cannot be read ({error})") from error
