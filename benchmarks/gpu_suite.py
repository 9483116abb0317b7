"""Everything there is to measure on a GPU host, in one JSON file, one report and its pictures.

    python -m benchmarks.gpu_suite FOLDER [--minutes 10] [--output gpu-results] [--check]

FOLDER is what ``python -m benchmarks.gpu_artefacts`` wrote, here or elsewhere. Needs no network, no
compiler and no TVM package (docs/cuda.md says what it does need); without PyTorch its peers are
left out, and the record says so. Models must make the CPU's logits and operators the golden
model's integers; times are of calls whose inputs lie on the GPU already, the host's share beside
them. Every section has its share of the minutes, and peers that may take long are processes that
end with theirs: what does not fit is named as skipped. ``--check`` does everything but launch, on
any machine.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import gpu_check, gpu_peers, gpu_report
from benchmarks.gpu_cases import BY_NAME, OpCase
from hyq_tvm import cuda_device, gpu_timing, numerics, runtime
from hyq_tvm.errors import HyqError, TargetError
from hyq_tvm.executable import MAIN, load

_CHECKED = 256
_SECONDS = 1.0
SHARES = {"operators": 0.1, "models": 0.15, "tuning": 0.25, "operator peers": 0.1,
          "model peers": 0.4}  # fmt: skip
"""Of the minutes; what a section leaves, the next ones have."""


class Clock:
    """What is left of the minutes, section by section."""

    def __init__(self, minutes: float) -> None:
        self._started = time.monotonic()
        self._seconds = 60 * minutes
        self._share = 0.0

    def start(self, section: str) -> None:
        """The next section, which ends with its share."""
        self._share += SHARES[section]

    @property
    def left(self) -> float:
        """Seconds of the section."""
        return self._started + self._share * self._seconds - time.monotonic()


def run(
    folder: Path, minutes: float, cases: Mapping[str, OpCase] = BY_NAME, peers: bool = True
) -> dict[str, Any]:
    """The record; an item that fails holds its error. Raises ``TargetError`` without a GPU."""
    clock = Clock(minutes)
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    record: dict[str, Any] = {"host": _host(), "minutes": minutes, "operators": [], "models": []}
    clock.start("operators")
    for entry in index["operators"]:
        record["operators"].append(_item(clock, entry, lambda e=entry: _operator(folder, e, cases)))
    clock.start("models")
    for entry in index["models"]:
        record["models"].append(_item(clock, entry, lambda e=entry: _model(folder, e)))
    clock.start("tuning")
    record["tuning"] = _tuning(clock, folder / index["round"] if "round" in index else None)
    if peers:
        clock.start("operator peers")
        _operator_peers(clock, folder, record["operators"], index, cases)
        clock.start("model peers")
        for entry in record["models"]:
            entry["peers"] = _model_peers(clock, folder, entry, index)
    return record


def _item(clock: Clock, entry: Mapping[str, Any], measure: Callable[[], dict[str, Any]]) -> Any:
    named = {key: entry[key] for key in ("name", "batch") if key in entry}
    if clock.left <= 0:
        return {**named, "skipped": "out of time"}
    try:
        return {**named, **measure()}
    except HyqError as error:
        return {**named, "error": str(error)}


def _model(folder: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    exe = load(folder / entry["folder"])
    noise = np.random.default_rng(entry["seed"]).standard_normal(entry["shape"])
    images = noise.astype(np.float32)
    wanted = np.load(folder / f"{entry['folder']}.logits.npy")
    equal = bool(np.array_equal(exe(images), wanted))
    host = exe.latency(images, calls=20)
    seconds = _repeated(lambda calls: _resident(exe, images, calls))
    return {"exact": equal, "seconds": seconds, "host_to_host_seconds": host.median / 1e3}


def _resident(exe: Any, images: NDArray[np.float32], calls: int) -> float:
    machine = exe._machine
    return float(machine.seconds_per_call(MAIN, [images], calls))


def _operator(
    folder: Path, entry: Mapping[str, Any], cases: Mapping[str, OpCase]
) -> dict[str, Any]:
    case = cases[entry["name"]]
    place = folder / entry["folder"]
    library = place / "lib.so"
    code = cuda_device.code_of(cuda_device.cubins_beside(library))
    function = cuda_device.load_library(library, code)["run"]
    inputs = case.inputs()
    with np.load(place / "constants.npz") as stored:
        constants = iter([stored[key] for key in stored.files])
        arrays = [
            next(constants) if number == "constant" else [*inputs, *case.constants()][number]
            for number in entry["arguments"]
        ]
    dtype = "int8" if case.depth else "uint8"
    tensors = [cuda_device.on_gpu(array) for array in arrays]
    out = cuda_device.empty(case.shape, dtype)

    def call(calls: int) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            function(*tensors, out)
        # A small tensor fetched behind everything else on the stream waits for it.
        cuda_device.download(tensors[-1] if tensors[-1].shape[0] < _CHECKED else out)
        return (time.perf_counter() - started) / calls

    call(1)
    exact = _is_exact(case, inputs, cuda_device.download(out))
    return {"exact": exact, "seconds": _repeated(call)}


def _is_exact(case: OpCase, inputs: Sequence[NDArray[Any]], made: NDArray[Any]) -> bool:
    """Of the first and the last samples, as many as the golden model does in seconds."""
    for part in (slice(None, 2), slice(-2, None)):
        arguments = [array[part] for array in inputs]
        wanted = numerics.OPERATORS[case.op](*arguments, *case.constants(), **case.params())
        if not np.array_equal(made[part], wanted):
            return False
    return True


def _repeated(measure: Callable[[int], float]) -> float:
    """The least of five means, each over calls that fill a fifth of a second."""
    once = measure(3)
    calls = max(3, min(2000, round(_SECONDS / 5 / max(once, 1e-6))))
    return min(measure(calls) for _ in range(5))


def _tuning(clock: Clock, place: Path | None) -> dict[str, Any]:
    """What the best candidates gain over the rules' own choices, and how far it went."""
    found: dict[str, Any] = {"candidates": 0, "measured": 0, "failed": 0, "note": "",
                             "workloads": []}  # fmt: skip
    if place is None:
        return {**found, "note": "no candidates were prepared"}
    try:
        index = gpu_timing.read_index(place)
        records = list(gpu_timing.measure_some(place, lambda: clock.left > 0))
    except HyqError as error:
        return {**found, "note": str(error)}
    failures = [r["error"] for r in records if r["seconds"] is None]
    found["candidates"], found["measured"] = len(index["candidates"]), len(records)
    found["failed"], found["note"] = len(failures), "; ".join(sorted(set(failures))[:3])
    own = {c["record"]["workload"]: c["record"] for c in reversed(index["candidates"])}
    for workload, first in own.items():
        ran = [r for r in records if r["workload"] == workload and r["seconds"] is not None]
        mine = [r["seconds"] for r in ran if r["choice"] == first["choice"]]
        if mine:
            best = min(ran, key=lambda r: float(r["seconds"]))
            found["workloads"].append(
                {"workload": workload, "rule": first["rule"], "own": min(mine),
                 "best": best["seconds"], "choice": best["choice"]}
            )  # fmt: skip
    return found


