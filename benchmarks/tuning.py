"""What tuning gains on a whole model: the best-so-far curve, and latency before and after.

``python -m benchmarks.tuning [--model mobilevit_s] [--minutes 30] [--threads 1]``. Measurements
stay in the folder ``--records``: an interrupted run goes on where it stopped, and a finished one
draws its curve again. Results are ``tuning-<model>-<threads>.json`` and ``.png``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import relax

import schedules
from benchmarks.latency_models import MODELS, LatencyModel, quantized
from benchmarks.timing import Timing, environment, in_turns, wall
from hyq_tvm.targets import resolve
from hyq_tvm.threads import set_num_threads
from hyq_tvm.tuning import Bar, Budget, Point, Task, extract, measurer, run
from schedules.recorded import Records, read

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Outcome:
    """Seconds of all tuned kernels (``kernels``, own and best) and of the model, own and tuned.

    curve: (minutes of measuring, seconds of all tuned kernels with the best choices so far).
    """

    model: str
    threads: int
    trials: int
    workloads: int
    kernels: tuple[float, float]
    own: Timing
    tuned: Timing
    curve: list[tuple[float, float]]

    @property
    def gain(self) -> float:
        """Latency of the model with the rules' own choices over that with tuned ones."""
        return self.own.minimum / self.tuned.minimum

    def text(self) -> str:
        """The outcome in lines."""
        before, after = (1e3 * seconds for seconds in self.kernels)
        return (
            f"{self.model}, {self.threads} thread(s): {self.trials} measurements of "
            f"{self.workloads} kinds of operators\n"
            f"tuned kernels alone: {before:.3f} -> {after:.3f} ms ({before / after:.3f}x)\n"
            f"whole model, minimum: {1e3 * self.own.minimum:.3f} -> "
            f"{1e3 * self.tuned.minimum:.3f} ms ({self.gain:.3f}x), median: "
            f"{1e3 * self.own.median:.3f} -> {1e3 * self.tuned.median:.3f} ms"
        )


def tune(
    tasks: Sequence[Task], target: Any, folder: Path, budget: Budget, seed: int
) -> tuple[Point, list[tuple[float, float]]]:
    """Tune into ``folder``; the last point, and the curve."""
    curve: list[tuple[float, float]] = []
    with Bar(budget) as bar:

        def report(point: Point) -> None:
            bar(point)
            if point.best:
                curve.append((point.clock / 60, point.best))

        last = run(tasks, folder, budget, lambda: measurer(target, None), seed, report)
    return last, curve


def latency(
    module: tvm.IRModule, image: Any, target: Any, folder: Path, turns: int
) -> list[Timing]:
    """Of the whole model with the rules' own choices, and with the records of ``folder``."""
    measures = {}
    for name, records in (("own", Records()), ("tuned", Records(read(folder)))):
        program = tvm.compile(schedules.apply(module, target, records), target)
        machine = relax.VirtualMachine(program, tvm.cpu())
        argument = tvm.runtime.tensor(image)
        measures[name] = wall(lambda main=machine["main"], x=argument: main(x), 20)
    timings = in_turns(measures, turns)
    return [timings["own"], timings["tuned"]]


def outcome(model: LatencyModel, folder: Path, options: argparse.Namespace) -> Outcome:
    """Tune ``model`` and measure it."""
    set_num_threads(options.threads)
    target = resolve("llvm")[1]
    module = quantized(model, 1)
    tasks = extract(module, target)
    budget = Budget(options.minutes, options.trials)
    point, curve = tune(tasks, target, folder, budget, options.seed)
    own, tuned = latency(module, model.images(1), target, folder, options.turns)
    return Outcome(
        model.name, options.threads, point.trials, len(tasks), (point.own, point.best), own, tuned,
        curve,
    )  # fmt: skip


def write(result: Outcome, folder: Path) -> None:
    """The figures as JSON, the curve as a picture."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"tuning-{result.model}-{result.threads}"
    document = {**asdict(result), "gain": result.gain, "environment": environment()}
    stem.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    minutes, seconds = zip(*result.curve, strict=True)
    axes.step(minutes, [1e3 * s for s in seconds], where="post", label="best so far")
    axes.axhline(1e3 * result.kernels[0], color="grey", linestyle="--", label="the rules' own")
    axes.set(xlabel="minutes of tuning", ylabel="all tuned kernels [ms]", title=result.model)
    axes.legend()
    figure.savefig(stem.with_suffix(".png"), dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    """Tunes, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=sorted(MODELS), default="mobilevit_s")
    parser.add_argument("--minutes", type=float, help="default: 30, no limit with --trials")
    parser.add_argument("--trials", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--records", type=Path, default=RESULTS / "records")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.minutes is None and options.trials is None:
        options.minutes = 30
    result = outcome(MODELS[options.model], options.records, options)
    write(result, options.results)
    sys.stdout.write(result.text() + "\n")


if __name__ == "__main__":
    main()
