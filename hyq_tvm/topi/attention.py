"""Fused integer attention in TE (clauses AT1 to AT7): the twin of ``numerics.reference.attention``.

Blocks, in order: attention_scores (q.k, int32, without bias), attention_logits (t, int32),
attention_max, attention_exp (e, uint8 or uint16), attention_sum (L, int32), then attention_values
(sum of e * v, int32; for 16-bit weights attention_high and attention_low, the two uint8 planes),
attention_multiplier and attention_shift (one each per row), attention (the result).
Kind ``hyq``: attention_weights (int64), attention_total and attention_codes stand in place of
attention_exp and attention_sum, and no per-row multiplier follows.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import te, tirx

from hyq_tvm.numerics.constants import MASKED
from hyq_tvm.numerics.exponential import HYQ_SHIFT, hyq_constants
from hyq_tvm.numerics.reference.attention import (
    EXCLUDED,
    LOGIT_LIMIT,
    check_attention,
    check_weights,
)
from hyq_tvm.numerics.softmax_tables import weight_octaves
from hyq_tvm.topi.fixed_point import Expr, requantize, saturate
from hyq_tvm.topi.registry import operator
from hyq_tvm.topi.softmax import published_code, row_rescale


@operator("attention")
def attention(
    q: te.Tensor,
    k: te.Tensor,
    v: te.Tensor,
    multiplier: te.Tensor,
    shift: te.Tensor,
    table: te.Tensor,
    bias: te.Tensor | None = None,
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
) -> te.Tensor:
    """AT1 to AT7: arguments as the golden model's; raises as that does on shapes and choices."""
    extra = None if bias is None else _shape(bias)
    check_attention(_shape(q), _shape(k), _shape(v), extra, has_bias)
    check_weights(kind, weight_bits, fraction_bits, int(table.shape[0]), logit_scale)
    scores = _product(q, k, "attention_scores")

    def stored(value: Expr) -> Expr:
        shifted = value + tirx.const(zero_point, "int64")
        return saturate(shifted, low, high).astype(dtype)

    if logit_scale is not None:
        bounds = (logit_zero_point, -128, 127)
        logits = _logits(scores, bias, multiplier, shift, bounds)
        weight = _published(logits, table, logit_scale, has_bias)
        values = _weighted(weight, v, "attention_values")
        rescale = (tirx.const(rescale_multiplier, "int32"), tirx.const(rescale_shift, "int32"))
        return te.compute(
            values.shape,
            lambda *i: requantize(values[i], *rescale, zero_point, low, high).astype(dtype),
            name="attention",
        )
    logits = _logits(scores, bias, multiplier, shift, (0, -LOGIT_LIMIT, LOGIT_LIMIT))
    e = _exponential(logits, table, weight_octaves(weight_bits) << fraction_bits, has_bias)
    total = _row_sum(e)
    values = _weighted(e, v, "attention_values") if weight_bits == 8 else _planes(e, v)
    return row_rescale(values, total, rescale_multiplier, rescale_shift, stored, "attention")


def _shape(tensor: te.Tensor) -> tuple[int, ...]:
    return tuple(int(n) for n in tensor.shape)


def _product(q: te.Tensor, k: te.Tensor, name: str) -> te.Tensor:
    """AT1: ``[B,N,M]`` in int32."""
    rd = te.reduce_axis((0, q.shape[2]), "rd")

    def element(b: Expr, i: Expr, j: Expr) -> Expr:
        return te.sum(q[b, i, rd].astype("int32") * k[b, j, rd].astype("int32"), axis=rd)

    return te.compute((q.shape[0], q.shape[1], k.shape[1]), element, name=name)


def _logits(
    scores: te.Tensor,
    bias: te.Tensor | None,
    multiplier: te.Tensor,
    shift: te.Tensor,
    bounds: tuple[int, int, int],
) -> te.Tensor:
    """AT2: bias, exclusion and R32; bounds: zero point, low and high."""

    def element(b: Expr, i: Expr, j: Expr) -> Expr:
        acc = scores[b, i, j]
        if bias is None:
            return requantize(acc, multiplier[0], shift[0], *bounds).astype("int32")
        extra = bias[tirx.floormod(b, bias.shape[0]), i, j]
        masked = tirx.const(MASKED, "int32")
        # Excluded pairs may have any bias down to -2^31: keep the sum from wrapping around.
        total = acc + tirx.max(extra, masked)
        t = requantize(total, multiplier[0], shift[0], *bounds).astype("int32")
        excluded = extra <= masked
        return tirx.Select(excluded, tirx.const(EXCLUDED, "int32"), t)

    return te.compute(scores.shape, element, name="attention_logits")