def _operator_peers(
    clock: Clock,
    folder: Path,
    entries: Sequence[dict[str, Any]],
    index: Mapping[str, Any],
    cases: Mapping[str, OpCase],
) -> None:
    """One process for all of PyTorch, and one for each of TVM's; what is not reached is skipped."""
    wanted = json.dumps([asdict(cases[entry["name"]]) for entry in entries])
    answers, reason = gpu_peers.ask(["operators", wanted, str(_SECONDS)], clock.left)
    for i, entry in enumerate(entries):
        entry["peers"] = answers[i] if i < len(answers) else {"PyTorch": f"skipped: {reason}"}
        for peer in index["operators"][i]["peers"]:
            name, shape = f"TVM softmax {peer['dtype']}", cases[entry["name"]].shape
            entry["peers"] |= _tvm(clock, folder, name, peer, shape)


def _model_peers(
    clock: Clock, folder: Path, entry: Mapping[str, Any], index: Mapping[str, Any]
) -> dict[str, Any]:
    """TVM's own build, then torch.compile, each in a process that ends with the section."""
    name, batch = entry["name"], entry["batch"]
    own = [p for p in index["peers"] if (p["name"], p["batch"]) == (name, batch)]
    found: dict[str, Any] = {}
    for peer in own:
        shape = next(m["shape"] for m in index["models"] if m["folder"] == f"{name}-b{batch}")
        found |= _tvm(clock, folder, gpu_peers.TVM, {**peer, "dtype": "float32"}, shape)
    return found | _asked(clock, gpu_peers.TORCH, ["model", name, str(batch), str(_SECONDS)], "")


