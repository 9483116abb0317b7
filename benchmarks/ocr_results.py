"""What ``benchmarks.ocr`` measures, and the table of its results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """One runtime on all lines. Shares in 0..1, intervals hold 95 %, times per line."""

    name: str
    widths: tuple[int, ...]
    lines: int
    exact: float
    exact_interval: tuple[float, float]
    characters: float
    change: float
    change_interval: tuple[float, float]
    mcnemar_p: float
    same_text: float
    milliseconds: float
    integer_only: bool | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def markdown(results: list[Result]) -> str:
    """A table of all results; without times, which runs at different hours cannot compare."""
    lines = [
        "# PP-OCRv4 text recogniser, float against integers",
        "",
        "| runtime | lines | exact % (95 %) | characters % | change, points (95 %) | McNemar p "
        "| same text as float % |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in results:
        low, high = r.exact_interval
        least, most = r.change_interval
        lines.append(
            f"| {r.name} | {r.lines} | {100 * r.exact:.1f} ({100 * low:.1f} .. {100 * high:.1f}) "
            f"| {100 * r.characters:.2f} | {100 * r.change:+.1f} ({100 * least:+.1f} .. "
            f"{100 * most:+.1f}) | {r.mcnemar_p:.3g} | {100 * r.same_text:.1f} |"
        )
    return "\n".join(lines) + "\n"


def load_results(file: Path) -> dict[str, Result]:
    """Name -> result of a file that was written before."""
    if not file.exists():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    return {entry["name"]: Result(**entry) for entry in found}


def write(folder: Path, results: Mapping[str, Result]) -> None:
    """``ocr.json`` and ``ocr.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(r) for r in results.values()], indent=1) + "\n"
    (folder / "ocr.json").write_text(text, encoding="utf-8")
    (folder / "ocr.md").write_text(markdown(list(results.values())), encoding="utf-8")
