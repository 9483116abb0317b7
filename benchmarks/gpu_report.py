"""The record of a GPU suite as Markdown and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def report(record: Mapping[str, Any]) -> str:
    """The record as Markdown."""
    lines = ["# Measured on a GPU", ""]
    lines += [f"* {key}: {value}" for key, value in record["host"].items()]
    lines += ["", "![times](gpu.svg)", ""]
    lines += ["| what | exact | microseconds | peer | its microseconds | times faster |",
              "|---|---|---|---|---|---|"]  # fmt: skip
    for entry in [*record["operators"], *record["models"]]:
        name = f"{entry['name']}, batch {entry['batch']}" if "batch" in entry else entry["name"]
        if "seconds" not in entry:
            lines.append(f"| {name} | {entry.get('error') or entry['skipped']} | | | | |")
            continue
        own, exact = entry["seconds"], "yes" if entry["exact"] else "NO"
        start = f"| {name} | {exact} | {own * 1e6:.1f} |"
        lines += [_peer_line(start, p, t, own) for p, t in entry.get("peers", {}).items()] or [
            f"{start} | | |"
        ]
    return "\n".join([*lines, "", *_tuning(record["tuning"])]) + "\n"


def _tuning(tuning: Mapping[str, Any]) -> list[str]:
    """What tuning gained, workload by workload."""
    counts = f"{tuning['measured']} of {tuning['candidates']} candidates measured"
    lines = ["## Tuning", "", f"{counts}, {tuning['failed']} failed. {tuning['note']}"]
    if not tuning["workloads"]:
        return lines
    lines += ["", "![gains](tuning.svg)", "",
              "| rule | workload | own, us | best, us | times faster | choice |",
              "|---|---|---|---|---|---|"]  # fmt: skip
    for entry in tuning["workloads"]:
        chosen = ", ".join(f"{key} {value}" for key, value in entry["choice"].items())
        lines.append(
            f"| {entry['rule']} | `{entry['workload'].split(' ')[0]}` | {entry['own'] * 1e6:.2f} | "
            f"{entry['best'] * 1e6:.2f} | {entry['own'] / entry['best']:.2f} | {chosen} |"
        )
    return lines


def _peer_line(start: str, peer: str, seconds: float | str, own: float) -> str:
    if isinstance(seconds, str):
        return f"{start} {peer} | {seconds} | |"
    return f"{start} {peer} | {seconds * 1e6:.1f} | {seconds / own:.2f} |"


def plot(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """``gpu.svg``, bars of every time, and ``tuning.svg``, gains; nothing without matplotlib."""
    if find_spec("matplotlib") is None:
        return []
    bars = []
    for entry in [*record["operators"], *record["models"]]:
        name = f"{entry['name']} b{entry['batch']}" if "batch" in entry else entry["name"]
        times = {"hyq_tvm": entry.get("seconds"), **entry.get("peers", {})}
        bars += [(f"{name}: {k}", 1e6 * t) for k, t in times.items() if isinstance(t, float)]
    gains = [
        (f"{i}: {entry['rule']}", entry["own"] / entry["best"])
        for i, entry in enumerate(record["tuning"]["workloads"], 1)
    ]
    made = [_bars(bars, "microseconds", folder / "gpu.svg")]
    return [*made, _bars(gains, "times faster", folder / "tuning.svg")] if gains else made


def _bars(bars: Sequence[tuple[str, float]], unit: str, path: Path) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1 + 0.3 * len(bars)), layout="constrained")
    axes = figure.subplots()
    axes.barh([label for label, _ in bars], [value for _, value in bars])
    axes.set_xlabel(unit)
    axes.invert_yaxis()
    figure.savefig(path)
    return path