def _tvm(
    clock: Clock, folder: Path, name: str, peer: Mapping[str, str], shape: Sequence[int]
) -> dict[str, Any]:
    place = str(folder / peer["folder"])
    command = ["tvm", name, place, peer["dtype"], json.dumps(shape), str(_SECONDS)]
    return _asked(clock, name, command, peer["error"])


def _asked(clock: Clock, peer: str, command: Sequence[str], error: str) -> dict[str, Any]:
    answers, reason = ([], error) if error else gpu_peers.ask(command, clock.left)
    return answers[0] if answers else {peer: f"skipped: {reason}"}


def _host() -> dict[str, str]:
    """Date, card, driver and clocks."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    facts = {"date": now, "architecture": cuda_device.architecture()}
    fields = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return {**facts, "card": f"nvidia-smi failed: {error}"}
    values = done.stdout.splitlines()[0].split(", ")
    return {**facts, **dict(zip(fields.split(","), values, strict=True))}


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module; ends with an error where a result was not exact."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--output", type=Path, default=Path("gpu-results"))
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--check", action="store_true", help="launch nothing")
    chosen = parser.parse_args(arguments)
    if not (chosen.folder / "index.json").is_file():
        raise SystemExit(f"{chosen.folder} is empty: python -m benchmarks.gpu_artefacts makes it")
    if chosen.check:
        wrong = gpu_check.check(chosen.folder)
        if wrong:
            raise SystemExit("\n".join(wrong))
        print(f"{chosen.folder} is complete")
        return
    _find_runtime(chosen.folder)
    try:
        record = run(chosen.folder, chosen.minutes, peers=not chosen.no_peers)
    except HyqError as error:
        raise SystemExit(str(error)) from error
    write(record, chosen.output, chosen.folder)
    items = [*record["operators"], *record["models"]]
    wrong = [entry["name"] for entry in items if "error" in entry or not entry.get("exact", True)]
    if wrong:
        raise SystemExit(f"failed or not exact: {', '.join(wrong)}")


def _find_runtime(folder: Path) -> None:
    """TVM's libraries that were carried, where none are installed."""
    try:
        runtime.library_folder()
    except TargetError:
        os.environ[runtime.FOLDER_VARIABLE] = str((folder / "runtime").resolve())


def write(record: Mapping[str, Any], output: Path, folder: Path) -> None:
    """The record, the report, the pictures and the tuning records."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "gpu.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    text = gpu_report.report(record)
    (output / "gpu.md").write_text(text, encoding="utf-8")
    gpu_report.plot(record, output)
    measured = folder / "round" / gpu_timing.RESULTS
    if measured.is_file():
        (output / "records").mkdir(exist_ok=True)
        shutil.copyfile(measured, output / "records" / gpu_timing.RESULTS)
    print(text)


if __name__ == "__main__":
    main()
