"""Resources and clocks of hardware modules, by open synthesis and open place and route."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyq_tvm.vta.arch import VTAConfig
from hyq_tvm.vta.cosim.core import Core
from hyq_tvm.vta.cosim.core import sources as core_sources
from hyq_tvm.vta.cosim.softmax_unit import SoftmaxUnit
from hyq_tvm.vta.cosim.toolchain import run, script, softmax_sources

SYNTHESIS_SECONDS = 3600
CLOCK_TARGET = 300
SEEDS = (1, 2, 3)
LUTRAM = {"RAM32M": 4, "RAM64M": 4, "RAM256X1S": 4, "RAM128X1S": 2, "RAM128X1D": 4}
"""LUTs of a distributed memory; others have one for each 64 bits and port."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Module:
    """A module to synthesise: its name, parameters and files, packages first."""

    top: str
    parameters: Mapping[str, int]
    sources: tuple[Path, ...]

    @classmethod
    def exponential(cls, parameters: Mapping[str, int]) -> Module:
        """The exponential alone, its scale fixed."""
        return cls("hyq_exp_fixed", parameters, tuple(softmax_sources()))

    @classmethod
    def unit(cls, unit: SoftmaxUnit) -> Module:
        """A whole softmax unit."""
        return cls("hyq_softmax", unit.parameters, tuple(softmax_sources()))

    @classmethod
    def core(cls, config: VTAConfig) -> Module:
        """The accelerator."""
        return cls("hyq_core", Core(config).parameters, tuple(core_sources()))

    @property
    def fingerprint(self) -> str:
        """Of everything that figures of it belong to."""
        texts = [path.read_text(encoding="utf-8") for path in self.sources]
        text = "".join([self.top, json.dumps(dict(self.parameters), sort_keys=True), *texts])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def cells(module: Module, dsp: bool, abc9: bool = True) -> Row:
    """LUT (logic, memory and shift registers), FF, DSP and 18-kbit BRAM on a 7-series part.

    abc9: map with delays in mind; too slow for a whole core.
    """
    flags = "-flatten -noiopad" + (" -abc9" if abc9 else "") + ("" if dsp else " -nodsp")
    flow = f"synth_xilinx -family xc7 {flags} -top {module.top}; tee -q -o cells.json stat -json"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _yosys(folder, module, flow)
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
        "bram": total(r"RAMB18.*") + 2 * total(r"RAMB36.*"),
    }


def clock(module: Module, dsp: bool) -> Row:
    """MHz of a module placed and routed on an ECP5-25k of speed 8, best of three seeds."""
    flow = f"synth_ecp5 {'' if dsp else '-nodsp'} -top {module.top} -json netlist.json"
    options = ["--25k", "--speed", "8", "--json", "netlist.json", "--freq", str(CLOCK_TARGET)]
    options += ["--timing-allow-fail", "--out-of-context", "--report", "report.json"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _yosys(folder, module, flow)
        return max((_placed(folder, options, seed) for seed in SEEDS), key=lambda row: row["mhz"])


def _placed(folder: Path, options: Sequence[str], seed: int) -> Row:
    run([*script("nextpnr_ecp5"), *options, "--seed", str(seed)], folder, SYNTHESIS_SECONDS)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    used = {key: entry["used"] for key, entry in report["utilization"].items()}
    return {
        "mhz": round(min(entry["achieved"] for entry in report["fmax"].values()), 1),
        "seed": seed,
        "comb": used["TRELLIS_COMB"],
        "ff": used["TRELLIS_FF"],
        "dsp": used["MULT18X18D"],
        "bram": used["DP16KD"],
    }


def _yosys(folder: Path, module: Module, flow: str) -> None:
    """Run a flow; sources are copied: the tool sees its own folder only."""
    for path in module.sources:
        (folder / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    names = " ".join(path.name for path in module.sources)
    values = " ".join(f"-G {key}={value}" for key, value in module.parameters.items())
    read = f"read_slang {names} --threads 1 --single-unit --top {module.top} {values}"
    run([*script("yosys"), "-q", "-p", f"{read}; {flow}"], folder, SYNTHESIS_SECONDS)
