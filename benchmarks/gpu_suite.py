"""Everything there is to measure on a GPU host, in one JSON file, one report and one picture.

    python -m benchmarks.gpu_suite FOLDER [--minutes 10] [--output gpu-results]

FOLDER is what ``python -m benchmarks.gpu_artefacts`` wrote, here or elsewhere. Needs no network, no
compiler and no TVM package (docs/cuda.md says what it does need); without PyTorch the peers are
left out, and the record says so. Models must make the CPU's logits and operators the golden
model's integers; times are of calls whose inputs lie on the GPU already, the host's share beside
them. What does not fit the minutes is named as skipped.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import gpu_peers
from benchmarks.gpu_cases import BY_NAME, OpCase
from hyq_tvm import cuda_device, numerics
from hyq_tvm.errors import HyqError
from hyq_tvm.executable import MAIN, load

_CHECKED = 256
_SECONDS = 1.0


class Clock:
    """What is left of the minutes."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes

    def over(self) -> bool:
        """Whether nothing new should start."""
        return time.monotonic() > self._end


def run(
    folder: Path, minutes: float, cases: Mapping[str, OpCase] = BY_NAME, peers: bool = True
) -> dict[str, Any]:
    """The record; an item that fails holds its error. Raises ``TargetError`` without a GPU."""
    clock = Clock(minutes)
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    record: dict[str, Any] = {"host": _host(), "models": [], "operators": []}
    for entry in index["operators"]:
        record["operators"].append(_item(clock, entry, lambda e=entry: _operator(folder, e, cases)))
    for entry in index["models"]:
        record["models"].append(_item(clock, entry, lambda e=entry: _model(folder, e)))
    for entry in [*record["operators"], *record["models"]] if peers else []:
        entry["peers"] = _peers(clock, entry, cases)
    record["tuning"] = "the rules for GPUs have no choices to search in this version"
    return record


def _item(clock: Clock, entry: Mapping[str, Any], measure: Callable[[], dict[str, Any]]) -> Any:
    named = {key: entry[key] for key in ("name", "batch") if key in entry}
    if clock.over():
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


def _peers(clock: Clock, entry: Mapping[str, Any], cases: Mapping[str, OpCase]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "batch" in entry:
        name, batch = entry["name"], entry["batch"]
        wanted = [
            ("torch.compile fp16", lambda s: gpu_peers.model_seconds(name, batch, s)),
        ]
    else:
        wanted = list(gpu_peers.peers_of(cases[entry["name"]]))
    for peer, measure in wanted:
        if clock.over():
            found[peer] = "skipped: out of time"
            continue
        try:
            found[peer] = measure(_SECONDS)
        except (gpu_peers.MissingPeerError, RuntimeError) as error:
            found[peer] = f"skipped: {str(error).splitlines()[0]}"
    return found


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


def report(record: Mapping[str, Any]) -> str:
    """The record as Markdown."""
    lines = ["# Measured on a GPU", ""]
    lines += [f"* {key}: {value}" for key, value in record["host"].items()]
    lines += [f"* tuning: {record['tuning']}", ""]
    lines += ["| what | exact | microseconds | peer | its microseconds | times faster |",
              "|---|---|---|---|---|---|"]  # fmt: skip
    for entry in [*record["operators"], *record["models"]]:
        name = f"{entry['name']}, batch {entry['batch']}" if "batch" in entry else entry["name"]
        if "seconds" not in entry:
            lines.append(f"| {name} | {entry.get('error') or entry['skipped']} | | | | |")
            continue
        own, exact = entry["seconds"], "yes" if entry["exact"] else "NO"
        start = f"| {name} | {exact} | {own * 1e6:.1f} |"
        lines += [_peer_line(start, p, t, own) for p, t in entry.get("peers", {}).items()] or [
            f"{start} | | |"
        ]
    return "\n".join(lines) + "\n"


def _peer_line(start: str, peer: str, seconds: float | str, own: float) -> str:
    if isinstance(seconds, str):
        return f"{start} {peer} | {seconds} | |"
    return f"{start} {peer} | {seconds * 1e6:.1f} | {seconds / own:.2f} |"


def plot(record: Mapping[str, Any], path: Path) -> bool:
    """Bars of every time that was measured; False without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    bars = []
    for entry in [*record["operators"], *record["models"]]:
        name = f"{entry['name']} b{entry['batch']}" if "batch" in entry else entry["name"]
        times = {"hyq_tvm": entry.get("seconds"), **entry.get("peers", {})}
        bars += [(f"{name}: {k}", t) for k, t in times.items() if isinstance(t, float)]
    figure = Figure(figsize=(9, 1 + 0.3 * len(bars)), layout="constrained")
    axes = figure.subplots()
    axes.barh([label for label, _ in bars], [1e6 * t for _, t in bars])
    axes.set_xlabel("microseconds")
    axes.invert_yaxis()
    figure.savefig(path)
    return True


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module; ends with an error where a result was not exact."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--output", type=Path, default=Path("gpu-results"))
    parser.add_argument("--no-peers", action="store_true")
    chosen = parser.parse_args(arguments)
    if not (chosen.folder / "index.json").is_file():
        raise SystemExit(f"{chosen.folder} is empty: python -m benchmarks.gpu_artefacts makes it")
    try:
        record = run(chosen.folder, chosen.minutes, peers=not chosen.no_peers)
    except HyqError as error:
        raise SystemExit(str(error)) from error
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / "gpu.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    text = report(record)
    (chosen.output / "gpu.md").write_text(text, encoding="utf-8")
    plot(record, chosen.output / "gpu.svg")
    print(text)
    items = [*record["operators"], *record["models"]]
    wrong = [entry["name"] for entry in items if "error" in entry or not entry.get("exact", True)]
    if wrong:
        raise SystemExit(f"failed or not exact: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
