"""What the demonstration prints."""

from __future__ import annotations

import numpy as np
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.table import Table as TerminalTable
from rich.text import Text

from hyq_tvm.demo.data import CLASSES
from hyq_tvm.demo.pictures import picture
from hyq_tvm.demo.pipeline import Outcome, Score
from hyq_tvm.demo.summary import TITLES, accuracy_table, cost_table
from hyq_tvm.report import Table

SAMPLES = 3


def print_outcome(console: Console, outcome: Outcome) -> None:
    """Sample pictures, both tables, and the proof of equality."""
    colors = console.color_system is not None
    for score in outcome.scores:
        console.print(f"\n[bold]{TITLES[score.name].capitalize()} images[/bold]")
        console.print(Columns([_panel(score, i, colors) for i in samples(score)]))
    for table in (accuracy_table(outcome), cost_table(outcome)):
        console.print()
        console.print(terminal_table(table))
        if table.note:
            console.print(f"[dim]{table.note}[/dim]")
    console.print(
        f"\n{outcome.golden_integers} output integers equal the NumPy model's, bit for bit; "
        f"compiled in {outcome.seconds['compile']:.1f} s."
    )


def samples(score: Score) -> list[int]:
    """Indices of a few images: one where the models differ, if any, then the first ones."""
    differing = [int(i) for i in np.flatnonzero(score.exact != score.integer)[:1]]
    others = [i for i in range(len(score.split)) if i not in differing]
    return (differing + others)[:SAMPLES]


def _panel(score: Score, index: int, colors: bool) -> Panel:
    label = CLASSES[score.split.labels[index]]
    exact, integer = CLASSES[score.exact[index]], CLASSES[score.integer[index]]
    style = "green" if integer == label else "red"
    caption = Text.assemble(f"is {label}: float {exact}, int ", (integer, f"bold {style}"))
    body = Text("\n").join([picture(score.split.images[index], colors), caption])
    return Panel(body, width=24, border_style=style)


def terminal_table(table: Table) -> TerminalTable:
    """A table of the report for the terminal."""
    shown = TerminalTable(title=table.title, title_justify="left", title_style="bold")
    for i, column in enumerate(table.columns):
        shown.add_column(column, justify="right" if i else "left")
    for row in table.rows:
        shown.add_row(*row)
    return shown
