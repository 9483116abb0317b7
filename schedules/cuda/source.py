"""The CUDA source of scheduled kernels, complete for any compiler."""

from __future__ import annotations

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
