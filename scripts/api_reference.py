"""Writes docs/api.md from docstrings: ``python -m scripts.api_reference``."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import hyq_tvm

FILE = Path(__file__).parents[1] / "docs" / "api.md"
SKIPPED = frozenset({"__version__"})


def page() -> str:
    """The whole page; the same text in every run."""
    parts = [
        "# API reference",
        "",
        "Made from the docstrings by `python -m scripts.api_reference`.",
        "",
    ]
    for name in sorted(set(hyq_tvm.__all__) - SKIPPED, key=str.lower):
        parts += section(f"hyq_tvm.{name}", getattr(hyq_tvm, name))
    return "\n".join(parts).rstrip() + "\n"


def section(title: str, value: Any) -> list[str]:
    """Heading, signature and docstring of one name, public methods of a class below."""
    lines = [f"## `{title}`", "", *_described(title.rpartition(".")[2], value)]
    if inspect.isclass(value) and not issubclass(value, BaseException):
        for name, member in vars(value).items():
            if name.startswith("_") or not (callable(member) or isinstance(member, property)):
                continue
            member = getattr(member, "__func__", member)
            lines += [f"### `{title.rpartition('.')[2]}.{name}`", "", *_described(name, member)]
    return lines


def _described(name: str, value: Any) -> list[str]:
    text = inspect.getdoc(value) or ""
    if not inspect.isroutine(value):
        return ["```text", text, "```", ""]
    return ["```python", f"{name}{inspect.signature(value)}", "```", "", "```text", text, "```", ""]


def main() -> int:
    """Write the page."""
    FILE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
