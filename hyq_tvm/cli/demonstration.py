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
@click.option("--digits", is_flag=True, help="The small embedded digit classifier instead.")
def demo_command(report: Path, digits: bool) -> None:
    """Quantize, compile and run a recogniser that reads lines of text.

    Nothing is downloaded. Prints what was read, accuracy and latency, float against integer, and
    writes a report. Without the package rapidocr-onnxruntime it classifies digits instead.
    """
    demo.main(report, digits)
