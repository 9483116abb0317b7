"""Accuracy of integer models against the float ones they were made from.

``python -m benchmarks.accuracy --model mobilevit_cifar --bits 8,6 --scaling none,qads``
``python -m benchmarks.accuracy --model mobilevit_cifar,vit_tiny --table --page docs/accuracy.md``

Every combination of the comma-separated options is quantized, compiled and run over all test
images. A result is one JSON file under ``benchmarks/results``; a combination whose file is there
is not run again (``--force`` does), so an interrupted series goes on where it stopped. At the
end all results of the folder become ``accuracy.md``, and ``--page`` puts their table into a page.

The combinations of one model share float logits and calibration, and kinds of softmax share the
grids that the default kind was planned with.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import hyq_tvm
from benchmarks.accuracy_results import Case, Result, load_results, markdown
from benchmarks.pages import insert
from benchmarks.real_models import MODELS, RealModel, UnavailableError
from hyq_tvm.errors import HyqError
from hyq_tvm.quantization.config import SOFTMAX_KINDS
from hyq_tvm.quantization.graph import Graph
from hyq_tvm.quantization.plan import QuantPlan
from hyq_tvm.quantization.planner import calibrate, plan_from_statistics, with_softmax
from hyq_tvm.quantization.simulate import Simulator
from hyq_tvm.report.significance import mcnemar, paired_difference, sqnr_db, wilson
from relay_passes.extract_graph import extract_graph

RESULTS = Path(__file__).with_name("results")
DEFAULT_SOFTMAX = hyq_tvm.QuantConfig().softmax


def compare(
    case: Case,
    labels: NDArray[np.int64],
    exact: NDArray[np.float32],
    integer: NDArray[np.float32],
    seconds: dict[str, float],
) -> Result:
    """Judge integer logits [N,classes] against the float model's and against the classes [N]."""
    exact_right = exact.argmax(1) == labels
    integer_right = integer.argmax(1) == labels
    change, low, high = paired_difference(exact_right, integer_right)
    return Result(
        case=case,
        images=len(labels),
        float_top1=float(exact_right.mean()),
        integer_top1=float(integer_right.mean()),
        integer_interval=wilson(int(integer_right.sum()), len(labels)),
        change=change,
        change_interval=(low, high),
        agreement=float((exact.argmax(1) == integer.argmax(1)).mean()),
        mcnemar_p=mcnemar(exact_right, integer_right),
        sqnr_db=sqnr_db(exact, integer),
        seconds=seconds,
        versions={
            name: importlib.metadata.version(name) for name in ("apache-tvm", "torch", "numpy")
        },
    )


def logits(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    batches: Iterator[NDArray[np.float32]],
    images: int,
    title: str,
) -> NDArray[np.float32]:
    """Outputs of ``run`` over all batches, [N,classes], with a progress bar."""
    outputs = []
    with tqdm(total=images, desc=title, unit="img", leave=False, disable=None) as bar:
        for batch in batches:
            outputs.append(run(batch))
            bar.update(len(batch))
    return np.concatenate(outputs)


def float_logits(model: RealModel) -> NDArray[np.float32]:
    """What torch computes, [N,classes]."""

    @torch.inference_mode()
    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(model.module(torch.from_numpy(batch)).numpy())

    return logits(run, model.test(), len(model.labels), f"{model.name} float")


class Source:
    """A model's float half, which all its cases share: logits, graph and calibration."""

    def __init__(self, model: RealModel) -> None:
        self.model = model
        self.logits = float_logits(model)
        start = time.perf_counter()
        self.module = hyq_tvm.from_torch(model.module, (model.example(),))
        self.graph = extract_graph(self.module)
        imported = time.perf_counter()
        self.statistics = calibrate(self.graph, model.calibration(), hyq_tvm.QuantConfig())
        calibrated = time.perf_counter()
        self.seconds = {
            "import": round(imported - start, 2),
            "calibrate": round(calibrated - imported, 2),
        }
        self._plans: dict[str, QuantPlan] = {}

    def plan(self, case: Case) -> QuantPlan:
        """How the case is quantized; cases that differ in their softmax share everything else."""
        base = replace(case, softmax=DEFAULT_SOFTMAX)
        if base.name not in self._plans:
            config = base.config()
            self._plans[base.name] = plan_from_statistics(self.graph, self.statistics, config)
        if case == base:
            return self._plans[base.name]
        return with_softmax(self.graph, self.statistics, self._plans[base.name], case.softmax)


