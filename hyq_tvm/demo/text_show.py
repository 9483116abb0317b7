"""What the demonstration of the text recogniser prints and reports."""

from __future__ import annotations

import base64
import io
import os
import platform
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table as TerminalTable
from rich.text import Text

import hyq_tvm
from hyq_tvm.artifact import package_versions
from hyq_tvm.demo import text_lines
from hyq_tvm.demo.show import terminal_table
from hyq_tvm.demo.summary import percent, processor_name
from hyq_tvm.demo.text_demo import FLOAT, INTEGER, TextOutcome, samples
from hyq_tvm.report import Card, Picture, Report, Table, write_report
from hyq_tvm.report.inspection import channel_ranges, integer_sqnr, layer_rows
from hyq_tvm.report.softmax_curves import softmax_curves

INSPECTED = 2


def print_outcome(console: Console, outcome: TextOutcome) -> None:
    """Sample lines, accuracy, latency, and the proof of equality."""
    shown = TerminalTable(title="Lines", title_justify="left", title_style="bold")
    for column in ("true text", "float32", "integers"):
        shown.add_column(column)
    for row in samples(outcome):
        true = outcome.lines.texts[row]
        texts = (outcome.float_texts[row], outcome.integer_texts[row])
        shown.add_row(true, *(_judged(text, true) for text in texts))
    console.print()
    console.print(shown)
    for table in (accuracy_table(outcome), latency_table(outcome)):
        console.print()
        console.print(terminal_table(table))
        if table.note:
            console.print(f"[dim]{table.note}[/dim]")
    console.print(
        f"\n{outcome.golden_integers:,} output integers equal the NumPy model's, bit for bit; "
        f"compiled in {outcome.seconds['compile']:.1f} s."
    )


def _judged(text: str, true: str) -> Text:
    right = text_lines.without_spaces(text) == text_lines.without_spaces(true)
    return Text(text, style="green" if right else "red")


def accuracy_table(outcome: TextOutcome) -> Table:
    """Lines and characters that both programs read right."""
    exact, integer = outcome.right
    rows = [
        (name, percent(share), percent(text_lines.character_accuracy(texts, outcome.lines.texts)))
        for name, share, texts in (
            ("float32", exact, outcome.float_texts),
            ("integers", integer, outcome.integer_texts),
        )
    ]
    return Table(
        "Accuracy",
        ("program", "lines right", "characters right"),
        rows,
        note=f"{len(outcome.lines)} rendered lines, spaces not counted; both read the same text on "
        f"{percent(outcome.same)}. 100 lines tell no difference of a few points from none: "
        "docs/accuracy.md has 500.",
    )


def latency_table(outcome: TextOutcome) -> Table:
    """Milliseconds a line."""
    rows = [(k, f"{v.median:.2f}", f"{v.minimum:.2f}") for k, v in outcome.latency.items()]
    return Table(
        "Latency of one line",
        ("program", "median ms", "least ms"),
        rows,
        note="One line of 320 columns at a time, one thread, all programs in turn.",
    )


def write(path: str | os.PathLike[str], outcome: TextOutcome) -> Path:
    """Inspect every layer on two lines and write the report; returns its path."""
    exact, integer = outcome.right
    plan, graph = outcome.executable.plan, outcome.graph
    inspected = [line[None] for line in outcome.lines.inputs()[:INSPECTED]]
    layers = layer_rows(
        outcome.program, plan, integer_sqnr(outcome.program, graph, plan, inspected)
    )
    fast, slow = (outcome.latency[k] for k in (INTEGER, FLOAT))
    report = Report(
        title="A text recogniser in integers only",
        lead="PP-OCRv4's recogniser, convolutions and attention: every operation between the "
        "quantized picture and the dequantized scores of 6,625 characters is integer arithmetic.",
        cards=(
            Card("Lines right", percent(integer), f"float {percent(exact)}"),
            Card("Same text as float", percent(outcome.same), f"{len(outcome.lines)} lines"),
            Card("Median latency", f"{fast.median:.1f} ms", f"float {slow.median:.1f} ms"),
            Card("Compile time", f"{outcome.seconds['compile']:.1f} s", "quantized module to code"),
        ),
        results=(accuracy_table(outcome), _sample_table(outcome), latency_table(outcome)),
        layers=layers,
        ranges=channel_ranges(graph, plan, inspected),
        softmax=softmax_curves(),
        times=outcome.times,
        pictures=tuple(picture(outcome, row) for row in samples(outcome, 4)),
        facts=(
            ("Date", date.today().isoformat()),
            ("Processor", f"{processor_name()}, {os.cpu_count()} cores"),
            ("Python", platform.python_version()),
            ("hyq-tvm", hyq_tvm.__version__),
            *package_versions().items(),
            ("Scaling", str(plan.config.scaling)),
            ("Softmax", plan.config.softmax),
            ("Checked", f"{outcome.golden_integers} output integers equal to the NumPy model's"),
            ("Model", f"{outcome.file.name} of {text_lines.DISTRIBUTION}, Apache-2.0"),
        ),
    )
    return write_report(path, report)


def _sample_table(outcome: TextOutcome) -> Table:
    rows = [
        (outcome.lines.texts[row], outcome.float_texts[row], outcome.integer_texts[row])
        for row in samples(outcome)
    ]
    return Table("Lines", ("true text", "float32", "integers"), rows)


def picture(outcome: TextOutcome, row: int) -> Picture:
    """One line as a picture for the page, titled with what was read."""
    columns = int(outcome.lines.widths[row])
    pixels = np.ascontiguousarray(outcome.lines.pictures[row, :, :columns, ::-1])
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(f"read as {outcome.integer_texts[row]}", f"data:image/png;base64,{content}")
