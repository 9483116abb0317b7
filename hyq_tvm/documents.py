"""Files that strangers may have written: regular, of bounded size, and JSON that does no harm."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

MOST_BYTES = 256 << 20
"""No plan, metadata or file of records comes near; a file that is longer is something else."""


def check_regular(path: str | os.PathLike[str], most: int = MOST_BYTES) -> None:
    """Refuse what might never end: pipes, devices, and files of more than ``most`` bytes.

    Raises ``OSError`` where there is no such file and ``ValueError`` otherwise; the messages do
    not name the file.
    """
    if "\0" in os.fspath(path):
        raise ValueError("a path holds no null character")
    found = Path(path).stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is not a regular file")
    if found.st_size > most:
        raise ValueError(f"{found.st_size} bytes are more than such a file ever has")


def read_bytes(path: str | os.PathLike[str], most: int = MOST_BYTES) -> bytes:
    """The contents of a regular file; raises as ``check_regular``."""
    check_regular(path, most)
    return Path(path).read_bytes()


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a regular file; raises as ``check_regular``, and ``ValueError`` if it is none."""
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no text: {error}") from error


def parse(text: str) -> Any:
    """JSON as Python's own reader takes it; raises ``ValueError``, also on absurd nesting."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested deeper than any such file") from error
