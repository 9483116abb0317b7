"""What others measured, for the page: Markdown files with tables, and pictures."""

from __future__ import annotations

import base64
from pathlib import Path

from hyq_tvm.errors import InputError
from hyq_tvm.report.data import Picture, Table

_TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg"}


def attach(files: list[Path]) -> tuple[list[Table], list[Picture]]:
    """Tables of ``.md`` files and pictures of ``.svg``, ``.png`` and ``.jpg`` files.

    Raises ``InputError`` naming a file that is neither, cannot be read, or holds no table.
    """
    tables: list[Table] = []
    pictures: list[Picture] = []
    for file in files:
        if file.suffix == ".md":
            tables += markdown_tables(_text(file), file)
        elif file.suffix in _TYPES:
            pictures.append(Picture(file.stem.replace("_", " "), _data_uri(file)))
        else:
            raise InputError(f"{file}: attach .md, {', '.join(_TYPES)}")
    return tables, pictures


def markdown_tables(text: str, file: Path) -> list[Table]:
    """Every table of a Markdown text under the heading before it; raises where there is none."""
    found: list[Table] = []
    title, rows = file.stem, []
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            title = line.lstrip("#").strip()
        if line.startswith("|"):
            rows.append([cell.strip().strip("*") for cell in line.strip().strip("|").split("|")])
            continue
        # Header, rule, and at least one row.
        if len(rows) > 2 and all(len(row) == len(rows[0]) for row in rows):
            found.append(Table(title, rows[0], rows[2:], note=f"from {file.name}"))
        rows = []
    if not found:
        raise InputError(f"{file} holds no table")
    return found


def _data_uri(file: Path) -> str:
    try:
        content = base64.b64encode(file.read_bytes()).decode("ascii")
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error}") from error
    return f"data:{_TYPES[file.suffix]};base64,{content}"


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}") from error
