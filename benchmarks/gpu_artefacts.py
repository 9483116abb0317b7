"""What a GPU host without network or compiler needs to measure: models, operators, right answers.

    python -m benchmarks.gpu_artefacts FOLDER [--arch sm_90] [--models vit_tiny] [--batches 1 64]

Runs on any machine. Every model of every batch size is compiled for the architectures; beside it
lie the integers' logits as the CPU computes them, TVM's own fp16 build where nvcc is installed,
candidates for tuning (for the first architecture alone), and TVM's runtime libraries. Inputs are
noise that a seed repeats. ``CARRY.md`` in the folder lists what else a host needs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tvm

import hyq_tvm
from benchmarks import gpu_tvm
from benchmarks.gpu_cases import CASES, OpCase
from benchmarks.gpu_peers import MissingPeerError
from benchmarks.latency_models import MODELS, quantized
from hyq_tvm import cuda_device, runtime, topi
from hyq_tvm.artifact import package_versions
from hyq_tvm.targets import resolve
from hyq_tvm.targets.cuda import CudaTarget, kernel_library
from hyq_tvm.tuning import gpu, rounds
from schedules.application import choose
from schedules.cuda import rules
from schedules.rule import Constant, Kernel, Spec, Workload

INDEX = "index.json"
ANSWERS = "logits.npy"
SEED = 9
ROUND = "round"
RUNTIME = "runtime"
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90")


@dataclass(frozen=True)
class Wanted:
    """What to prepare. candidates: how many for tuning; peers: TVM's fp16 builds too."""

    models: Sequence[str] = ("mobilevit_s", "mobilevit_xxs", "vit_tiny")
    batches: Sequence[int] = (1, 64)
    cases: Sequence[OpCase] = CASES
    candidates: int = 96
    peers: bool = True


def prepare(folder: Path, target: CudaTarget, wanted: Wanted = Wanted()) -> None:
    """Write the folder; what is in it already is made again."""
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {"models": [], "operators": [], "peers": []}
    for case in wanted.cases:
        index["operators"].append(_operator(folder, target, case))
        index["operators"][-1]["peers"] = _softmax(folder, target, case) if wanted.peers else []
        print(case.name, flush=True)
    for name in wanted.models:
        for batch in wanted.batches:
            index["models"].append(_model(folder, target, name, batch))
            print(f"{name}, batch {batch}", flush=True)
    if wanted.candidates and wanted.models:
        index["round"] = _round(folder, target, wanted)
    for name, batch in product(wanted.models, wanted.batches) if wanted.peers else ():
        index["peers"].append(_peer(folder, target, name, batch))
    index["runtime"] = _runtime(folder)
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    (folder / "CARRY.md").write_text(_carry(folder), encoding="utf-8")


def _softmax(folder: Path, target: CudaTarget, case: OpCase) -> list[dict[str, str]]:
    """Exact softmax in fp32 and fp16 beside a linear one; nothing beside other operators."""
    found = []
    for dtype in ("float32", "float16") if case.op == "softmax" else ():
        entry = {"folder": f"tvm-{dtype}-{case.name}", "dtype": dtype, "error": ""}
        try:
            gpu_tvm.export(gpu_tvm.softmax(case.shape, dtype), target, folder / entry["folder"])
        except MissingPeerError as error:
            entry["error"] = str(error)
        found.append(entry)
    return found


def _round(folder: Path, target: CudaTarget, wanted: Wanted) -> str:
    """Candidates of all models at the first batch size, for the first architecture."""
    place = folder / ROUND
    shutil.rmtree(place, ignore_errors=True)
    one = replace(target, architectures=target.architectures[:1])
    found = {
        task.key: task
        for name in wanted.models
        for task in gpu.extract(quantized(MODELS[name], wanted.batches[0]), one)
    }
    with tempfile.TemporaryDirectory() as records:
        log = Path(records)
        count = rounds.prepare(list(found.values()), log, place, wanted.candidates, one)
    print(f"{count} candidates of {len(found)} workloads", flush=True)
    return ROUND


def _peer(folder: Path, target: CudaTarget, name: str, batch: int) -> dict[str, Any]:
    """TVM's own build, or why there is none."""
    place = f"tvm-fp16-{name}-b{batch}"
    entry = {"name": name, "batch": batch, "folder": place, "error": ""}
    try:
        gpu_tvm.build(name, batch, target, folder / place)
    except MissingPeerError as error:
        entry["error"] = str(error)
    print(f"{place}: {entry['error'] or 'built'}", flush=True)
    return entry


def _runtime(folder: Path) -> list[str]:
    """TVM's libraries beside the artefacts."""
    place = folder / RUNTIME
    place.mkdir(exist_ok=True)
    names = [*runtime.LIBRARIES, cuda_device.LIBRARY]
    for name in names:
        shutil.copyfile(runtime.library_folder() / name, place / name)
    return names


def _carry(folder: Path) -> str:
    """What to take to a host without network."""
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    versions = "\n".join(f"  {name}=={found}" for name, found in package_versions().items())
    return f"""# To carry

* this folder ({size:.0f} MiB)
* `hyq_tvm` and `benchmarks` of the repository (`git archive HEAD hyq_tvm benchmarks`)
* wheels for the host's Python (`pip download`): numpy, apache-tvm-ffi of the version below,
  nvidia-cuda-runtime where CUDA 13 is not installed; matplotlib for the picture
* the driver is there already, r580 or later; PyTorch's peers are measured where PyTorch is

Made with
{versions}

On the host:

    python -m benchmarks.gpu_suite {folder.name} --output gpu-results
"""


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
    parser.add_argument("--models", nargs="*", default=list(Wanted.models))
    parser.add_argument("--batches", nargs="+", type=int, default=list(Wanted.batches))
    parser.add_argument("--candidates", type=int, default=Wanted.candidates)
    parser.add_argument("--no-peers", action="store_true")
    chosen = parser.parse_args(arguments)
    target = resolve({"kind": "cuda", "arch": chosen.arch})[1]
    wanted = Wanted(
        chosen.models, chosen.batches, CASES, chosen.candidates, peers=not chosen.no_peers
    )
    prepare(chosen.folder, target, wanted)


if __name__ == "__main__":
    main()
