"""Resources, clock and accuracy of the softmax unit in all its kinds, by open synthesis.

``python -m benchmarks.fpga_resources`` synthesises the exponential alone (scale fixed) and whole
units (scale at run time) for 7-series parts, with and without DSP blocks, places and routes units
for an ECP5, and writes ``fpga_resources.json``, ``.md`` and ``.svg`` into ``--out``. Results that
the JSON file already holds for the same sources are kept; ``--fresh`` makes all again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hyq_tvm.numerics.exponential import GRID_KINDS, LN2
from hyq_tvm.numerics.reference.softmax import softmax
from hyq_tvm.vta.cosim.softmax_unit import KINDS, LANES, RESULTS, SoftmaxUnit, exp_parameters
from hyq_tvm.vta.cosim.toolchain import run, script, softmax_sources

LENGTHS = (16, 64, 256)
EXP_SCALE = 0.05
SYNTHESIS_SECONDS = 1800
CLOCK_TARGET = 300
LUTRAM = {"RAM32M": 4, "RAM64M": 4, "RAM256X1S": 4, "RAM128X1S": 2, "RAM128X1D": 4}
"""LUTs of a distributed memory; others have one for each 64 bits and port."""

Row = dict[str, Any]


def cells(top: str, parameters: Mapping[str, int], dsp: bool) -> Row:
    """LUT (logic, memory and shift registers), FF, DSP and BRAM of a module."""
    flags = "-flatten -noiopad -abc9" + ("" if dsp else " -nodsp")
    flow = f"synth_xilinx -family xc7 {flags} -top {top}; tee -q -o cells.json stat -json"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _yosys(folder, top, parameters, flow)
        report = json.loads((folder / "cells.json").read_text(encoding="utf-8"))
    return count(report["design"]["num_cells_by_type"])


def count(kinds: Mapping[str, int]) -> Row:
    """Sums over Yosys's cell names."""

    def total(pattern: str) -> int:
        return sum(n for kind, n in kinds.items() if re.fullmatch(pattern, kind))

    memory = {k: n for k, n in kinds.items() if re.fullmatch(r"RAM\d+.*", k)}
    lutram = sum(n * LUTRAM.get(k, 2 if k.endswith("D") else 1) for k, n in memory.items())
    return {
        "lut": total(r"LUT\d|SRL.*") + lutram,
        "lutram": lutram,
        "ff": total(r"FD.*"),
        "dsp": total(r"DSP.*"),
        "bram": total(r"RAMB.*"),
    }


