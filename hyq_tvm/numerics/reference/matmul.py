"""Dense layers and batched matrix products (clauses M1, M2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.numerics.epilogue import Stage, apply
from hyq_tvm.numerics.fixed_point import IntArray, as_int32
from hyq_tvm.numerics.registry import operator

FLOAT32_EXACT = 2**24
FLOAT64_EXACT = 2**53


def exact_matmul(a: IntArray, b: IntArray) -> NDArray[np.int32]:
    """N4: ``a [..,M,K]`` times ``b [..,N,K]`` transposed, as int32 ``[..,M,N]``.

    Raises ``AccumulatorOverflowError`` where a result does not fit int32.
    """
    # The sum of the magnitudes of all products bounds every partial sum in whatever order BLAS
    # adds, so no float operation rounds while that sum stays within the mantissa.
    largest = max(abs(int(a.min(initial=0))), abs(int(a.max(initial=0))))
    bound = largest * int(np.abs(b.astype(np.int64)).sum(axis=-1).max(initial=0))
    if bound > FLOAT64_EXACT:
        return as_int32(a.astype(np.int64) @ np.swapaxes(b, -1, -2).astype(np.int64))
    dtype = np.float32 if bound <= FLOAT32_EXACT else np.float64
    product = a.astype(dtype) @ np.swapaxes(b.astype(dtype), -1, -2)
    return as_int32(product.astype(np.int64) if bound >= 2**31 else product.astype(np.int32))


def with_bias(acc: NDArray[np.int32], bias: IntArray) -> NDArray[np.int32]:
    """``acc [..,O] + bias [O]`` as int32; raises ``AccumulatorOverflowError`` beyond int32."""
    return as_int32(np.add(acc, bias, dtype=np.int64))


@operator("dense")
def dense(
    x: IntArray, weight: IntArray, bias: IntArray, *tensors: NDArray[Any], epilogue: Sequence[Stage]
) -> NDArray[Any]:
    """M1: ``x [M,K] @ weight [N,K]^T + bias [N]``, then the epilogue on the int32 ``[M,N]``.

    x, weight: int8. bias: int32, zero points folded into it (N3).
    """
    return apply(with_bias(exact_matmul(x, weight), bias), epilogue, tensors)


@operator("matmul")
def matmul(
    a: IntArray, b: IntArray, *tensors: NDArray[Any], epilogue: Sequence[Stage]
) -> NDArray[Any]:
    """M2: ``a [B,M,K] @ b [B,N,K]^T``, then the epilogue on the int32 ``[B,M,N]``.

    a, b: int8 on symmetric grids (their zero points are 0).
    """
    if a.ndim != 3 or a.shape[::2] != b.shape[::2]:
        raise ValueError(f"matmul of {a.shape} and {b.shape}: [B,M,K] and [B,N,K] are needed")
    return apply(exact_matmul(a, b), epilogue, tensors)
