"""The demonstration's steps, through the interface that every user has, and what they measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

import hyq_tvm
from hyq_tvm.demo.data import Split, load_split, to_input
from hyq_tvm.demo.model import INPUT_SHAPE, load_model
from relay_passes.read_program import read_program

Float = NDArray[np.float32]

TESTED = ("test", "hard")
CHUNK = 64
GOLDEN_IMAGES = 8
"""Images on which every output integer is compared with the NumPy model."""

LATENCY_ROUNDS = 200
WARM_UP = 10
"""Rounds that are not counted: the first calls fill caches."""


class GoldenMismatchError(hyq_tvm.HyqError):
    """The compiled program and the NumPy model disagree: a bug of this library."""


@dataclass(frozen=True, eq=False)
class Score:
    """Predictions uint8 [N] of both models on one split."""

    name: str
    split: Split
    exact: NDArray[np.uint8]
    integer: NDArray[np.uint8]

    @property
    def float_top1(self) -> float:
        """Share of images that the float model gets right."""
        return float(np.mean(self.exact == self.split.labels))

    @property
    def integer_top1(self) -> float:
        """Share of images that the integer program gets right."""
        return float(np.mean(self.integer == self.split.labels))

    @property
    def agreement(self) -> float:
        """Share of images for which both say the same."""
        return float(np.mean(self.integer == self.exact))


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one image."""

    minimum: float
    median: float


class Timed(Protocol):
    """Keeps how long every step took."""

    seconds: dict[str, float]


@dataclass
class Outcome:
    """All that was made and measured; filled in step by step."""

    model: Any = None
    imported: Any = None
    quantized: Any = None
    executable: Any = None
    program: Any = None
    scores: list[Score] = field(default_factory=list)
    float_latency: Latency = field(default_factory=lambda: Latency(0, 0))
    integer_latency: Latency = field(default_factory=lambda: Latency(0, 0))
    golden_integers: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """Trained numbers of the float model."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def float_bytes(self) -> int:
        """Size of the float32 weights."""
        return 4 * self.parameters

    @property
    def integer_bytes(self) -> int:
        """Size of all constants of the integer program: weights, biases, multipliers, tables."""
        return int(self.program.constant_bytes)


def run_pipeline(console: Console) -> Outcome:
    """Import, quantize, compile, run, compare, time.

    Raises ``GoldenMismatchError`` when a single output integer differs from the NumPy model.
    """
    outcome = Outcome(model=load_model())
    with step(console, outcome, "import", "Import the PyTorch model"):
        outcome.imported = hyq_tvm.from_torch(outcome.model, (torch.zeros(INPUT_SHAPE),))
    with step(console, outcome, "quantize", "Calibrate on 128 images and quantize", spin=False):
        outcome.quantized = hyq_tvm.quantize(
            outcome.imported,
            to_input(load_split("calib").images),
            config=hyq_tvm.QuantConfig(),
        )
    with step(console, outcome, "compile", "Compile to integer-only machine code"):
        outcome.executable = hyq_tvm.compile(outcome.quantized, target="llvm")
    outcome.program = read_program(outcome.quantized)
    with step(console, outcome, "run", "Classify the test images", spin=False):
        outcome.scores = [_score(console, outcome, name) for name in TESTED]
    with step(console, outcome, "golden", "Compare with the NumPy model, bit for bit"):
        outcome.golden_integers = check_golden(outcome.executable, outcome.program)
    with step(console, outcome, "latency", "Time single images, float and integer in turn"):
        outcome.float_latency, outcome.integer_latency = measure_latency(outcome)
    return outcome


def check_golden(executable: Any, program: Any) -> int:
    """How many output integers were compared; raises ``GoldenMismatchError`` on a difference."""
    compared = 0
    for image in to_input(load_split("hard").images[:GOLDEN_IMAGES]):
        expected = program.run_integers(image[None])[0]
        actual = executable.run_integers(image[None])
        if not np.array_equal(actual, expected):
            raise GoldenMismatchError(
                f"compiled output {actual.tolist()}, NumPy model {expected.tolist()}: "
                "please report this with your processor's name"
            )
        compared += expected.size
    return compared


def measure_latency(outcome: Outcome) -> tuple[Latency, Latency]:
    """Float (PyTorch, eager) and integer milliseconds an image, taken in turn."""
    image = to_input(load_split("test").images[:1])
    tensor = torch.from_numpy(image)
    runs: tuple[Callable[[], Any], ...] = (
        lambda: outcome.model(tensor),
        lambda: outcome.executable(image),
    )
    times: tuple[list[float], ...] = ([], [])
    with torch.inference_mode():
        for turn in range(LATENCY_ROUNDS + WARM_UP):
            for run, found in zip(runs, times, strict=True):
                start = time.perf_counter_ns()
                run()
                if turn >= WARM_UP:
                    found.append((time.perf_counter_ns() - start) / 1e6)
    exact, integer = (Latency(min(found), median(found)) for found in times)
    return exact, integer


@contextmanager
def single_thread() -> Iterator[None]:
    """One thread for PyTorch and for compiled code inside, as before afterwards.

    The operators of a model this small are not worth handing to a second one.
    """
    before = torch.get_num_threads(), hyq_tvm.num_threads()
    torch.set_num_threads(1)
    hyq_tvm.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        hyq_tvm.set_num_threads(before[1])


def _score(console: Console, outcome: Outcome, name: str) -> Score:
    split = load_split(name)
    exact, integer = [], []
    starts = range(0, len(split), CHUNK)
    for start in track(starts, f"  {name} images", console=console, transient=True):
        images = to_input(split.images[start : start + CHUNK])
        with torch.inference_mode():
            exact.append(outcome.model(torch.from_numpy(images)).argmax(1).numpy())
        integer.append(outcome.executable(images).argmax(1))
    both = (np.concatenate(parts).astype(np.uint8) for parts in (exact, integer))
    return Score(name, split, *both)


@contextmanager
def step(
    console: Console, outcome: Timed, key: str, title: str, spin: bool = True
) -> Iterator[None]:
    """Show what runs, then how long it took; ``spin`` is for steps that show nothing themselves."""
    start = time.perf_counter()
    if spin:
        with console.status(title):
            yield
    else:
        console.print(f"[dim]· {title}[/dim]")
        yield
    outcome.seconds[key] = time.perf_counter() - start
    console.print(f"[green]✓[/green] {title} [dim]{outcome.seconds[key]:.1f} s[/dim]")