def clock(parameters: Mapping[str, int], dsp: bool) -> Row:
    """MHz of a unit placed and routed on an ECP5-25k of speed 8, best of three seeds."""
    flow = f"synth_ecp5 {'' if dsp else '-nodsp'} -top hyq_softmax -json netlist.json"
    options = ["--25k", "--speed", "8", "--json", "netlist.json", "--freq", str(CLOCK_TARGET)]
    options += ["--timing-allow-fail", "--out-of-context", "--report", "report.json"]
    best: Row = {"mhz": 0.0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _yosys(folder, "hyq_softmax", parameters, flow)
        for seed in range(1, 4):
            command = [*script("nextpnr_ecp5"), *options, "--seed", str(seed)]
            run(command, folder, SYNTHESIS_SECONDS)
            report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
            mhz = min(entry["achieved"] for entry in report["fmax"].values())
            used = {key: entry["used"] for key, entry in report["utilization"].items()}
            if mhz > best["mhz"]:
                best = {"mhz": round(mhz, 1), "seed": seed}
                best["comb"], best["ff"] = used["TRELLIS_COMB"], used["TRELLIS_FF"]
                best["dsp"], best["bram"] = used["MULT18X18D"], used["DP16KD"]
    return best


def _yosys(folder: Path, top: str, parameters: Mapping[str, int], flow: str) -> None:
    """Run a flow on ``top``; sources are copied: the tool sees its own folder only."""
    names = []
    for path in softmax_sources():
        (folder / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        names.append(path.name)
    values = " ".join(f"-G {key}={value}" for key, value in parameters.items())
    read = f"read_slang {' '.join(names)} --threads 1 --single-unit --top {top} {values}"
    run([*script("yosys"), "-q", "-p", f"{read}; {flow}"], folder, SYNTHESIS_SECONDS)


def accuracy(kind: str, result: str, rows: int, seed: int = 0) -> Row:
    """Errors of probabilities over N = 16, 64, 256 and logits N(0, s), s = 1, 2.5, 5.

    Kinds on the grid take 10 bits of it; the others 8-bit logits whose scale spans their range.
    """
    worst, mean = [], []
    rng = np.random.default_rng(seed)
    for length in LENGTHS:
        for sigma in (1.0, 2.5, 5.0):
            x = rng.normal(size=(rows, length)) * sigma
            e = np.exp(x - x.max(-1, keepdims=True))
            step = LN2 / 16 if kind in GRID_KINDS else np.abs(x).max() / 127
            limit = 512 if kind in GRID_KINDS else 128
            logits = np.clip(np.rint(x / step), -limit, limit - 1).astype(np.int16)
            scale = None if kind in GRID_KINDS else float(step)
            codes = softmax(logits, kind=kind, output=result, scale=scale).astype(np.int64)
            p = codes / 255 if result == "uint8" else np.where(codes < 15, 0.5**codes, 0)
            error = np.abs(p - e / e.sum(-1, keepdims=True))
            worst.append(error.max())
            mean.append(error.mean())
    return {"max_error": round(float(np.mean(worst)), 4), "mean_error": float(np.mean(mean))}


def experiments(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """``(name, function that measures)`` of every row."""
    for kind in KINDS:
        for dsp in (False, True):
            bits = 10 if kind in GRID_KINDS else 8
            parameters = exp_parameters(kind, EXP_SCALE, bits)
            yield (
                f"exp/{kind}/{'dsp' if dsp else 'nodsp'}",
                lambda p=parameters, d=dsp: cells("hyq_exp_fixed", p, d),
            )
    for unit in _units(options):
        name = f"{unit.kind}/{unit.result}/lanes={unit.lanes}/n={unit.length}"
        for dsp in (False, True):
            yield (
                f"unit/{name}/{'dsp' if dsp else 'nodsp'}",
                lambda u=unit, d=dsp: cells("hyq_softmax", u.parameters, d),
            )
    for lanes in options.lanes:
        for kind in options.clocks:
            unit = SoftmaxUnit(kind, "uint8", lanes)
            yield f"clock/{kind}/lanes={lanes}", lambda u=unit: clock(u.parameters, u.lanes < 16)
    for kind in KINDS:
        for result in RESULTS:
            yield (
                f"accuracy/{kind}/{result}",
                lambda k=kind, r=result: accuracy(k, r, options.rows),
            )


def _units(options: argparse.Namespace) -> Iterator[SoftmaxUnit]:
    for result in options.results:
        for length in options.lengths:
            for lanes in options.lanes:
                for kind in options.kinds:
                    yield SoftmaxUnit(kind, result, lanes, length)


def fingerprint() -> str:
    """Of the sources that the figures belong to."""
    text = "".join(path.read_text(encoding="utf-8") for path in softmax_sources())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def table(rows: Mapping[str, Row]) -> str:
    """The rows as Markdown: ratios are poly2's over the row's, everything else equal."""
    lines = ["| module | lut | ff | dsp | bram | lut x | ff x |", "|---" * 7 + "|"]
    for name, row in rows.items():
        if "lut" in row:
            base = rows.get(re.sub(r"/(poly2|linear_pot|linear|table)/", "/poly2/", name), row)
            ratios = [f"{base[key] / max(row[key], 1):.2f}" for key in ("lut", "ff")]
            values = [str(row[key]) for key in ("lut", "ff", "dsp", "bram")]
            lines.append(f"| {name} | {' | '.join(values + ratios)} |")
    lines += ["", "| unit on ECP5-25k | MHz | comb | ff | mult | bram |", "|---" * 6 + "|"]
    for name, row in rows.items():
        if "mhz" in row:
            values = [str(row[key]) for key in ("mhz", "comb", "ff", "dsp", "bram")]
            lines.append(f"| {name} | {' | '.join(values)} |")
    lines += ["", "| probabilities | max error | mean error |", "|---" * 3 + "|"]
    for name, row in rows.items():
        if "max_error" in row:
            lines.append(f"| {name} | {row['max_error']:.4f} | {row['mean_error']:.2e} |")
    return "\n".join((*lines, ""))


def plot(rows: Mapping[str, Row], path: Path) -> None:
    """LUTs of whole units without DSP blocks, N = 256, uint8."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5))
    for axis, key in zip(axes, ("lut", "ff"), strict=True):
        for index, kind in enumerate(KINDS):
            found = [(n, rows.get(f"unit/{kind}/uint8/lanes={n}/n=256/nodsp")) for n in LANES]
            bars = [(position, row[key]) for position, (_, row) in enumerate(found) if row]
            axis.bar([p + 0.2 * index for p, _ in bars], [v for _, v in bars], 0.2, label=kind)
        axis.set_xticks([p + 0.3 for p in range(len(LANES))], [f"{n} lanes" for n in LANES])
        axis.set_ylabel(key.upper())
        axis.set_yscale("log")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing and write the reports."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fpga_resources", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--results", nargs="+", choices=RESULTS, default=list(RESULTS))
    parser.add_argument("--lanes", nargs="+", type=int, default=list(LANES))
    parser.add_argument("--lengths", nargs="+", type=int, default=list(LENGTHS))
    parser.add_argument("--clocks", nargs="*", choices=KINDS, default=["linear_pot"])
    parser.add_argument("--rows", type=int, default=600, help="rows a case of accuracy")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--fresh", action="store_true", help="measure again what is known")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "fpga_resources.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    fresh = options.fresh or known.get("sources") != fingerprint()
    rows: dict[str, Row] = {} if fresh else known["rows"]
    for name, measure in experiments(options):
        if name not in rows:
            rows[name] = measure()
            print(name, rows[name], flush=True)
            state = {"sources": fingerprint(), "rows": rows}
            path.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(rows), encoding="utf-8")
    plot(rows, path.with_suffix(".svg"))


if __name__ == "__main__":
    main()
