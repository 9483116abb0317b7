"""Labelled images by number, so that an evaluation can go on anywhere; pictures are read ahead."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hyq_tvm.arrays import ImageArray, ImageSource, read_array
from hyq_tvm.errors import InputError
from hyq_tvm.images import Float, ImageFolder, read_image, read_labels

Labels = NDArray[np.int64]

READ_AHEAD = 2
"""Batches that are being read while one is computed."""


@dataclass(frozen=True, eq=False)
class Batches:
    """Batches [m, ...] of ``images`` from number ``start`` on, m <= ``size``.

    Pictures of a folder are decoded by ``workers`` threads while the models compute.
    """

    images: ImageSource
    size: int
    workers: int = 1
    files: list[Path] = field(init=False)

    def __post_init__(self) -> None:
        files = self.images.files() if isinstance(self.images, ImageFolder) else []
        object.__setattr__(self, "files", files)

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.files) or len(self.images)

    def starting_at(self, start: int) -> Iterator[tuple[int, Float]]:
        """(number of the first image, batch) in order."""
        with ThreadPoolExecutor(self.workers) as readers, ThreadPoolExecutor(READ_AHEAD) as ahead:
            numbers = list(range(start, len(self), self.size))
            coming = [
                (number, ahead.submit(self._read, number, readers))
                for number in numbers[:READ_AHEAD]
            ]
            for following in [*numbers[READ_AHEAD:], *[None] * len(coming)]:
                number, batch = coming.pop(0)
                if following is not None:
                    coming.append((following, ahead.submit(self._read, following, readers)))
                yield number, batch.result()

    def _read(self, start: int, readers: ThreadPoolExecutor) -> Float:
        stop, images = start + self.size, self.images
        if isinstance(images, ImageFolder):
            prepare = images.prepare
            chosen = self.files[start:stop]
            return np.stack(list(readers.map(lambda file: read_image(file, prepare), chosen)))
        if isinstance(images, ImageArray):
            pictures = images.pictures[start:stop]
            return np.stack([images.prepare(Image.fromarray(picture)) for picture in pictures])
        return images.inputs[start:stop]


def labels_of(images: ImageSource, labels: str | None, classes: Path | None) -> Labels:
    """The class number of every image.

    labels: an array (``file.npy``, ``file.npz:NAME``), or a text file with lines ``picture class``,
    separated by blanks or commas; None: labels.csv of the folder, or its subfolders.
    classes: names, one a line; the line's number, from 0, is the class of that name (a subfolder,
    or the second column of the text file). Raises ``InputError`` naming what is wrong.
    """
    names = None if classes is None else _class_numbers(classes)
    if labels is not None and Path(labels).suffix in (".txt", ".csv", ".tsv"):
        found = _of_table(images, Path(labels), names)
    elif labels is not None:
        found = read_array(labels)[: len(images)]
    elif not isinstance(images, ImageFolder):
        raise InputError("--labels is missing: name an array of class numbers, file.npz:NAME")
    elif names is not None:
        found = _of_subfolders(images, names)
    else:
        found = read_labels(images.folder, images.files())
    if found.ndim != 1 or found.dtype.kind not in "iu" or len(found) != len(images):
        raise InputError(
            f"{len(images)} images need as many integer labels, got {found.dtype} {found.shape}"
        )
    return found.astype(np.int64)


def _class_numbers(file: Path) -> dict[str, int]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--classes {file} cannot be read: {error}") from error
    # Lists of ImageNet's classes often carry a description after the name.
    names = [line.split(maxsplit=1)[0] for line in lines if line.strip()]
    if len(set(names)) != len(names):
        raise InputError(f"--classes {file} names a class twice")
    return {name: number for number, name in enumerate(names)}


def _of_subfolders(images: ImageFolder, names: dict[str, int]) -> Labels:
    parents = [file.relative_to(images.folder).parts[0] for file in images.files()]
    return np.array([_number(name, names, str(images.folder)) for name in parents], np.int64)


def _of_table(images: ImageSource, table: Path, names: dict[str, int] | None) -> Labels:
    if not isinstance(images, ImageFolder):
        raise InputError(f"--labels {table} names pictures: --data must be their folder")
    known: dict[str, int] = {}
    try:
        with table.open(newline="", encoding="utf-8") as lines:
            for row in csv.reader(line.replace("\t", ",").replace(" ", ",") for line in lines):
                cells = [cell for cell in row if cell]
                if len(cells) >= 2 and (names is not None or cells[1].isdecimal()):
                    known[cells[0]] = _number(cells[1], names, str(table))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--labels {table} cannot be read: {error}") from error
    keys = [
        next((k for k in (str(f.relative_to(images.folder)), f.name, f.stem) if k in known), None)
        for f in images.files()
    ]
    missing = [f for f, key in zip(images.files(), keys, strict=True) if key is None]
    if missing:
        raise InputError(f"{table} lacks {len(missing)} of the images, such as {missing[0].name!r}")
    return np.array([known[key] for key in keys if key is not None], np.int64)


def _number(name: str, names: dict[str, int] | None, where: str) -> int:
    if names is None:
        return int(name)
    if name not in names:
        raise InputError(f"{where} has the class {name!r}, which --classes does not list")
    return names[name]
