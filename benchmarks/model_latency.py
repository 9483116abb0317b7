"""Latency of whole models: INT8, INT8 with exact softmax, and FP32 on the same schedules.

    python -m benchmarks.model_latency --models mobilevit_s,vit_tiny --threads 1,2 --batch 1,8

Shown for each model, batch and number of threads: our integer program; the same with float, exact
attentions in place of the integer ones; our float32 twin (``benchmarks.float32``). They are called
in turns. ``--profile`` adds where the time of the integer program goes, kernel by kernel.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import latency_report
from benchmarks.float32 import exact_program, float_program
from benchmarks.kernel_profile import call_times, kernel_profile, kernel_seconds, library_of
from benchmarks.latency_models import MODELS, LatencyModel, imported, integer_program, quantized
from benchmarks.latency_report import Row
from benchmarks.peer_runtimes import Floats, Job, Run, torch_eager
from benchmarks.peers import add_options, check_models, similarity
from benchmarks.timing import in_turns, wall
from hyq_tvm.runtime import VirtualMachine, load_library
from hyq_tvm.threads import set_num_threads
from relay_passes.extract_graph import extract_graph

INT8, EXACT, FLOAT = "int8", "int8, exact softmax", "fp32"
TITLE = "Latency of whole models"


@dataclass(frozen=True)
class Program:
    """What is called, and the library that its kernels lie in."""

    run: Run
    library: Path


def programs(model: LatencyModel, batch: int, cache: Path, fresh: bool) -> dict[str, Program]:
    """The three programs, from ``cache`` where they are there and not ``fresh``."""
    integer = integer_program(model, batch, cache, fresh)
    return {
        INT8: Program(integer, library_of(cache, model, batch)),
        EXACT: _kept(
            cache / f"{model.name}-exact-b{batch}.so",
            fresh,
            lambda path: exact_program(quantized(model, batch), path),
        ),
        FLOAT: _kept(
            cache / f"{model.name}-fp32-b{batch}.so",
            fresh,
            lambda path: float_program(extract_graph(imported(model, batch)), path),
        ),
    }


def _kept(path: Path, fresh: bool, make: Callable[[Path], VirtualMachine]) -> Program:
    kept = path.exists() and not fresh
    machine = VirtualMachine(load_library(path)) if kept else make(path)
    return Program(lambda x: np.asarray(machine.run("main", [x])[0]), path)


def measure(job: Job, turns: int, fresh: bool) -> list[Row]:
    """One row a program.

    Fact ``kernels ms``: the minima of all kernels added up, with under a microsecond each for being
    watched. On a busy machine hardly a whole call is undisturbed, but most calls of a kernel are.
    """
    set_num_threads(job.threads)
    images = job.model.images(job.batch)
    exact = torch_eager(job)(images)
    compared = programs(job.model, job.batch, job.cache, fresh)
    facts = {
        name: {
            "kernels ms": 1e3 * kernel_seconds(call_times(program.library, images, turns)),
            "similarity": similarity(program.run(images), exact),
        }
        for name, program in compared.items()
    }
    timings = in_turns({n: wall(_call(p.run, images)) for n, p in compared.items()}, turns)
    group = f"{job.model.name}, batch {job.batch}, {job.threads} thread(s)"
    return [Row(group, name, timing, facts[name]) for name, timing in timings.items()]


def _call(run: Run, images: Floats) -> Callable[[], object]:
    return lambda: run(images)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, "mobilevit_s,mobilevit_xxs,vit_tiny,digits")
    parser.add_argument("--profile", action="store_true", help="kernels of the integer program")
    options = parser.parse_args(arguments)
    check_models(parser, options.models)
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measures every combination and writes ``model_latency`` .json, .md and .png."""
    options = parse(arguments)
    # TVM's pool never grows: it starts with the most threads.
    set_num_threads(max(options.threads))
    rows: list[Row] = []
    for model in options.models:
        for batch in options.batch:
            for threads in sorted(options.threads, reverse=True):
                job = Job(MODELS[model], batch, threads, options.cache)
                # What is compiled afresh for the most threads serves fewer as well.
                fresh = options.fresh and threads == max(options.threads)
                rows += measure(job, options.turns, fresh)
                latency_report.write(options.out, "model_latency", TITLE, rows, INT8)
    print(latency_report.markdown(TITLE, rows, INT8))
    if options.profile:
        set_num_threads(1)
        for model in options.models:
            print(kernel_profile(MODELS[model], 1, options.cache, options.turns))


if __name__ == "__main__":
    main()
