"""Resources, clock and accuracy of the softmax unit in all its kinds, and of the whole core.

``python -m benchmarks.fpga_resources`` synthesises the exponential alone (scale fixed), whole units
(scale at run time) and cores for 7-series parts, with and without DSP blocks, places and routes
units for an ECP5, and writes ``fpga_resources.json``, ``.md`` and ``.svg`` into ``--out`` and the
tables into ``docs/fpga.md``. What the JSON file holds for the same sources is kept, so that a run
that was stopped goes on; ``--only PATTERN`` makes a part of it, ``--report`` only the tables.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.fpga_report import document, plot, tables
from benchmarks.fpga_synthesis import Module, Row, cells, clock
from hyq_tvm.numerics.exponential import GRID_KINDS, LN2
from hyq_tvm.numerics.reference.softmax import softmax
from hyq_tvm.vta.arch import DEFAULT, TINY, VTAConfig
from hyq_tvm.vta.cosim.softmax_unit import KINDS, LANES, RESULTS, SoftmaxUnit, exp_parameters

LENGTHS = (256, 64, 16)
WIDTHS = (8, 10)
EXP_SCALE = 0.05
ACCURACY_ROWS = 600
HEAD = 64
CORES = {
    "tiny": TINY,
    "8x8": VTAConfig(
        log_block=3,
        log_inp_buffer=14,
        log_wgt_buffer=16,
        log_acc_buffer=16,
        softmax_lanes=8,
        dividers=4,
    ),
    "default": DEFAULT,
}


@dataclass(frozen=True)
class Experiment:
    """A row of the report. sources: fingerprint of what the row belongs to."""

    name: str
    sources: str
    measure: Callable[[], Row]


def accuracy(kind: str, result: str, rows: int, seed: int = 0) -> Row:
    """Errors of probabilities over N = 16, 64, 256 and logits N(0, s), s = 1, 2.5, 5.

    Kinds on the grid take 10 bits of it; the others 8-bit logits whose scale spans their range.
    output_error: of the norm of products with random values, relative, as attention makes them.
    """
    rng = np.random.default_rng(seed)
    found = []
    for length in LENGTHS:
        for sigma in (1.0, 2.5, 5.0):
            x = rng.normal(size=(rows, length)) * sigma
            e = np.exp(x - x.max(-1, keepdims=True))
            exact = e / e.sum(-1, keepdims=True)
            step = LN2 / 16 if kind in GRID_KINDS else np.abs(x).max() / 127
            limit = 512 if kind in GRID_KINDS else 128
            logits = np.clip(np.rint(x / step), -limit, limit - 1).astype(np.int16)
            scale = None if kind in GRID_KINDS else float(step)
            codes = softmax(logits, kind=kind, output=result, scale=scale).astype(np.int64)
            p = codes / 255 if result == "uint8" else np.where(codes < 15, 0.5**codes, 0)
            error, values = p - exact, rng.normal(size=(length, HEAD))
            outputs = np.linalg.norm(error @ values) / np.linalg.norm(exact @ values)
            found.append(
                (np.abs(error).max(), np.abs(error).mean(), np.sqrt((error**2).mean()), outputs)
            )
    names = ("max_error", "mean_error", "rms_error", "output_error")
    return {n: float(f"{v:.4g}") for n, v in zip(names, np.mean(found, axis=0), strict=True)}


def experiments() -> Iterator[Experiment]:
    """Every row, the most telling ones first."""
    yield from _exponentials()
    yield from _units("uint8", (256,))
    for kind in KINDS:
        for result in RESULTS:
            measure = partial(accuracy, kind, result, ACCURACY_ROWS)
            yield Experiment(f"accuracy/{kind}/{result}", f"{ACCURACY_ROWS} rows", measure)
    yield from _clocks()
    yield from _units("log2_4bit", (256,))
    yield from _units("uint8", LENGTHS[1:])
    yield from _units("log2_4bit", LENGTHS[1:])
    for name, config in CORES.items():
        module = Module.core(config)
        for dsp in (True, False):
            row = f"core/{name}/{_flag(dsp)}"
            yield Experiment(row, module.fingerprint, partial(cells, module, dsp, abc9=False))


def _exponentials() -> Iterator[Experiment]:
    for kind in KINDS:
        for width in (0, *WIDTHS):
            bits = width or (10 if kind in GRID_KINDS else 8)
            module = Module.exponential(exp_parameters(kind, EXP_SCALE, bits))
            for dsp in (False, True):
                part = f"width={width}/" if width else ""
                row = f"exp/{kind}/{part}{_flag(dsp)}"
                yield Experiment(row, module.fingerprint, partial(cells, module, dsp))


def _units(result: str, lengths: Sequence[int]) -> Iterator[Experiment]:
    for lanes in (4, 1, 16):
        for length in lengths:
            for kind in KINDS:
                module = Module.unit(SoftmaxUnit(kind, result, lanes, length))
                for dsp in (False, True):
                    row = f"unit/{kind}/{result}/lanes={lanes}/n={length}/{_flag(dsp)}"
                    yield Experiment(row, module.fingerprint, partial(cells, module, dsp))


def _clocks() -> Iterator[Experiment]:
    for lanes in LANES[:2]:
        for kind in KINDS:
            module = Module.unit(SoftmaxUnit(kind, "uint8", lanes))
            name = f"clock/{kind}/lanes={lanes}"
            yield Experiment(name, module.fingerprint, partial(clock, module, dsp=True))


def _flag(dsp: bool) -> str:
    return "dsp" if dsp else "nodsp"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing and write the reports."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fpga_resources", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--only", default="", help="names that contain this regular expression")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--docs", type=Path, default=Path("docs/fpga.md"))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "fpga_resources.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    rows: dict[str, Row] = {}
    for experiment in experiments():
        row = known.get(experiment.name, {})
        wanted = not options.report and re.search(options.only, experiment.name)
        if row.get("sources") != experiment.sources:
            if not wanted:
                continue
            row = {**experiment.measure(), "sources": experiment.sources}
            print(experiment.name, row, flush=True)
            known[experiment.name] = row
            path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        rows[experiment.name] = row
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(tables(rows), encoding="utf-8")
    plot(rows, path.with_suffix(".svg"))
    if options.docs.is_file():
        text = document(options.docs.read_text(encoding="utf-8"), rows)
        options.docs.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