def _row_max(logits: te.Tensor) -> te.Tensor:
    rm = te.reduce_axis((0, logits.shape[2]), "rm")
    return te.compute(
        logits.shape[:2], lambda b, i: te.max(logits[b, i, rm], axis=rm), name="attention_max"
    )


def _exponential(logits: te.Tensor, table: te.Tensor, limit: int, has_bias: bool) -> te.Tensor:
    """AT3."""
    top = _row_max(logits)

    def element(b: Expr, i: Expr, j: Expr) -> Expr:
        t = logits[b, i, j]
        e = table[tirx.min(top[b, i] - t, tirx.const(limit, "int32"))]
        return _unless_excluded(e, t, str(table.dtype)) if has_bias else e

    return te.compute(logits.shape, element, name="attention_exp")


def _unless_excluded(e: Expr, t: Expr, dtype: str) -> Expr:
    return tirx.Select(t == tirx.const(EXCLUDED, "int32"), tirx.const(0, dtype), e)


def _row_sum(e: te.Tensor) -> te.Tensor:
    rs = te.reduce_axis((0, e.shape[2]), "rs")
    return te.compute(
        e.shape[:2],
        lambda b, i: te.sum(e[b, i, rs].astype("int32"), axis=rs),
        name="attention_sum",
    )


def _weighted(
    e: te.Tensor, v: te.Tensor, name: str, part: Callable[[Expr], Expr] = lambda value: value
) -> te.Tensor:
    """AT4: ``sum_j part(e[b,i,j]) * v[b,j,c]`` in int32."""
    rv = te.reduce_axis((0, v.shape[1]), "rv")

    def element(b: Expr, i: Expr, c: Expr) -> Expr:
        weight = part(e[b, i, rv]).astype("int32")
        return te.sum(weight * v[b, rv, c].astype("int32"), axis=rv)

    return te.compute((e.shape[0], e.shape[1], v.shape[2]), element, name=name)


def _planes(e: te.Tensor, v: te.Tensor) -> te.Tensor:
    """AT4 for 16-bit weights: two uint8 planes, so that int32 holds each sum."""
    byte = tirx.const(8, "uint16")
    high = _weighted(e, v, "attention_high", lambda value: (value >> byte).astype("uint8"))
    low = _weighted(
        e,
        v,
        "attention_low",
        lambda value: tirx.bitwise_and(value, tirx.const(255, "uint16")).astype("uint8"),
    )

    def element(*i: Expr) -> Expr:
        return high[i].astype("int64") * tirx.const(256, "int64") + low[i].astype("int64")

    return te.compute(high.shape, element, name="attention_values")


def _published(
    logits: te.Tensor, table: te.Tensor, logit_scale: float, has_bias: bool
) -> te.Tensor:
    """AT7: ``2^(15 - code)`` of every pair, int32."""
    constants = hyq_constants(logit_scale, int(logits.shape[2]))
    top = _row_max(logits)

    def weight_at(b: Expr, i: Expr, j: Expr) -> Expr:
        t = logits[b, i, j]
        d = tirx.min(top[b, i] - t, tirx.const(HYQ_SHIFT * constants.period, "int32"))
        octave = tirx.truncdiv(d, tirx.const(constants.period, "int32"))
        z = tirx.const(constants.offset, "int32") - (
            d - octave * tirx.const(constants.period, "int32")
        )
        positive = tirx.max(z, tirx.const(0, "int32")).astype("int64")
        shift = tirx.const(HYQ_SHIFT, "int32") - octave
        e = positive << shift.astype("int64")
        return _unless_excluded(e, t, "int64") if has_bias else e

    weights = te.compute(logits.shape, weight_at, name="attention_weights")
    rs = te.reduce_axis((0, logits.shape[2]), "rs")
    total = te.compute(
        logits.shape[:2], lambda b, i: te.sum(weights[b, i, rs], axis=rs), name="attention_total"
    )

    def element(b: Expr, i: Expr, j: Expr) -> Expr:
        return table[published_code(weights[b, i, j], total[b, i])]

    return te.compute(logits.shape, element, name="attention_codes")
