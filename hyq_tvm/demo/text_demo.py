"""The demonstration: PP-OCRv4's text recogniser in integers reads lines of text."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

import hyq_tvm
from hyq_tvm.demo import text_lines
from hyq_tvm.demo.pipeline import GoldenMismatchError, Latency, step
from hyq_tvm.demo.text_data import TextLines, load_lines
from hyq_tvm.quantization.float_executor import FloatExecutor
from hyq_tvm.report import OperatorTime
from hyq_tvm.report.latency import operator_times
from relay_passes.extract_graph import extract_graph
from relay_passes.read_program import read_program

ROUNDS, WARM_UP = 20, 3
FLOAT, INTEGER = "float32, PyTorch", "integers only"
EXACT, LINEAR = "softmax of the scores, exact, PyTorch", "softmax of the scores, linear, integers"
CALIBRATION = 24  # lines


@dataclass
class TextOutcome:
    """All that was made and measured; filled in step by step."""

    file: Path
    lines: TextLines
    graph: Any = None
    quantized: Any = None
    executable: Any = None
    program: Any = None
    float_texts: list[str] = field(default_factory=list)
    integer_texts: list[str] = field(default_factory=list)
    latency: dict[str, Latency] = field(default_factory=dict)
    times: list[OperatorTime] = field(default_factory=list)
    golden_integers: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def right(self) -> tuple[float, float]:
        """Share of lines that float and integers read right, spaces not counted."""
        both = (self.float_texts, self.integer_texts)
        exact, integer = (text_lines.exact_matches(t, self.lines.texts).mean() for t in both)
        return float(exact), float(integer)

    @property
    def same(self) -> float:
        """Share of lines that both read as the same text."""
        return float(text_lines.exact_matches(self.integer_texts, self.float_texts).mean())


def run(console: Console) -> TextOutcome:
    """Import, quantize, compile, read, compare, time.

    Raises ``UnsupportedModelError`` when the recogniser is not installed, ``GoldenMismatchError``
    when a single output integer differs from the NumPy model.
    """
    outcome = TextOutcome(text_lines.recogniser_file(), load_lines("test"))
    shape = (1, 3, text_lines.HEIGHT, text_lines.WIDTH)
    with step(console, outcome, "import", "Import the ONNX model"):
        module = hyq_tvm.from_onnx(str(outcome.file), input_shapes={text_lines.INPUT: shape})
        outcome.graph = extract_graph(module)
    title = f"Calibrate on {CALIBRATION} lines and quantize"
    with step(console, outcome, "quantize", title, spin=False):
        outcome.quantized = hyq_tvm.quantize(module, load_lines("calib").inputs()[:CALIBRATION])
    with step(console, outcome, "compile", "Compile to integer-only machine code"):
        outcome.executable = hyq_tvm.compile(outcome.quantized)
    outcome.program = read_program(outcome.quantized)
    _read_lines(console, outcome)
    with step(console, outcome, "check", "Compare output integers with the NumPy model"):
        outcome.golden_integers = _compare(outcome)
    with step(console, outcome, "time", "Measure latency"):
        outcome.latency = _latency(outcome)
        outcome.times = _operators(outcome)
        softmax = sum(t.microseconds for t in outcome.times if t.name == "softmax") / 1e3
        outcome.latency[LINEAR] = Latency(softmax, softmax)
    return outcome


def _read_lines(console: Console, outcome: TextOutcome) -> None:
    alphabet = text_lines.Alphabet.of_model(outcome.file)
    executor = FloatExecutor(outcome.graph)
    start = time.perf_counter()
    inputs = outcome.lines.inputs()
    for row in track(range(len(inputs)), "  reading", console=console, transient=True):
        x = inputs[row : row + 1]
        outcome.float_texts += alphabet.texts(executor.run(x)[0].numpy())
        outcome.integer_texts += alphabet.texts(outcome.executable(x))
    outcome.seconds["read"] = time.perf_counter() - start


def _compare(outcome: TextOutcome) -> int:
    x = outcome.lines.inputs()[:1]
    expected, found = outcome.program.run_integers(x)[0], outcome.executable.run_integers(x)
    if not np.array_equal(found, expected):
        raise GoldenMismatchError(
            "the compiled recogniser differs from the NumPy model: please report this with your "
            "processor's name"
        )
    return int(expected.size)


def _latency(outcome: TextOutcome) -> dict[str, Latency]:
    """Milliseconds a line: both programs, and an exact softmax of the scores, taken in turn."""
    x = outcome.lines.inputs()[:1]
    executor = FloatExecutor(outcome.graph)
    scores = torch.randn(outcome.program.run_integers(x)[0].shape)
    runs: dict[str, Callable[[], Any]] = {
        FLOAT: lambda: executor.run(x),
        INTEGER: lambda: outcome.executable(x),
        EXACT: lambda: scores.softmax(-1),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(ROUNDS + WARM_UP):
        for name, call in runs.items():
            start = time.perf_counter_ns()
            call()
            if turn >= WARM_UP:
                times[name].append((time.perf_counter_ns() - start) / 1e6)
    return {name: Latency(min(found), median(found)) for name, found in times.items()}


def _operators(outcome: TextOutcome) -> list[OperatorTime]:
    """Where the time of one line goes."""
    with tempfile.TemporaryDirectory() as folder:
        outcome.executable.save(Path(folder, "text.hyq"))
        library = next(Path(folder, "text.hyq").glob("*.so"))
        return operator_times(library, outcome.lines.inputs()[:1])


def samples(outcome: TextOutcome, most: int = 10) -> Sequence[int]:
    """Rows of a few lines: where float and integers differ first, then every tenth."""
    differing = [
        row
        for row, (a, b) in enumerate(zip(outcome.float_texts, outcome.integer_texts, strict=True))
        if text_lines.without_spaces(a) != text_lines.without_spaces(b)
    ]
    others = [row for row in range(0, len(outcome.lines), 9) if row not in differing]
    return (differing[:3] + others)[:most]
