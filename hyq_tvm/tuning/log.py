"""The file that a tuner appends to: what is in it survives the death of the tuner."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from hyq_tvm.errors import TuningError
from schedules.recorded import ENDING, Record, is_record, read

NAME = "measurements" + ENDING


class Log:
    """The measurements of a folder, to read and to append to; one tuner at a time."""

    def __init__(self, folder: Path) -> None:
        """Raises ``TuningError`` if the folder cannot be written, or another tuner does."""
        self.folder = folder
        self.path = folder / NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise TuningError(f"{self.path} cannot be written: {error}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise TuningError(
                f"another tuner writes to {self.path}: choose another folder and merge it later"
            ) from error
        self._mend()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def records(self) -> list[Record]:
        """Everything in the folder; raises ``TuningError`` naming file and line."""
        return read(self.folder)

    def append(self, record: Record) -> None:
        """Write a line and wait until it is on the disk; raises ``TuningError`` if it is full."""
        data = record.line().encode()
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError as error:
            raise TuningError(
                f"{self.path} cannot be written: {error}; tuning goes on from here when it can"
            ) from error

    def _mend(self) -> None:
        """Drop the half line that a killed tuner left, or end it if it is whole."""
        data = self.path.read_bytes()
        start = data.rfind(b"\n") + 1
        if start == len(data):
            return
        if is_record(data[start:].decode("utf-8", errors="replace")):
            os.write(self._file, b"\n")
        else:
            os.ftruncate(self._file, start)
