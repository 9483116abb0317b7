"""Figures as inline SVG whose colours follow the page, light or dark.

Matplotlib writes each colour role below as a reserved hex value; the value then becomes a CSS
variable of the template. Text stays text, so a reader can search and a phone can scale it.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from statistics import median
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from hyq_tvm.report.data import ChannelRanges, LayerRow, SoftmaxCurve, number

SERIES = tuple(f"#10a10{i}" for i in range(1, 7))
TEXT, LINE, WARN = "#10a100", "#10a108", "#10a109"
_ROLES = {
    TEXT: "currentColor",
    LINE: "var(--line)",
    WARN: "var(--warn)",
    **{color: f"var(--series-{i})" for i, color in enumerate(SERIES, 1)},
}
STYLE = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
_WIDTH = 4.8
SOFTMAX_BOUND = 0.025
"""Largest |dp| promised for the linear kinds; drawn as a dashed line."""
_WORST = 3


def channel_ranges(ranges: ChannelRanges) -> str:
    """Bars of the largest magnitude per channel, before above, after below, on one scale."""
    with rc_context(STYLE):
        figure, axes = new_figure(3.0, rows=2)
        pairs = ((ranges.before, "before", SERIES[1]), (ranges.after, "after", SERIES[0]))
        for axis, (values, moment, color) in zip(axes, pairs, strict=True):
            axis.bar(range(len(values)), values, width=0.85, color=color)
            axis.set_title(f"{moment}: largest / median = {number(_peakiness(values))}")
            axis.set_ylabel("|x| max")
            axis.margins(x=0.01)
        axes[1].set_xlabel("channel")
        return as_svg(figure, f"channels of {ranges.name}")


def softmax_errors(curves: Sequence[SoftmaxCurve]) -> str:
    """Largest |dp| of each softmax kind over the scale of the logits, both logarithmic."""
    with rc_context(STYLE):
        figure, (axis,) = new_figure(3.0)
        for i, curve in enumerate(curves):
            axis.plot(
                curve.scales,
                [max(error, 1e-6) for error in curve.errors],
                color=SERIES[i % len(SERIES)],
                linestyle=("-", "--", ":")[i // len(SERIES) % 3],
                marker="o",
                markersize=2.5,
                linewidth=1.4,
                label=curve.kind,
            )
        axis.axhline(SOFTMAX_BOUND, color=WARN, linestyle="--", linewidth=1)
        axis.set(xscale="log", yscale="log", xlabel="scale of the logits", ylabel="largest |Δp|")
        axis.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2))
        return as_svg(figure, "softmax")


def sqnr_waterfall(layers: Sequence[LayerRow]) -> str:
    """SQNR of every layer in the order of execution, the worst named, infinite ones left out."""
    known = [
        (i, row, row.sqnr_db)
        for i, row in enumerate(layers, 1)
        if row.sqnr_db is not None and math.isfinite(row.sqnr_db)
    ]
    worst = {i for i, _, _ in sorted(known, key=lambda item: item[2])[:_WORST]}
    with rc_context(STYLE):
        figure, (axis,) = new_figure(3.0)
        axis.bar(
            [i for i, _, _ in known],
            [value for _, _, value in known],
            width=0.8,
            color=[WARN if i in worst else SERIES[0] for i, _, _ in known],
        )
        axis.set(xlabel="layer (# of the table)", ylabel="SQNR, dB")
        axis.margins(x=0.01)
        named = [f"{number(value)} dB  #{i} {row.name}" for i, row, value in known if i in worst]
        axis.set_title("lowest:\n" + "\n".join(named), color=WARN, fontsize=8)
        return as_svg(figure, "sqnr")


def _peakiness(values: Sequence[float]) -> float:
    middle = median(values)
    return max(values) / middle if middle > 0 else float("inf")


def new_figure(height: float, rows: int = 1) -> tuple[Figure, list[Any]]:
    """An empty figure ``height`` inches high with ``rows`` axes above each other."""
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    grid = figure.subplots(rows, 1, sharex=True, sharey=True, squeeze=False)
    return figure, [axis for (axis,) in grid]


def as_svg(figure: Figure, key: str) -> str:
    """SVG text. ``key`` makes identifiers unique on the page, and the same in every run."""
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with rc_context({"svg.hashsalt": key}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for color, role in _ROLES.items():
        svg = svg.replace(color, role)
    # Names of groups repeat from figure to figure, which HTML forbids; only <defs> are referred to.
    return re.sub(r'<g id="[^"]*"', "<g", svg)
