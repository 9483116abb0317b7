"""What a GPU host without network or compiler needs to measure: models, operators, right answers.

    python -m benchmarks.gpu_artefacts FOLDER [--arch sm_90] [--models vit_tiny] [--batches 1 64]

Runs on any machine. Every model of every batch size is compiled for the architectures; beside it
lie the integers' logits as the CPU computes them. Inputs are noise that a seed repeats.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm

import hyq_tvm
from benchmarks.gpu_cases import CASES, OpCase
from benchmarks.latency_models import MODELS, quantized
from hyq_tvm import topi
from hyq_tvm.targets import resolve
from hyq_tvm.targets.cuda import CudaTarget, kernel_library
from schedules.application import choose
from schedules.cuda import rules
from schedules.rule import Constant, Kernel, Spec, Workload

INDEX = "index.json"
ANSWERS = "logits.npy"
SEED = 9
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90")


def prepare(
    folder: Path, target: CudaTarget, models: Sequence[str], batches: Sequence[int],
    cases: Sequence[OpCase] = CASES,
) -> None:  # fmt: skip
    """Write the folder; what is in it already is made again."""
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {"models": [], "operators": []}
    for name in models:
        for batch in batches:
            index["models"].append(_model(folder, target, name, batch))
            print(f"{name}, batch {batch}", flush=True)
    for case in cases:
        index["operators"].append(_operator(folder, target, case))
        print(case.name, flush=True)
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _model(folder: Path, target: CudaTarget, name: str, batch: int) -> dict[str, Any]:
    place = f"{name}-b{batch}"
    module = quantized(MODELS[name], batch)
    options = {"kind": "cuda", "arch": list(target.architectures), "graph": target.graph}
    hyq_tvm.compile(module, target=options).save(folder / place)
    answers = hyq_tvm.compile(module)(MODELS[name].images(batch, SEED))
    np.save(folder / f"{place}.{ANSWERS}", answers)
    shape = [batch, *MODELS[name].sample]
    return {"name": name, "batch": batch, "folder": place, "shape": shape, "seed": SEED}


def _operator(folder: Path, target: CudaTarget, case: OpCase) -> dict[str, Any]:
    place = folder / f"op-{case.name}"
    place.mkdir(exist_ok=True)
    kernel = _kernel(case, target)
    function = kernel.function.with_attr("global_symbol", "run")
    kernel_library(tvm.IRModule({"run": function}), target)[0].export(place / "lib.so")
    constants = [a.value for a in kernel.arguments if isinstance(a, Constant)]
    np.savez(place / "constants.npz", *constants)
    passed = ["constant" if isinstance(a, Constant) else a for a in kernel.arguments]
    return {"name": case.name, "folder": place.name, "arguments": passed}


def _kernel(case: OpCase, target: CudaTarget) -> Kernel:
    arrays = case.specs()
    specs = tuple(
        Spec(shape, dtype, None if i in case.data else case.constants()[i - len(case.data)])
        for i, (shape, dtype) in enumerate(arrays)
    )
    function = topi.prim_func(case.op, case.params(), arrays)
    output = list(function.params)[-1].ty
    spec = Spec(tuple(int(n) for n in output.shape), str(output.dtype))
    device = target.device
    workload = Workload(case.op, case.params(), specs, spec, function)
    return choose(workload, device, rules(device))


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arch", nargs="+", default=list(ARCHITECTURES))
    parser.add_argument("--models", nargs="*", default=["mobilevit_s", "vit_tiny"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64])
    chosen = parser.parse_args(arguments)
    target = resolve({"kind": "cuda", "arch": chosen.arch})[1]
    prepare(chosen.folder, target, chosen.models, chosen.batches)


if __name__ == "__main__":
    main()
