"""How benchmarks measure: in turns, after warm-up, minimum and median, with all versions.

Whatever is compared is called in turns within one process, so that a busy machine slows all of it;
of many repetitions the minimum is what the code takes and the median what a user sees.
"""

from __future__ import annotations

import importlib.metadata
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm

Measure = Callable[[], float]
"""Seconds of one call, measured now."""

PACKAGES = ("apache-tvm", "apache-tvm-ffi", "torch", "timm", "numpy", "onnxruntime", "openvino",
            "nncf")  # fmt: skip


@dataclass(frozen=True)
class Timing:
    """Seconds of one call; ``turns``: how many measurements they come from."""

    minimum: float
    median: float
    turns: int


def wall(call: Callable[[], object], milliseconds: float = 2.0) -> Measure:
    """The clock around as many calls as fill ``milliseconds``; at least one, found by trying.

    A call before them is not timed: it finds the caches cold and other runtimes' threads, which
    wait for work in busy loops, still awake.
    """
    call()
    start = time.perf_counter()
    call()
    once = max(time.perf_counter() - start, 1e-7)
    count = max(1, round(milliseconds / 1e3 / once))

    def measure() -> float:
        call()
        begin = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - begin) / count

    return measure


def kernel(module: Any, name: str, arguments: Sequence[Any], milliseconds: float = 2.0) -> Measure:
    """One function of a compiled TVM module, timed from C++: nothing of Python is in it."""
    timer = module.mod.time_evaluator(
        name, tvm.cpu(), number=1, repeat=1, min_repeat_ms=round(milliseconds)
    )
    return lambda: float(timer(*arguments).mean)


def in_turns(measures: Mapping[str, Measure], turns: int, warmup: int = 1) -> dict[str, Timing]:
    """Every measure ``turns`` times, one after the other; the first ``warmup`` do not count."""
    times: dict[str, list[float]] = {name: [] for name in measures}
    for turn in range(warmup + turns):
        for name, measure in measures.items():
            seconds = measure()
            if turn >= warmup:
                times[name].append(seconds)
    return {name: Timing(min(t), statistics.median(t), len(t)) for name, t in times.items()}


def environment() -> dict[str, str]:
    """Processor, system and versions of what is installed."""
    found = {"processor": _processor(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor(path: Path = Path("/proc/cpuinfo")) -> str:
    name = platform.processor() or platform.machine()
    if not path.is_file():
        return name
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return name
