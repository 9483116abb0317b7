"""The demonstration: a text recogniser becomes an integer-only program and reads lines.

Where the recogniser's package is not installed, an embedded hybrid classifies digits instead.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

REPORT = Path("hyq-tvm-report.html")


def main(report: str | os.PathLike[str] = REPORT, digits: bool = False) -> int:
    """Import, quantize, compile and run a model; print what came out; write a report.

    digits: the embedded digit classifier, even where the text recogniser is installed. Returns 0.
    Raises ``HyqError`` when a step fails, ``OSError`` when the report cannot be written.
    """
    from rich.console import Console

    from hyq_tvm.demo.pipeline import single_thread
    from hyq_tvm.demo.text_lines import recogniser_file
    from hyq_tvm.errors import UnsupportedModelError

    console = Console()
    if not digits:
        try:
            recogniser_file()
        except UnsupportedModelError as error:
            console.print(f"[yellow]Digits instead of text: {error}[/yellow]", soft_wrap=True)
            digits = True
    with single_thread():
        path = (_digits if digits else _text)(console, report)
    console.print(f"\nReport: [bold]{path.resolve()}[/bold]", soft_wrap=True)
    return 0


def _text(console: Console, report: str | os.PathLike[str]) -> Path:
    from hyq_tvm.demo import text_demo, text_show

    outcome = text_demo.run(console)
    text_show.print_outcome(console, outcome)
    with console.status("Inspect every layer and write the report"):
        return text_show.write(report, outcome)


def _digits(console: Console, report: str | os.PathLike[str]) -> Path:
    from hyq_tvm.demo.pipeline import run_pipeline
    from hyq_tvm.demo.show import print_outcome
    from hyq_tvm.demo.summary import write

    outcome = run_pipeline(console)
    print_outcome(console, outcome)
    with console.status("Inspect every layer and write the report"):
        return write(report, outcome)
