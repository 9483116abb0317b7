"""Compile-time tables of softmax and attention (clauses AT1 to AT7 and SM9 of docs/numerics.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import ConfigError
from hyq_tvm.numerics.exponential import (
    GRID_KINDS,
    INTEGER_KINDS,
    LINE_OFFSET,
    LN2,
    POLYNOMIAL,
    check_fraction_bits,
    check_kind,
    grid_requantizer,
    hyq_constants,
    positive_scale,
)
from hyq_tvm.numerics.fixed_point import quantize_multiplier, rounding_shift

__all__ = [
    "GRID_KINDS",
    "INTEGER_KINDS",
    "LOG2_CODES",
    "LOG2_ONE",
    "MAX_ATTENTION_TOKENS",
    "WEIGHT_TABLE_KINDS",
    "attention_constants",
    "grid_requantizer",
    "log2_weights",
    "probability_rescale",
    "rescale_constants",
    "weight_octaves",
    "weight_table",
]

LOG2_CODES = 17
"""Codes of kind ``hyq``: 0 .. 15 and 16 for nothing."""

LOG2_ONE = 15
MAX_ATTENTION_TOKENS = 16384


def weight_octaves(weight_bits: int) -> int:
    """AT3: after so many octaves a weight is 0: 9 for 8 bits, 17 for 16 bits."""
    if weight_bits not in (8, 16):
        raise ConfigError(f"weight_bits={weight_bits!r}: choose 8 or 16")
    return weight_bits + 1


def weight_table(kind: str, fraction_bits: int, weight_bits: int = 8) -> NDArray[Any]:
    """AT3: ``E[d]`` for d = 0 .. octaves << F, uint8 or uint16; ``E[0]`` is the full scale.

    The four kinds differ in nothing else. Raises ``ConfigError`` on ``hyq``, which has no table.
    """
    check_fraction_bits(fraction_bits)
    if kind not in _REAL_EXPONENTIALS:
        raise ConfigError(f"softmax kind {kind!r} has no table; those with: {WEIGHT_TABLE_KINDS}")
    octaves = weight_octaves(weight_bits)
    full = 2.0**weight_bits - 1
    d = np.arange((octaves << fraction_bits) + 1)
    octave, f = d >> fraction_bits, d & (2**fraction_bits - 1)
    real = _REAL_EXPONENTIALS[kind](f / 2.0**fraction_bits)
    if kind == "linear_pot":
        # Two roundings, because hardware shifts the rounded mantissa.
        mantissa = np.floor(full * real + 0.5).astype(np.int64)
        table = (mantissa + (np.int64(1) << octave >> 1)) >> octave
        table[octave > weight_bits] = 0
    else:
        table = np.floor(full * np.ldexp(real, -octave) + 0.5)
    return np.asarray(table, dtype=f"uint{weight_bits}")


def _line(f: NDArray[np.float64]) -> NDArray[np.float64]:
    return (LINE_OFFSET - f) / LINE_OFFSET


def _polynomial(f: NDArray[np.float64]) -> NDArray[np.float64]:
    b, c = POLYNOMIAL
    r = -f * LN2
    return (r * r + b * r + c) / c


def _power(f: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp2(-f)


_REAL_EXPONENTIALS = {
    "linear_pot": _line,
    "table": _power,
    "linear": _line,
    "poly2": _polynomial,
}
"""The fraction's part of ``2^-d`` for a fraction of an octave in [0, 1)."""

WEIGHT_TABLE_KINDS = tuple(_REAL_EXPONENTIALS)


def log2_weights() -> NDArray[np.int32]:
    """SM9: ``2^(15 - code)`` for codes 0 .. 15 and 0 for code 16, which means nothing."""
    return np.array([1 << (LOG2_ONE - code) for code in range(LOG2_ONE + 1)] + [0], np.int32)


