"""What the latency benchmarks write: one JSON file, a table and a plot of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.timing import Timing, environment


@dataclass(frozen=True)
class Row:
    """One measurement: ``group`` is what is compared with each other, ``name`` one of it.

    facts: whatever else is worth keeping, such as how close the result is to the float one.
    """

    group: str
    name: str
    timing: Timing
    facts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Unit:
    """What times are shown in: seconds times ``factor(row)`` are so many ``name``."""

    name: str
    factor: Callable[[Row], float]


MILLISECONDS = Unit("ms", lambda _: 1e3)


def groups(rows: Sequence[Row]) -> list[str]:
    """The groups in the order in which they come."""
    return list(dict.fromkeys(row.group for row in rows))


def markdown(title: str, rows: Sequence[Row], base: str, unit: Unit = MILLISECONDS) -> str:
    """A table in which every minimum is also a ratio to that of ``base`` in the same group."""
    extra = list(dict.fromkeys(key for row in rows for key in row.facts))
    lines = [
        f"# {title}",
        "",
        f"| case | what | min {unit.name} | median {unit.name} | to {base} |"
        + "".join(f" {key} |" for key in extra),
        "|---|---|---|---|---|" + "---|" * len(extra),
    ]
    minima = {row.group: row.timing.minimum for row in rows if row.name == base}
    for row in rows:
        factor, reference = unit.factor(row), minima.get(row.group)
        ratio = f"{row.timing.minimum / reference:.2f}" if reference else ""
        facts = "".join(f" {row.facts[k]:.4g} |" if k in row.facts else " |" for k in extra)
        lines.append(
            f"| {row.group} | {row.name} | {row.timing.minimum * factor:.4g} "
            f"| {row.timing.median * factor:.4g} | {ratio} |{facts}"
        )
    return "\n".join(lines) + "\n"


def write(
    folder: Path,
    name: str,
    title: str,
    rows: Sequence[Row],
    base: str,
    unit: Unit = MILLISECONDS,
) -> str:
    """Writes ``name`` .json, .md and .png into ``folder`` and returns the table."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {"environment": environment(), "rows": [asdict(row) for row in rows]}
    (folder / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    table = markdown(title, rows, base, unit)
    (folder / f"{name}.md").write_text(table, encoding="utf-8")
    draw(folder / f"{name}.png", title, rows, unit)
    return table


def load(path: Path) -> list[Row]:
    """The rows of a JSON file that ``write`` made."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return [Row(**{**row, "timing": Timing(**row["timing"])}) for row in data["rows"]]


def draw(path: Path, title: str, rows: Sequence[Row], unit: Unit) -> None:
    """Bars of the minima, one block a group; lines up to the medians."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    found = groups(rows)
    names = list(dict.fromkeys(row.name for row in rows))
    figure, axes = pyplot.subplots(
        len(found), 1, figsize=(8, 0.8 + len(found) * (0.6 + 0.22 * len(names))), squeeze=False
    )
    for axis, group in zip(axes[:, 0], found, strict=True):
        own = [row for row in rows if row.group == group]
        minima = [row.timing.minimum * unit.factor(row) for row in own]
        medians = [row.timing.median * unit.factor(row) for row in own]
        more = [max(0.0, b - a) for a, b in zip(minima, medians, strict=True)]
        colours = [f"C{names.index(row.name) % 10}" for row in own]
        axis.barh([row.name for row in own], minima, color=colours,
                  xerr=[[0.0] * len(own), more], ecolor="0.6")  # fmt: skip
        axis.invert_yaxis()
        axis.set_title(f"{group}, {unit.name}", fontsize=9, loc="left")
        axis.tick_params(labelsize=8)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
