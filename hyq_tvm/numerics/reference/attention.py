"""Fused integer attention with one division a row (clauses AT1 to AT7 of docs/numerics.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import ConfigError
from hyq_tvm.numerics.constants import MASKED
from hyq_tvm.numerics.exponential import check_kind
from hyq_tvm.numerics.fixed_point import IntArray, as_dtype, as_int32, requantize, saturate
from hyq_tvm.numerics.reference.matmul import exact_matmul
from hyq_tvm.numerics.reference.softmax import hyq_codes, hyq_weights, row_rescale
from hyq_tvm.numerics.registry import operator
from hyq_tvm.numerics.softmax_tables import WEIGHT_TABLE_KINDS, weight_octaves

Int64 = NDArray[np.int64]

EXCLUDED = -(2**30)
"""The logit of an excluded pair: below every other one."""

LOGIT_LIMIT = 2**30 - 1


@operator("attention")
def attention(
    q: IntArray,
    k: IntArray,
    v: IntArray,
    multiplier: IntArray,
    shift: IntArray,
    table: IntArray,
    bias: IntArray | None = None,
    *,
    kind: str,
    rescale_multiplier: int,
    rescale_shift: int,
    zero_point: int,
    low: int,
    high: int,
    dtype: str,
    weight_bits: int = 8,
    fraction_bits: int = 4,
    has_bias: bool = False,
    logit_scale: float | None = None,
    logit_zero_point: int = 0,
) -> NDArray[Any]:
    """AT1 to AT7: ``softmax(scale * q k^T + bias) v`` as ``dtype`` ``[B,N,E]``.

    q ``[B,N,D]``, k ``[B,M,D]``, v ``[B,M,E]``: int8 on symmetric grids, [-127, 127].
    multiplier, shift (int32 ``[1]``), table (uint8 or uint16; int32 ``[17]`` for ``hyq``),
    rescale_multiplier, rescale_shift: of ``attention_constants``. bias: int32 ``[Bb,N,M]`` at the
    scale of q.k, Bb divides B and entry ``b mod Bb`` meets sample b; at or below ``-2^30`` it
    excludes the pair, and a row with nothing left gives zero_point. logit_scale,
    logit_zero_point: the 8-bit logits of ``hyq``.

    Raises ``ConfigError`` on unknown choices, ``ValueError`` on shapes and tables that do not
    match, ``AccumulatorOverflowError`` where q.k plus bias passes int32.
    """
    check_attention(q.shape, k.shape, v.shape, None if bias is None else bias.shape, has_bias)
    check_weights(kind, weight_bits, fraction_bits, len(table), logit_scale)
    acc = exact_matmul(q, k).astype(np.int64)
    excluded = np.zeros(acc.shape, dtype=bool)
    if bias is not None:
        repeated = np.tile(bias.astype(np.int64), (len(acc) // len(bias), 1, 1))
        excluded = repeated <= MASKED
        acc += np.where(excluded, 0, repeated)
    acc = as_int32(acc, "q.k plus bias").astype(np.int64)
    if logit_scale is not None:
        e = _published(acc, excluded, multiplier, shift, table, logit_scale, logit_zero_point)
        factor = np.array([rescale_multiplier]), np.array([rescale_shift])
        return as_dtype(requantize(_weighted(e, v), *factor, zero_point, low, high), dtype)
    e = _weights(
        acc, excluded, multiplier, shift, table, weight_octaves(weight_bits), fraction_bits
    )
    total = e.sum(axis=-1, keepdims=True)
    scaled = row_rescale(_weighted(e, v), total, rescale_multiplier, rescale_shift)
    return as_dtype(saturate(scaled + np.int64(zero_point), low, high), dtype)


def check_attention(
    q: tuple[int, ...],
    k: tuple[int, ...],
    v: tuple[int, ...],
    bias: tuple[int, ...] | None,
    has_bias: bool,
) -> None:
    """Raises ``ValueError`` unless the shapes are those of ``attention``."""
    fit = len(q) == len(k) == len(v) == 3 and q[0] == k[0] == v[0] and q[2] == k[2] and k[1] == v[1]
    if not fit or k[1] < 1:
        raise ValueError(f"attention of {q}, {k}, {v}: [B,N,D], [B,M,D], [B,M,E] are needed")
    if (bias is not None) != has_bias:
        raise ValueError(f"attention has has_bias={has_bias}, and a bias of shape {bias}")
    if bias is not None and (bias[1:] != (q[1], k[1]) or bias[0] < 1 or q[0] % bias[0]):
        raise ValueError(f"attention bias {bias}: [Bb,{q[1]},{k[1]}] with Bb dividing {q[0]}")


def check_weights(
    kind: str, weight_bits: int, fraction_bits: int, entries: int, logit_scale: float | None
) -> None:
    """Raises unless the table has the length of its kind and only ``hyq`` has a logit_scale."""
    check_kind(kind)
    if (kind == "hyq") != (logit_scale is not None):
        raise ConfigError("attention of kind 'hyq', and no other, takes logit_scale")
    expected = 17 if kind == "hyq" else (weight_octaves(weight_bits) << fraction_bits) + 1
    if entries != expected:
        raise ValueError(
            f"a table of {entries} entries for kind {kind!r}, {weight_bits} bits and "
            f"fraction_bits={fraction_bits}: {expected} are needed ({WEIGHT_TABLE_KINDS}, 'hyq')"
        )


def _weights(
    acc: Int64,
    excluded: NDArray[np.bool_],
    multiplier: IntArray,
    shift: IntArray,
    table: IntArray,
    octaves: int,
    fraction_bits: int,
) -> Int64:
    """AT2, AT3: ``e[b,i,j] = E[M - t]``, 0 where j is excluded."""
    t = requantize(acc, multiplier, shift, 0, -LOGIT_LIMIT, LOGIT_LIMIT)
    t = np.where(excluded, EXCLUDED, t)
    d = np.minimum(t.max(axis=-1, keepdims=True) - t, octaves << fraction_bits)
    return np.where(excluded, 0, table[d].astype(np.int64))


def _published(
    acc: Int64,
    excluded: NDArray[np.bool_],
    multiplier: IntArray,
    shift: IntArray,
    table: IntArray,
    logit_scale: float,
    logit_zero_point: int,
) -> Int64:
    """AT7: 8-bit logits, the published codes, and ``2^(15 - code)``."""
    t = requantize(acc, multiplier, shift, logit_zero_point, -128, 127)
    t = np.where(excluded, EXCLUDED, t)
    e = hyq_weights(t.max(axis=-1, keepdims=True) - t, logit_scale)
    codes = hyq_codes(np.where(excluded, 0, e))
    return table[codes].astype(np.int64)


def _weighted(e: Int64, v: IntArray) -> Int64:
    """AT4: ``sum_j e[b,i,j] * v[b,j,c]``; two planes of 8 bits keep each sum within int32."""
    columns = np.swapaxes(v, 1, 2)
    low = exact_matmul(e & 255, columns)
    return exact_matmul(e >> 8, columns).astype(np.int64) * 256 + low