def attention_constants(
    scale_q: float,
    scale_k: float,
    scale_v: float,
    softmax_scale: float,
    scale_out: float,
    head_dim: int,
    tokens: int,
    kind: str = "linear_pot",
    weight_bits: int = 8,
    fraction_bits: int = 4,
    logit_scale: float | None = None,
) -> dict[str, Any]:
    """AT1 to AT7: what the attention operator takes, from real scales.

    softmax_scale: the factor on q.k, as a rule ``1 / sqrt(head_dim)``. tokens: length of a row of
    logits. logit_scale: the 8-bit grid of the logits of kind ``hyq``, which alone needs it.

    Returns ``multiplier``, ``shift`` (int32 [1]), ``table`` (``weight_table``; int32 ``[17]`` of
    ``log2_weights`` for ``hyq``), ``rescale_multiplier``, ``rescale_shift`` (int).
    Raises ``ConfigError`` where accumulators would not fit or no multiplier exists.
    """
    check_kind(kind)
    if head_dim < 1 or head_dim * 127**2 >= 2**30:
        raise ConfigError(f"head_dim={head_dim}: int32 holds the sums of 1 to 66,572 products")
    step = positive_scale(scale_q) * positive_scale(scale_k) * positive_scale(softmax_scale)
    ratio = positive_scale(scale_v) / positive_scale(scale_out)
    if kind == "hyq":
        if logit_scale is None:
            raise ConfigError("attention of kind 'hyq' needs logit_scale, the logits' 8-bit grid")
        hyq_constants(logit_scale, tokens)
        multiplier, shift = quantize_multiplier([step / logit_scale])
        pair = quantize_multiplier(ratio / 2**LOG2_ONE)
        rescale, rescale_shift = int(pair[0]), int(pair[1])
        table: NDArray[Any] = log2_weights()
    else:
        multiplier, shift = quantize_multiplier([step * 2**fraction_bits / LN2])
        table = weight_table(kind, fraction_bits, weight_bits)
        rescale, rescale_shift = rescale_constants(ratio, weight_bits, tokens)
    return {
        "multiplier": multiplier,
        "shift": shift,
        "table": table,
        "rescale_multiplier": rescale,
        "rescale_shift": rescale_shift,
    }


def rescale_constants(ratio: float, weight_bits: int, tokens: int) -> tuple[int, int]:
    """AT5: ``ratio = m_o * 2^-s`` with m_o of 31 bits for 8-bit weights, 23 bits for 16-bit ones.

    A ratio so small that ``s + bitlen(L)`` would pass 62 gets a shorter m_o. Raises
    ``ConfigError`` on more than 16,384 tokens and where m_o would be 0.
    """
    weight_octaves(weight_bits)
    if not 1 <= tokens <= MAX_ATTENTION_TOKENS:
        raise ConfigError(f"attention over {tokens} tokens: rows have 1 to {MAX_ATTENTION_TOKENS}")
    bits = 31 if weight_bits == 8 else 23
    multiplier, shift = (int(value) for value in quantize_multiplier(ratio, bits))
    excess = shift + (tokens * (2**weight_bits - 1)).bit_length() - 62
    if excess > 0:
        multiplier = int(rounding_shift(np.array(multiplier), excess))
        shift -= excess
    if multiplier == 0:
        raise ConfigError(f"value scale over output scale is {ratio!r}: the output's is too large")
    return multiplier, shift


def probability_rescale(scale: float) -> tuple[int, int]:
    """SM8: ``1 / scale = rescale_multiplier * 2^-rescale_shift`` for softmax output ``"grid"``.

    scale: of the probabilities' grid, in [2^-29, 1]; raises ``ConfigError`` outside it.
    """
    if not 2.0**-29 <= scale <= 1:
        raise ConfigError(f"probability scale {scale!r} is outside 2^-29 .. 1")
    multiplier, shift = quantize_multiplier(1 / scale)
    return int(multiplier), int(shift)
