"""The CUDA source of scheduled kernels, complete for any compiler."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_DEVICE = Path(__file__).with_name("device.cuh")
_FIRST = 'extern "C" __global__'


@cache
def prelude() -> str:
    """Types and device functions that kernels use; needs no header."""
    return _DEVICE.read_text(encoding="utf-8")


def complete(emitted: str) -> str:
    """What TVM emitted, with our prelude in place of its includes."""
    start = emitted.find(_FIRST)
    return f"{prelude()}\n{emitted[start:]}" if start >= 0 else emitted


def unhurried(source: str) -> str:
    """The same, asking for one block a multiprocessor: as many registers a thread as there are.

    Left to itself ptxas was seen to spill a few bytes rather than go beyond 128 (sm_75).
    """
    return re.sub(r"__launch_bounds__\((\d+)\)", r"__launch_bounds__(\1, 1)", source)
