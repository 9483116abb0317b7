"""Where the time of a compiled program goes: every call of its virtual machine, watched."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.report.data import OperatorTime

TURNS = 20
MACHINE = "vm."
"""Prefix of the machine's own functions; most of their time is that of being watched."""


def operator_times(library: Path, x: NDArray[np.float32], turns: int = TURNS) -> list[OperatorTime]:
    """The shortest of ``turns`` runs of every call, added up by kind of operator.

    library: of a saved executable. x: float32 in its traced shape.
    """
    best: dict[tuple[int, str], int] = {}
    for _ in range(turns):
        for key, nanoseconds in _calls(library, x).items():
            best[key] = min(nanoseconds, best.get(key, nanoseconds))
    return by_kind(best)


def by_kind(calls: Mapping[tuple[int, str], int]) -> list[OperatorTime]:
    """Nanoseconds by place and kernel name -> times by kind, the longest first.

    A kernel's kind is its name up to the first underscore that a number follows:
    ``conv2d_3x3_32x32_1`` is a conv2d.
    """
    groups: dict[str, list[int]] = {}
    for (_, name), nanoseconds in calls.items():
        if name.startswith(MACHINE):
            continue
        words = name.split("_")
        kind = "_".join(w for i, w in enumerate(words) if not _has_digit(words[: i + 1], i))
        groups.setdefault(kind or name, []).append(nanoseconds)
    found = [OperatorTime(k, len(v), sum(v) / 1e3) for k, v in groups.items()]
    return sorted(found, key=lambda entry: -entry.microseconds)


def _has_digit(words: list[str], last: int) -> bool:
    return any(word[:1].isdigit() for word in words[: last + 1]) or not words[-1]


def _calls(library: Path, x: NDArray[np.float32]) -> dict[tuple[int, str], int]:
    import tvm
    import tvm_ffi
    from tvm import relax

    from hyq_tvm.runtime import load_library

    found: dict[tuple[int, str], int] = {}
    started = [0]

    def watch(_: Any, name: str, before: bool, __: Any, *___: Any) -> int:
        if before:
            started[0] = time.perf_counter_ns()
        else:
            found[len(found), str(name)] = time.perf_counter_ns() - started[0]
        return 0

    machine = relax.VirtualMachine(load_library(library), tvm.cpu())
    argument = tvm.runtime.tensor(x)
    machine["main"](argument)
    machine.set_instrument(tvm_ffi.convert(watch))
    machine["main"](argument)
    return found
