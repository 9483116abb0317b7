"""Element by element: identity, add, multiply, and the sum over axes (clauses A1 to A4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.numerics.epilogue import Stage, apply
from hyq_tvm.numerics.fixed_point import (
    MULTIPLIER_BITS,
    IntArray,
    as_dtype,
    as_int32,
    rounding_shift,
    saturate,
)
from hyq_tvm.numerics.registry import operator


@operator("add")
def add(
    a: IntArray,
    b: IntArray,
    multiplier_a: IntArray,
    multiplier_b: IntArray,
    *,
    zero_point_a: int,
    zero_point_b: int,
    shift: int,
    zero_point: int,
    low: int,
    high: int,
    dtype: str,
    multiplier_bits: int = MULTIPLIER_BITS,
) -> NDArray[Any]:
    """A1: ``clip(rounding_shift((a-za)*ma + (b-zb)*mb, shift) + zero_point, low, high)``.

    a, b: int8 or int16, of shapes that broadcast. multiplier_a, multiplier_b: int32 ``[1]`` or
    ``[C]`` (last axis). One rounding; ``0 <= shift <= 62``. ``multiplier_bits`` promises
    multipliers below ``2^multiplier_bits``: compiled code adds in 32 bits where that is enough.
    Raises ``ValueError`` on multipliers that break the promise.
    """
    for multiplier in (multiplier_a, multiplier_b):
        if multiplier.min() < 0 or int(multiplier.max()) >> multiplier_bits:
            raise ValueError(f"a multiplier of add is outside 0..2^{multiplier_bits}-1")
    scaled_a = np.subtract(a, zero_point_a, dtype=np.int64) * multiplier_a
    scaled_b = np.subtract(b, zero_point_b, dtype=np.int64) * multiplier_b
    total = rounding_shift(scaled_a + scaled_b, shift) + np.int64(zero_point)
    return as_dtype(saturate(total, low, high), dtype)


@operator("multiply")
def multiply(
    a: IntArray,
    b: IntArray,
    *tensors: NDArray[Any],
    zero_point_a: int,
    zero_point_b: int,
    epilogue: Sequence[Stage],
) -> NDArray[Any]:
    """A2: ``(a - zero_point_a) * (b - zero_point_b)`` as int32, then the epilogue.

    a, b: int8 or int16, of shapes that broadcast.
    """
    centred_a = np.subtract(a, zero_point_a, dtype=np.int64)
    centred_b = np.subtract(b, zero_point_b, dtype=np.int64)
    return apply(as_int32(centred_a * centred_b), epilogue, tensors)


@operator("identity")
def identity(
    x: IntArray, *tensors: NDArray[Any], zero_point: int, epilogue: Sequence[Stage]
) -> NDArray[Any]:
    """A3: ``x - zero_point`` as int32, then the epilogue: a tensor onto another grid."""
    return apply(as_int32(np.subtract(x, zero_point, dtype=np.int64)), epilogue, tensors)


@operator("reduce_sum")
def reduce_sum(
    x: IntArray,
    *tensors: NDArray[Any],
    axes: Sequence[int],
    keepdims: bool,
    zero_point: int,
    epilogue: Sequence[Stage],
) -> NDArray[Any]:
    """A4: the int32 sum of ``x - zero_point`` over ``axes``, then the epilogue.

    A mean is the sum with its divisor in the multiplier.
    """
    count = int(np.prod([x.shape[axis] for axis in axes], dtype=np.int64))
    total = x.sum(axis=tuple(axes), keepdims=keepdims, dtype=np.int64) - count * zero_point
    return apply(as_int32(np.asarray(total)), epilogue, tensors)
