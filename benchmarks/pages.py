"""Tables of the documentation are written by the commands that measured them."""

from __future__ import annotations

from pathlib import Path

BEGIN, END = "<!-- {} -->", "<!-- end of {} -->"


def insert(page: Path, name: str, text: str) -> None:
    """Replace what stands between the comments ``name`` and ``end of name`` in a Markdown page.

    Headings of ``text`` are left out. Raises ``ValueError`` naming the page where a comment is
    missing.
    """
    begin, end = BEGIN.format(name), END.format(name)
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, behind = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} lacks the comments {begin} and {end}")
    table = "\n".join(line for line in text.splitlines() if not line.startswith("#")).strip()
    page.write_text(f"{before}{begin}\n{table}\n{end}{behind}", encoding="utf-8")
