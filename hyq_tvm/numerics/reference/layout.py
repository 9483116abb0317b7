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
    check_view(x.size, shape, strides, offset)
    flat = np.ascontiguousarray(x).reshape(-1)[offset:]
    steps = tuple(stride * flat.itemsize for stride in strides)
    return as_strided(flat, tuple(shape), steps, writeable=False).copy()


def check_view(size: int, shape: Sequence[int], strides: Sequence[int], offset: int) -> None:
    """Raises ``ValueError`` unless the view stays within ``size`` elements.

    Strides and offset are not negative: compilers get floor divisions of falling indices wrong.
    """
    if len(shape) != len(strides) or min((*strides, offset)) < 0:
        raise ValueError(f"no view has shape {shape}, strides {strides} and offset {offset}")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if last >= size:
        raise ValueError(f"the view reads element {last} of {size}")


@operator("pad")
def pad(x: NDArray[Any], *, pads: Sequence[Sequence[int]], value: int) -> NDArray[Any]:
    """L3: ``x`` with ``value`` around it, ``(low, high)`` elements an axis."""
    return np.pad(x, [(low, high) for low, high in pads], constant_values=value)
