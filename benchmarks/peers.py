"""Latency of our INT8 model against what a user would run instead.

    python -m benchmarks.peers --models mobilevit_s,mobilevit_xxs,vit_tiny --threads 1,2 --batch 1,8

All runtimes of one model, batch and number of threads are called in turns. ``similarity`` is the
correlation of the logits with PyTorch's on random weights: it shows that a runtime computes the
model, not how accurate it is. Results go to ``--out``; programs are kept in ``--cache``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import latency_report
from benchmarks.latency_models import MODELS, integer_program
from benchmarks.latency_report import Row
from benchmarks.peer_runtimes import RUNTIMES, Floats, Job, Run, torch_eager
from benchmarks.real_models import UnavailableError
from benchmarks.timing import in_turns, wall
from hyq_tvm.threads import set_num_threads

OURS = "hyq_tvm int8"
FOLDER = Path(__file__).with_name("results")


def runs(job: Job, names: list[str], fresh: bool) -> dict[str, Run]:
    """Our program and the runtimes ``names``; says on stderr which are not there."""
    program = integer_program(job.model, job.batch, job.cache, fresh)
    found: dict[str, Run] = {OURS: program}
    for name in names:
        try:
            found[name] = RUNTIMES[name](job)
        except UnavailableError as error:
            print(f"{name}: skipped, {error}", file=sys.stderr)
    return found


def measure(job: Job, names: list[str], turns: int, fresh: bool = False) -> list[Row]:
    """One row a runtime."""
    torch.set_num_threads(job.threads)
    set_num_threads(job.threads)
    images = job.model.images(job.batch)
    exact = torch_eager(job)(images)
    compared = runs(job, names, fresh)
    facts = {name: {"similarity": similarity(run(images), exact)} for name, run in compared.items()}
    timings = in_turns({n: wall(_call(run, images)) for n, run in compared.items()}, turns)
    group = f"{job.model.name}, batch {job.batch}, {job.threads} thread(s)"
    return [Row(group, name, timing, facts[name]) for name, timing in timings.items()]


def similarity(logits: Floats, exact: Floats) -> float:
    """Correlation of two sets of logits; 0 where either is constant."""
    a, b = (np.ravel(v).astype(np.float64) - v.mean(dtype=np.float64) for v in (logits, exact))
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm else 0.0


def _call(run: Run, images: Floats) -> Any:
    return lambda: run(images)


def several(text: str) -> list[str]:
    """The parts of a comma-separated option."""
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(text: str) -> list[int]:
    """The whole numbers of a comma-separated option."""
    return [int(part) for part in several(text)]


def add_options(parser: argparse.ArgumentParser, models: str) -> None:
    """What this benchmark shares with ``benchmarks.model_latency``."""
    parser.add_argument("--models", type=several, default=several(models), help=f"of {[*MODELS]}")
    parser.add_argument("--threads", type=numbers, default=[1], help="such as 1,2")
    parser.add_argument("--batch", type=numbers, default=[1], help="such as 1,8")
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the results")
    parser.add_argument("--cache", type=Path, default=Path(".cache/latency"))
    parser.add_argument("--fresh", action="store_true", help="compile again what is kept")


def check_models(parser: argparse.ArgumentParser, names: list[str]) -> None:
    """Ends the program on unknown models."""
    unknown = sorted(set(names) - set(MODELS))
    if unknown:
        parser.error(f"unknown models {unknown}; choose of {[*MODELS]}")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, "mobilevit_s,mobilevit_xxs,vit_tiny")
    # Names contain commas, hence one option each.
    parser.add_argument("--only", action="append", default=[], help="a part of runtimes' names")
    options = parser.parse_args(arguments)
    check_models(parser, options.models)
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measures every combination and writes ``peers`` .json, .md and .png."""
    options = parse(arguments)
    names = [n for n in RUNTIMES if not options.only or any(part in n for part in options.only)]
    # TVM's pool never grows: it starts with the most threads.
    set_num_threads(max(options.threads))
    rows: list[Row] = []
    for model in options.models:
        for batch in options.batch:
            for threads in sorted(options.threads, reverse=True):
                job = Job(MODELS[model], batch, threads, options.cache)
                rows += measure(job, names, options.turns, options.fresh)
                latency_report.write(options.out, "peers", "Latency against peers", rows, OURS)
    print(latency_report.markdown("Latency against peers", rows, OURS))


if __name__ == "__main__":
    main()
