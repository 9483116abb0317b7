"""Operators that only move numbers: concat, view, pad (clauses L1 to L3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from hyq_tvm.numerics.registry import operator


@operator("concat")
def concat(*tensors: NDArray[Any], axis: int) -> NDArray[Any]:
    """L1: tensors of one grid and one dtype side by side along ``axis``."""
    dtypes = sorted({str(t.dtype) for t in tensors})
    if len(dtypes) != 1:
        raise ValueError(f"concat of {dtypes}: one dtype is needed")
    return np.concatenate(tensors, axis=axis)


@operator("view")
def view(
    x: NDArray[Any], *, shape: Sequence[int], strides: Sequence[int], offset: int
) -> NDArray[Any]:
    """L2: ``out[i...] = x.flat[offset + sum(i * stride)]``, a new array of ``shape``.

    Raises ``ValueError`` when the view reads outside ``x``.
    """
    low, high = view_bounds(shape, strides, offset)
    if low < 0 or high >= x.size:
        raise ValueError(f"the view reads elements {low}..{high} of {x.size}")
    flat = np.ascontiguousarray(x).reshape(-1)[offset:]
    steps = tuple(stride * flat.itemsize for stride in strides)
    return as_strided(flat, tuple(shape), steps, writeable=False).copy()


def view_bounds(shape: Sequence[int], strides: Sequence[int], offset: int) -> tuple[int, int]:
    """Lowest and highest flat position that a view reads."""
    if len(shape) != len(strides):
        raise ValueError(f"a view of shape {shape} has strides {strides}")
    reach = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)]
    return offset + sum(r for r in reach if r < 0), offset + sum(r for r in reach if r > 0)


@operator("pad")
def pad(x: NDArray[Any], *, pads: Sequence[Sequence[int]], value: int) -> NDArray[Any]:
    """L3: ``x`` with ``value`` around it, ``(low, high)`` elements an axis."""
    return np.pad(x, [(low, high) for low, high in pads], constant_values=value)
