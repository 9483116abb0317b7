"""Where the time of an integer program goes: minima of every call of its virtual machine."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import relax

from benchmarks.latency_models import LatencyModel
from hyq_tvm.runtime import load_library

PEAK = 235.0
"""10^9 int8 products a second of one core at 3.67 GHz with one 512-bit VNNI unit."""


@dataclass(frozen=True)
class Share:
    """Calls of one kernel: how many, seconds in all, products in all (0 where it has none)."""

    name: str
    calls: int
    seconds: float
    products: int

    @property
    def floor(self) -> float:
        """Seconds that its products alone take at the peak."""
        return self.products / (PEAK * 1e9)


def products(name: str) -> int:
    """Products of one call, from the numbers in the kernel's name; 0 where it has none.

    ``dense_197x192x768_``, ``conv2d_3x3_32x32x96x48_1`` (kernel, output, channels in and out),
    ``depthwise_3x3_64x64x48_``, ``attention_16x256x256x36_`` (twice: scores and values).
    """
    # Kernels of one name are told apart by a number behind its last underscore.
    kind, *shape = name.split("_")
    numbers = [int(n) for n in re.findall(r"\d+", "_".join(shape[:-1]))]
    # A convolution is three numbers where it is a dense layer, one more where there is a batch.
    known = {"dense": (3,), "conv2d": (3, 6, 7), "depthwise": (5, 6), "attention": (4,)}
    if len(numbers) not in known.get(kind, ()):
        return 0
    return prod(numbers) * (2 if kind == "attention" else 1)


def shares(times: Mapping[tuple[int, str], float]) -> list[Share]:
    """Calls added up by kernel, the longest first; ``times``: seconds by place and name.

    The machine's own functions count as one; most of their time is that of being watched.
    """
    groups: dict[str, list[float]] = {}
    for (_, name), seconds in times.items():
        groups.setdefault("vm.*" if name.startswith("vm.") else name, []).append(seconds)
    found = []
    for name, own in groups.items():
        found.append(Share(name, len(own), sum(own), products(name) * len(own)))
    return sorted(found, key=lambda share: -share.seconds)


def kernel_seconds(times: Mapping[tuple[int, str], float]) -> float:
    """All kernels' time, without the machine's own functions."""
    return sum(seconds for (_, name), seconds in times.items() if not name.startswith("vm."))


def table(found: Iterable[Share], most: int = 40) -> str:
    """A Markdown table; the floor is what the products take at the peak."""
    kept = list(found)
    total, floor = sum(s.seconds for s in kept), sum(s.floor for s in kept)
    lines = ["| kernel | calls | us | share | floor us |", "|---|---|---|---|---|"]
    lines += [
        f"| {s.name} | {s.calls} | {s.seconds * 1e6:.1f} | {s.seconds / total:.1%} "
        f"| {s.floor * 1e6:.1f} |"
        for s in kept[:most]
    ]
    lines.append(f"| all | {sum(s.calls for s in kept)} | {total * 1e6:.1f} | 100.0% "
                 f"| {floor * 1e6:.1f} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def call_times(library: Path, images: Any, turns: int) -> dict[tuple[int, str], float]:
    """The shortest of ``turns`` runs of every call, by its place in the program and its name."""
    best: dict[tuple[int, str], float] = {}
    state = {"place": 0, "start": 0}

    def watch(_: Any, name: str, before: bool, __: Any, *___: Any) -> int:
        if before:
            state["start"] = time.perf_counter_ns()
            return 0
        seconds = (time.perf_counter_ns() - state["start"]) / 1e9
        key = (state["place"], str(name))
        best[key] = min(seconds, best.get(key, seconds))
        state["place"] += 1
        return 0

    machine = relax.VirtualMachine(load_library(library), tvm.cpu())
    machine.set_instrument(tvm_ffi.convert(watch))
    argument = tvm.runtime.tensor(images)
    for _ in range(turns):
        state["place"] = 0
        machine["main"](argument)
    return best


def library_of(cache: Path, model: LatencyModel, batch: int) -> Path:
    """The library of the integer program that ``latency_models.integer_program`` keeps."""
    folder = cache / f"{model.name}-int8-b{batch}"
    return next(path for path in sorted(folder.iterdir()) if path.suffix == ".so")


def kernel_profile(model: LatencyModel, batch: int, cache: Path, turns: int) -> str:
    """The table of the integer program in ``cache``."""
    library = library_of(cache, model, batch)
    found = shares(call_times(library, model.images(batch), turns))
    return f"## {model.name}, batch {batch}\n\n{table(found)}"
