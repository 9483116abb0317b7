"""Fills the template and writes the page."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hyq_tvm.report import bars, figures, overview
from hyq_tvm.report.data import Report, number, scale_text, tenths


def render(report: Report) -> str:
    """The page as HTML text; every string of ``report`` is escaped."""
    environment = Environment(
        loader=PackageLoader("hyq_tvm.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["tenths"] = tenths
    environment.filters["scale"] = scale_text
    has_sqnr = any(row.sqnr_db is not None for row in report.layers)
    has_margin = any(row.margin_bits is not None for row in report.layers)
    has_alpha = any(row.alpha for row in report.layers)
    return environment.get_template("template.html.j2").render(
        report=report,
        ranges=[(r.name, Markup(figures.channel_ranges(r))) for r in report.ranges],
        softmax=Markup(figures.softmax_errors(report.softmax)) if report.softmax else "",
        waterfall=Markup(figures.sqnr_waterfall(report.layers)) if has_sqnr else "",
        margins=Markup(bars.margins(report.layers)) if has_margin else "",
        alphas=Markup(bars.alpha_spread(report.layers)) if has_alpha else "",
        times=Markup(bars.operator_times(report.times)) if report.times else "",
        overview=Markup(overview.overview(report.layers)) if report.layers else "",
        legend=overview.legend(report.layers),
    )


def write_report(path: str | os.PathLike[str], report: Report) -> Path:
    """Write the page to ``path`` and return it as a ``Path``.

    The file is complete or untouched: it is written under another name beside ``path`` first.
    Raises ``OSError`` when the folder is missing or the disk is full.
    """
    target = Path(path)
    text = render(report)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return target