def measure(case: Case, source: Source) -> Result:
    """Quantize, compile and run one case."""
    model, seconds = source.model, dict(source.seconds)
    start = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal start
        now = time.perf_counter()
        seconds[name], start = round(now - start, 2), now

    plan = source.plan(case)
    lap("plan")
    run: Any
    if case.simulate:
        run = simulation(source.graph, plan)
    else:
        run = hyq_tvm.compile(hyq_tvm.quantize(source.module, plan=plan), target=case.target)
    lap("compile")
    integer = logits(run, model.test(), len(model.labels), case.name)
    lap("run")
    return compare(case, model.labels, source.logits, integer, seconds)


def simulation(
    graph: Graph, plan: QuantPlan
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The quantized model in float: [n,C,H,W] to [n,classes] for any n."""
    simulator = Simulator(graph, plan)

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate([simulator.run(image[None])[0].numpy() for image in batch])

    return run


def cases(options: argparse.Namespace) -> list[Case]:
    """Every combination of the options, models outermost; or the rows of the table."""
    if options.table:
        return [case for model in options.model for case in table_cases(model)]
    product = itertools.product(
        options.model,
        options.bits,
        options.weights,
        options.scaling,
        options.softmax,
        options.observer,
        options.widths,
    )
    return [
        Case(
            model=model,
            bits=int(bits),
            weights=int(weights),
            scaling=None if scaling == "none" else scaling,
            softmax=softmax,
            observer=observer,
            widths=widths,
            target=options.target,
            simulate=options.simulate,
        )
        for model, bits, weights, scaling, softmax, observer, widths in product
    ]


def table_cases(model: str) -> list[Case]:
    """The rows of the table in docs/accuracy.md: scaling on and off, kinds of softmax, bits."""
    found = []
    for bits, weights in ((8, 8), (8, 6), (8, 4), (6, 8), (4, 8)):
        found += [Case(model, bits, scaling, weights=weights) for scaling in ("qads", None)]
        found += [Case(model, bits, softmax=kind, weights=weights) for kind in SOFTMAX_KINDS[1:]]
    return [*found, Case(model, 6, None, observer="percentile", widths="uniform")]


def run_model(name: str, wanted: list[Case], folder: Path) -> bool:
    """Measure the cases of one model; says on stderr what could not be done and returns False."""
    try:
        model = MODELS[name]()
    except UnavailableError as error:
        print(f"{name}: skipped, {error}", file=sys.stderr)
        return False
    source = Source(model)
    done = True
    for case in wanted:
        try:
            result = measure(case, source)
        except HyqError as error:
            print(f"{case.name}: {type(error).__name__}: {error}", file=sys.stderr)
            done = False
            continue
        text = json.dumps(asdict(result), indent=1) + "\n"
        (folder / f"{case.name}.json").write_text(text, encoding="utf-8")
        print(markdown([result]).splitlines()[-1], flush=True)
    return done


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; unknown models and empty lists end the program with a message."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def several(text: str) -> list[str]:
        return [part for part in text.split(",") if part]

    parser.add_argument("--model", type=several, default=["digits"], help=f"of {list(MODELS)}")
    parser.add_argument("--bits", type=several, default=["8"], help="activation bits")
    parser.add_argument("--weights", type=several, default=["8"], help="weight bits")
    parser.add_argument("--scaling", type=several, default=["none", "qads"])
    parser.add_argument("--softmax", type=several, default=["linear_pot"])
    parser.add_argument("--observer", type=several, default=["auto"])
    parser.add_argument("--widths", type=several, default=["auto"], help="auto, uniform")
    parser.add_argument("--table", action="store_true", help="the rows of docs/accuracy.md")
    parser.add_argument("--target", default="llvm")
    parser.add_argument(
        "--simulate", action="store_true", help="float simulation, nothing compiled"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument(
        "--page", type=Path, help="write the table into it, such as docs/accuracy.md"
    )
    parser.add_argument("--force", action="store_true", help="measure again what is there")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.model) - set(MODELS))
    if unknown:
        parser.error(f"unknown models {unknown}; choose of {list(MODELS)}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing, write the table; 0 when everything asked for is there."""
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    missing = [
        case
        for case in cases(options)
        if options.force or not (options.out / f"{case.name}.json").exists()
    ]
    done = True
    for name, group in itertools.groupby(missing, key=lambda case: case.model):
        done = run_model(name, list(group), options.out) and done
    table = markdown(load_results(options.out))
    (options.out / "accuracy.md").write_text(table, encoding="utf-8")
    if options.page:
        insert(options.page, "accuracy", table)
    print(table)
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
