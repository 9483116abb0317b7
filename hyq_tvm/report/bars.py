"""Bar charts of one figure a layer or an operator, as inline SVG (see ``figures``)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import rc_context

from hyq_tvm.report.data import LayerRow, OperatorTime
from hyq_tvm.report.figures import SERIES, STYLE, WARN, as_svg, new_figure

THIN_MARGIN = 1.0
"""Spare bits below which an accumulator is drawn as one to look at."""


def margins(layers: Sequence[LayerRow]) -> str:
    """Spare accumulator bits of every layer that has an accumulator."""
    known = [(i, r.margin_bits) for i, r in enumerate(layers, 1) if r.margin_bits is not None]
    with rc_context(STYLE):
        figure, (axis,) = new_figure(2.6)
        colors = [WARN if value < THIN_MARGIN else SERIES[2] for _, value in known]
        axis.bar([i for i, _ in known], [value for _, value in known], width=0.8, color=colors)
        axis.set(xlabel="layer (# of the table)", ylabel="spare bits")
        axis.margins(x=0.01)
        return as_svg(figure, "margins")


def alpha_spread(layers: Sequence[LayerRow]) -> str:
    """Largest over smallest scaling factor of every layer that is scaled."""
    known = [(i, r.alpha_spread) for i, r in enumerate(layers, 1) if r.alpha_spread is not None]
    with rc_context(STYLE):
        figure, (axis,) = new_figure(2.6)
        axis.bar([i for i, _ in known], [value for _, value in known], width=0.8, color=SERIES[3])
        axis.set(xlabel="layer (# of the table)", ylabel="alpha, most / least", yscale="log")
        axis.margins(x=0.01)
        return as_svg(figure, "alpha")


def operator_times(times: Sequence[OperatorTime]) -> str:
    """Microseconds of every kind of operator, the longest on top."""
    ordered = sorted(times, key=lambda entry: entry.microseconds)
    with rc_context(STYLE):
        figure, (axis,) = new_figure(0.7 + 0.26 * len(ordered))
        axis.barh(
            [f"{entry.name} ({entry.calls})" for entry in ordered],
            [entry.microseconds for entry in ordered],
            color=SERIES[0],
        )
        axis.set(xlabel="µs a run (calls in brackets)")
        return as_svg(figure, "times")
