"""Milliseconds and utilisation of whole models on the VTA accelerator, by its cycle model.

``python -m benchmarks.vta_cycles [models...] [--out FOLDER] [--layers N] [--record FILE]`` prints a
table of models and, for each, its most expensive layers; it writes a timeline picture of each and
``vta_cycles.json``. Cycles do not depend on the weights, so these are random. The seconds that the
functional simulator takes of one processor for an image are the best of a few. ``--tune MINUTES
--records FOLDER`` searches tile sizes for so long a model and adds the model with what was found.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import hyq_tvm
from benchmarks.real_models import UnavailableError, import_timm
from hyq_tvm.quantization.config import QuantConfig
from hyq_tvm.targets.vta_records import chooser
from hyq_tvm.vta.arch import DEFAULT, VTAConfig
from hyq_tvm.vta.codegen import compile_operations
from hyq_tvm.vta.codegen.compile import HOST
from hyq_tvm.vta.picture import timeline
from hyq_tvm.vta.profile import LayerProfile, profile, table
from hyq_tvm.vta.program import Program
from hyq_tvm.vta.simulator import Simulator
from hyq_tvm.vta.timing import Timing, time_program
from relay_passes.read_program import read_program

MODELS = {
    "mobilevit_xxs": ("mobilevit_xxs", 256),
    "mobilevit_xs": ("mobilevit_xs", 256),
    "mobilevit_s": ("mobilevit_s", 256),
    "vit_tiny": ("vit_tiny_patch16_224", 224),
}
CLOSE_UP_CYCLES = 60_000
SIMULATIONS = 4


@dataclass(frozen=True, eq=False)
class Measured:
    """A model's program and schedule, and the simulator's seconds for an image."""

    name: str
    program: Program
    timing: Timing
    seconds: float

    def row(self) -> dict[str, Any]:
        """Plain data for the table and the file."""
        busy = self.timing.busy
        return {
            "model": self.name,
            "milliseconds": round(self.timing.milliseconds, 3),
            "cycles": self.timing.cycles,
            "gemm_cycles": busy.get("GEMM", 0),
            "vector_cycles": busy.get("VECTOR", 0),
            "softmax_cycles": busy.get("SOFTMAX", 0),
            "gemm_utilisation": round(self.timing.product_utilisation, 4),
            "utilisation": round(self.timing.utilisation, 4),
            "instructions": len(self.program.words),
            "dram_mib": round(self.program.dram_bytes / 2**20, 2),
            "simulator_seconds": float(f"{self.seconds:.3g}"),
        }


def quantized(name: str) -> Any:
    """A model of timm with random weights, quantized on two random images."""
    architecture, size = MODELS[name]
    torch.manual_seed(0)
    model = import_timm().create_model(architecture, pretrained=False).eval()
    images = np.random.default_rng(5).normal(size=(2, 3, size, size)).astype(np.float32)
    module = hyq_tvm.from_torch(model, (torch.tensor(images[:1]),))
    return hyq_tvm.quantize(module, images, QuantConfig(), progress=False)


def measure(name: str, module: Any, config: VTAConfig, records: Path | None = None) -> Measured:
    """Compile a quantized module, with the tile sizes of ``records``, and schedule it."""
    program = read_program(module)
    operations = [o for o in program.instructions if o.op not in HOST]
    choose = chooser(records, config)
    made = compile_operations(operations, [operations[-1].name], config, choose=choose)
    return Measured(name, made, time_program(made), simulated(made))


def tuned(name: str, module: Any, config: VTAConfig, records: Path, minutes: float) -> Measured:
    """The same with tile sizes that were searched for."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.json"
        record.write_text(config.to_json(), encoding="utf-8")
        target = {"kind": "vta", "record": str(record)}
        hyq_tvm.tune(module, target, records, minutes, progress=False)
    return measure(f"{name}_tuned", module, config, records)


def random_inputs(program: Program) -> dict[str, NDArray[Any]]:
    """Images of small integers."""
    rng = np.random.default_rng(0)
    return {
        key: rng.integers(-100, 100, place.shape).astype(place.dtype)
        for key, place in program.places("input").items()
    }


def simulated(program: Program) -> float:
    """Processor seconds of the functional simulator for an image, the best of ``SIMULATIONS``."""
    simulator, inputs = Simulator(program.config), random_inputs(program)
    found = []
    for _ in range(SIMULATIONS):
        started = time.process_time()
        simulator.run(program, inputs)
        found.append(time.process_time() - started)
    return min(found)


def costly(layers: Sequence[LayerProfile], count: int) -> list[LayerProfile]:
    """The layers that take the most cycles, in the program's order."""
    chosen = sorted(layers, key=lambda layer: -layer.cycles)[:count]
    return [layer for layer in layers if layer in chosen]


def show(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def write(measured: Measured, folder: Path) -> None:
    """The whole timeline, and the busiest stretch of its middle."""
    timing, layers = measured.timing, measured.program.layers
    folder.mkdir(parents=True, exist_ok=True)
    whole = timeline(timing, layers=layers)
    folder.joinpath(f"vta_{measured.name}.svg").write_text(whole, encoding="utf-8")
    middle = timing.cycles // 2
    part = timeline(timing, middle, middle + CLOSE_UP_CYCLES, layers)
    folder.joinpath(f"vta_{measured.name}_part.svg").write_text(part, encoding="utf-8")


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", default=["mobilevit_xxs", "mobilevit_s"])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--record", type=Path, help="an architecture record (default: DEFAULT)")
    parser.add_argument("--tune", type=float, metavar="MINUTES", help="of each model")
    parser.add_argument("--records", type=Path, default=Path("records"), help="for --tune")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.models) - set(MODELS))
    if unknown:
        parser.error(f"unknown models {unknown}; choose from {list(MODELS)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = options_of(arguments)
    config = VTAConfig.load(options.record) if options.record else DEFAULT
    results = []
    for name in options.models:
        try:
            module = quantized(name)
        except UnavailableError as error:
            print(f"{name}: skipped, {error}", file=sys.stderr)
            continue
        measured = measure(name, module, config)
        results.append(measured.row())
        write(measured, options.out)
        if options.tune is not None:
            folder = options.records / name
            results.append(tuned(name, module, config, folder, options.tune).row())
        layers = profile(measured.program, measured.timing)
        print(f"\n{name}: {measured.timing.milliseconds:.2f} ms at {config.clock_mhz} MHz")
        print(show(table(costly(layers, options.layers))))
    if not results:
        return 1
    heading = list(results[0])
    print("\n" + show([heading, *([str(v) for v in row.values()] for row in results)]))
    text = json.dumps({"config": json.loads(config.to_json()), "results": results}, indent=1)
    options.out.joinpath("vta_cycles.json").write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
