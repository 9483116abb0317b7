"""``hyq-tvm demo``."""

from __future__ import annotations

from pathlib import Path

import click

from hyq_tvm import demo


@click.command("demo")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    default=demo.REPORT,
    show_default=True,
    help="Where the HTML report goes.",
)
def demo_command(report: Path) -> None:
    """Quantize, compile and run an embedded model that reads handwritten digits.

    Nothing is downloaded. Prints accuracy and latency, float against integer, and writes a report.
    """
    demo.main(report)
