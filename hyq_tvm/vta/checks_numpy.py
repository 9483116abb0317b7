"""What the NumPy kernels share: counters, and checks of what an instruction reads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.vta.machine import COUNTERS, Fault, Machine, Status

Int64 = NDArray[np.int64]


def count(machine: Machine, name: str, amount: int) -> None:
    """Add to a counter."""
    machine.counters[COUNTERS.index(name)] += amount


def need(machine: Machine, buffer: str, indices: Int64, limit: Status) -> None:
    """Raises ``Fault`` unless all entries exist and were written."""
    written = machine.written[buffer]
    if indices.size and indices.max() >= len(written):
        raise Fault(limit, int(indices[indices >= len(written)][0]))
    holes = indices[written[indices] == 0]
    if holes.size:
        raise Fault(Status[f"UNWRITTEN_{buffer.upper()}"], int(holes[0]))


def need_table(machine: Machine, base: int, size: int) -> None:
    """Raises ``Fault`` unless a whole table was written."""
    if base + size > len(machine.written["tbl"]):
        raise Fault(Status.TABLE_RANGE, base + size)
    need(machine, "tbl", np.arange(base, base + size), Status.TABLE_RANGE)
