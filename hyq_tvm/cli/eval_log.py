"""Predictions on the disk, batch by batch: a killed evaluation goes on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import InputError

Classes = NDArray[np.int64]


class PredictionLog:
    """The best classes [n, k] of every model, in order of the images.

    A file of JSON lines: first what was evaluated, then one line a batch. A last line that was cut
    off in the middle is dropped. ``path`` None keeps everything in memory.
    Raises ``InputError`` when the file is of another evaluation, or is no such file.
    """

    def __init__(
        self, path: Path | None, subject: Mapping[str, Any], models: Sequence[str]
    ) -> None:
        self.path, self.models = path, tuple(models)
        self.subject = {**subject, "models": list(models)}
        self._batches: list[dict[str, Any]] = []
        if path is not None:
            self._open(path)

    def __len__(self) -> int:
        """How many images are done."""
        return sum(len(batch[self.models[0]]) for batch in self._batches)

    def append(self, classes: Mapping[str, Classes]) -> None:
        """One batch: model -> its best classes [m, k]; on the disk before this returns."""
        line = {model: classes[model].tolist() for model in self.models}
        self._batches.append(line)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())

    def classes(self, model: str) -> Classes:
        """The best classes [n, k] of one model, best first."""
        return np.array([row for batch in self._batches for row in batch[model]], np.int64)

    def _open(self, path: Path) -> None:
        if not path.exists():
            self._rewrite(path)
            return
        try:
            whole = path.read_text(encoding="utf-8").splitlines(keepends=True)
            lines = [json.loads(line) for line in whole if line.endswith("\n")]
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is no log of predictions: {error}") from error
        if not lines or lines[0] != self.subject:
            raise InputError(
                f"{path} belongs to another evaluation (other model, images, labels or options): "
                "name another file, or delete it"
            )
        self._batches = lines[1:]
        if any(set(batch) != set(self.models) for batch in self._batches):
            raise InputError(f"{path} is damaged: delete it and start again")
        self._rewrite(path)

    def _rewrite(self, path: Path) -> None:
        part = path.with_name(f".{path.name}.part")
        lines = (json.dumps(line) + "\n" for line in (self.subject, *self._batches))
        part.write_text("".join(lines), encoding="utf-8")
        part.replace(path)
