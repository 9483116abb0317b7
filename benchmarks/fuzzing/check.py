"""What must hold for every model: compiled equals golden bit for bit, and both are near float."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import hyq_tvm
from benchmarks.fuzzing.blocks import build
from benchmarks.fuzzing.recipe import Recipe
from hyq_tvm.errors import AccumulatorOverflowError, UnsupportedModelError
from hyq_tvm.module_facts import plan_text
from hyq_tvm.quantization.float_executor import FloatExecutor
from hyq_tvm.quantization.plan import QuantPlan
from hyq_tvm.quantization.selection import FLOOR
from hyq_tvm.quantization.simulate import relative_error
from relay_passes.extract_graph import extract_graph
from relay_passes.read_program import read_program

Array = NDArray[Any]
READING_TOLERANCE = 1e-3
MARGIN_DB = 12.0
"""Most that the signal to noise may be below the plan's simulation, which knows no requantize ties
and no rounding of reciprocals. Most graphs come within 1 dB; a few outputs of 4 or 6 bits may have
luck in one and not in the other: 10 dB were seen."""
PROMISED_DB = 40.0
"""No more than this is promised."""
IMAGES = 4


class Mismatch(AssertionError):
    """Something that must hold does not; the message says which and where."""


@dataclass(frozen=True)
class Outcome:
    """refused: why the model was declined, by an error of our own; empty if it ran.

    predicted_db, measured_db: signal to noise of the outputs on the calibration data, by the plan's
    simulation and by the golden model.
    """

    refused: str = ""
    predicted_db: float = 0.0
    measured_db: float = 0.0


def check(recipe: Recipe, targets: tuple[str, ...] = ("llvm",)) -> Outcome:
    """Build, quantize, compile and compare; raises ``Mismatch``, or whatever else went wrong."""
    network, module = build(recipe)
    rng = np.random.default_rng([recipe.seed, 2])
    images = -(-IMAGES // recipe.batch) * recipe.batch
    data = rng.normal(size=(images, *network.input.shape[1:])).astype(np.float32)
    runs = [data[i : i + recipe.batch] for i in range(0, images, recipe.batch)]
    exact = [network.run(run) for run in runs]
    try:
        _check_reading(module, runs[0], exact[0])
        config = hyq_tvm.QuantConfig(**recipe.config)
        integer = hyq_tvm.quantize(module, data, config, progress=False)
    except (UnsupportedModelError, AccumulatorOverflowError) as error:
        return Outcome(refused=f"{type(error).__name__}: {error}")
    program = read_program(integer)
    golden = [program.run(run) for run in runs]
    for target in targets:
        _check_target(integer, target, program, [runs[0], *_unusual(runs[0])])
    predicted = float(QuantPlan.from_json(plan_text(integer)).notes["simulated_sqnr_db"])
    measured = sqnr_db(exact, golden)
    _check_noise(predicted, measured)
    return Outcome("", predicted, measured)


def _check_reading(module: Any, run: Array, exact: list[Array]) -> None:
    """The canonical graph computes in float what PyTorch does."""
    got = FloatExecutor(extract_graph(module)).run(run)
    for number, (ours, theirs) in enumerate(zip(got, exact, strict=True)):
        if tuple(ours.shape) != theirs.shape:
            raise Mismatch(f"graph output {number}: shape {tuple(ours.shape)}, not {theirs.shape}")
        worst = float(np.abs(ours.numpy() - theirs).max())
        if not worst <= READING_TOLERANCE * max(float(np.abs(theirs).max()), 1e-3):
            raise Mismatch(f"graph output {number}: off by {worst} before anything is quantized")


def _check_target(integer: Any, target: str, program: Any, runs: list[Array]) -> None:
    executable = hyq_tvm.compile(integer, target)
    for number, run in enumerate(runs):
        _check_bits(f"{target}, run {number}", program.run(run), executable(run))
    integers = executable.run_integers(runs[0])
    _check_bits(f"{target}, integers", program.run_integers(runs[0]), integers)


def _check_bits(where: str, golden: list[Array], got: Any) -> None:
    found = got if isinstance(got, tuple) else (got,)
    for number, (want, have) in enumerate(zip(golden, found, strict=True)):
        if want.shape != have.shape or want.dtype != have.dtype:
            raise Mismatch(f"{where}, output {number}: {have.dtype} {have.shape}, not {want.shape}")
        wrong = np.argwhere(want != have)
        if len(wrong):
            place = tuple(int(n) for n in wrong[0])
            raise Mismatch(
                f"{where}, output {number}: {len(wrong)} of {want.size} differ, first at {place}: "
                f"{have[place]}, golden {want[place]}"
            )


def _unusual(run: Array) -> list[Array]:
    """Data that calibration never saw: far outside, all zero, one huge pixel."""
    spike = np.zeros_like(run)
    spike.flat[0] = 3e38
    return [run * 30, np.zeros_like(run), spike]


def sqnr_db(exact: list[list[Array]], got: list[list[Array]]) -> float:
    """Signal to noise of the outputs, the mean of the runs' decibels, as the plan notes it."""
    errors = [
        relative_error([torch.from_numpy(a) for a in want], [torch.from_numpy(b) for b in have])
        for want, have in zip(exact, got, strict=True)
    ]
    return float(np.mean(-10 * np.log10(np.maximum(errors, FLOOR))))


def _check_noise(predicted: float, measured: float) -> None:
    if measured < min(predicted, PROMISED_DB) - MARGIN_DB:
        raise Mismatch(f"{measured:.1f} dB of signal to noise, {predicted:.1f} predicted")
