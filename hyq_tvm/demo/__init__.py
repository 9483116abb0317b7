"""The demonstration: an embedded hybrid becomes an integer-only program and classifies digits."""

from __future__ import annotations

import os
from pathlib import Path

REPORT = Path("hyq-tvm-report.html")


def main(report: str | os.PathLike[str] = REPORT) -> int:
    """Import, quantize, compile and run the embedded model; print what came out; write a report.

    Returns 0. Raises ``HyqError`` when a step fails, ``OSError`` when the report cannot be written.
    """
    from rich.console import Console

    from hyq_tvm.demo.pipeline import run_pipeline, single_thread
    from hyq_tvm.demo.show import print_outcome
    from hyq_tvm.demo.summary import write

    console = Console()
    with single_thread():
        outcome = run_pipeline(console)
    print_outcome(console, outcome)
    with console.status("Inspect every layer and write the report"):
        path = write(report, outcome)
    console.print(f"\nReport: [bold]{path.resolve()}[/bold]", soft_wrap=True)
    return 0
