"""Compile-time constants of the exponentials (clauses SM1 to SM7 of docs/numerics.md).

Kinds, and what stands for the exponential of a difference to the row's maximum:

==============  =================================================================================
linear_pot      HyQ's line on the grid ``ln2 / 2^F``: a shift, a mask, a subtraction, a shift
table           ``2^-f`` from a table of ``2^F`` mantissas on the same grid
linear          HyQ's line on any scale: the logits are shifted to a step of about 1/1024 first
poly2           I-BERT's second-order polynomial, step of about 1/128
hyq             the published repository to the letter: floored constants, n = 30
==============  =================================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import ConfigError
from hyq_tvm.numerics.fixed_point import quantize_multiplier

LN2 = math.log(2.0)
LINE_RATIO = 0.12121466 / 0.08947606
"""Offset over slope of HyQ's line for exp on (-ln2, 0]."""

LINE_OFFSET = LINE_RATIO / LN2
"""The same offset in octaves: 1.95445."""

POLYNOMIAL = (0.96963238 / 0.35815147, 1.0 / 0.35815147)
"""I-BERT's ``r^2 + b r + c`` for exp on (-ln2, 0], up to a factor."""

GRID_KINDS = ("linear_pot", "table")
INTEGER_KINDS = (*GRID_KINDS, "linear", "poly2", "hyq")
OUTPUTS = ("uint8", "log2_4bit", "grid")

MAX_TOKENS = 65536
MAX_FRACTION_BITS = 8
DIFFERENCE_LIMIT = 2**31 - 1
NARROW_LIMIT = 2**15 - 1
HYQ_SHIFT = 30


def check_kind(kind: str) -> None:
    """Raises ``ConfigError`` unless ``kind`` is one of ``INTEGER_KINDS``."""
    if kind not in INTEGER_KINDS:
        raise ConfigError(f"softmax kind {kind!r}: choose one of {list(INTEGER_KINDS)}")


def check_fraction_bits(fraction_bits: int) -> None:
    """Raises ``ConfigError`` unless the grid ``ln2 / 2^F`` has 1 <= F <= 8."""
    if not 1 <= fraction_bits <= MAX_FRACTION_BITS:
        raise ConfigError(f"fraction_bits={fraction_bits!r}: choose 1 to {MAX_FRACTION_BITS}")


def exponent_bits(tokens: int) -> int:
    """SM3: the width w of an unnormalised weight, so that int32 holds the sum of a row.

    ``w = max(15, min(c + 7, 31 - c))`` with ``c = ceil(log2(tokens))``: 15 bits up to 256 tokens,
    17 at 1,024, 19 at 4,096. Raises ``ConfigError`` outside 1 to 65,536 tokens.
    """
    if not 1 <= tokens <= MAX_TOKENS:
        raise ConfigError(f"softmax over {tokens} logits: rows have 1 to {MAX_TOKENS}")
    c = (tokens - 1).bit_length()
    return max(15, min(c + 7, 31 - c))


def line_offset(fraction_bits: int) -> int:
    """SM3: B, the offset of the line on the power-of-two grid: 31 at F = 4."""
    check_fraction_bits(fraction_bits)
    return round(math.ldexp(LINE_OFFSET, fraction_bits))


def mantissa_table(fraction_bits: int, bits: int) -> NDArray[np.int32]:
    """SM4: ``floor((2^bits - 1) * 2^(-f / 2^F) + 1/2)`` for f = 0 .. 2^F - 1."""
    check_fraction_bits(fraction_bits)
    f = np.arange(2**fraction_bits)
    return np.floor((2.0**bits - 1) * np.exp2(-f / 2.0**fraction_bits) + 0.5).astype(np.int32)


@dataclass(frozen=True)
class GridRequantizer:
    """SM2: from differences at the logits' scale to steps of the grid ``ln2 / 2^F``.

    ``a = min((d + (1 << p >> 1)) >> p, 2^15 - 1)``, then ``(a * m + 2^(s-1)) >> s``: all in int32.
    """

    multiplier: int
    pre_shift: int
    shift: int

    @property
    def tensors(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """Multiplier, pre-shift and shift as the softmax operator takes them, ``[1]`` each."""
        values = (self.multiplier, self.pre_shift, self.shift)
        first, second, third = (np.array([value], dtype=np.int32) for value in values)
        return first, second, third


def grid_requantizer(scale: float, fraction_bits: int, tokens: int) -> GridRequantizer:
    """SM2: the requantizer of logits with real ``scale``, for rows of ``tokens``.

    Raises ``ConfigError`` on a scale that is not positive or so small (about 5e-9) that the whole
    int32 range would span less than the weights do.
    """
    check_fraction_bits(fraction_bits)
    ratio = positive_scale(scale) * 2**fraction_bits / LN2
    needed = (exponent_bits(tokens) + 1) << fraction_bits
    if DIFFERENCE_LIMIT * ratio < needed:
        raise ConfigError(f"logit scale {scale!r}: too small for int32 logits to leave the row")
    pre_shift = max(0, math.ceil(math.log2(needed / ratio / NARROW_LIMIT)))
    factor = min(ratio * 2**pre_shift, 2.0**13)
    multiplier, shift = quantize_multiplier(factor, bits=15)
    return GridRequantizer(int(multiplier), pre_shift, int(shift))


@dataclass(frozen=True)
class SteppedExponential:
    """SM5, SM6: constants of ``linear`` and ``poly2`` at one logit scale.

    Differences are shifted left by ``logit_shift`` (right, rounding, where it is negative), then
    ``q = d div period``, ``r = d mod period``. ``linear``: ``z = offset - r``. ``poly2``:
    ``z = constant - r * (offset - r)``.
    """

    logit_shift: int
    period: int
    offset: int
    constant: int

    @property
    def top(self) -> int:
        """The weight's mantissa at the row's maximum."""
        return self.constant or self.offset


def linear_constants(scale: float) -> SteppedExponential:
    """SM5: HyQ's line with a step in (2^-11, 2^-10]."""
    shift, step = _fine_step(scale, 10)
    return SteppedExponential(shift, round(LN2 / step), round(LINE_RATIO / step), 0)


def poly2_constants(scale: float) -> SteppedExponential:
    """SM6: I-BERT's polynomial with a step in (2^-8, 2^-7]."""
    shift, step = _fine_step(scale, 7)
    b, c = POLYNOMIAL
    return SteppedExponential(shift, round(LN2 / step), round(b / step), round(c / step**2))


def _fine_step(scale: float, bits: int) -> tuple[int, float]:
    """The shift by which logits get a step in (2^-bits / 2, 2^-bits], and that step."""
    fraction, exponent = math.frexp(positive_scale(scale))
    shift = exponent + bits - (1 if fraction == 0.5 else 0)
    if not -16 <= shift <= 30:
        # Beyond, int32 differences would end before the weights do, or the shift would overflow.
        raise ConfigError(f"logit scale {scale!r} is outside 2^{-16 - bits} .. 2^{30 - bits}")
    return shift, math.ldexp(scale, -shift)


@dataclass(frozen=True)
class PublishedExponential:
    """SM7: the published repository's ``-x0`` (period) and ``b`` (offset), floors included."""

    period: int
    offset: int


def hyq_constants(scale: float, tokens: int) -> PublishedExponential:
    """SM7: floors of ``-0.6931 / scale`` and ``1.35472 / scale``, for the logits' scale.

    Raises ``ConfigError`` where the weights, which have 30 fraction bits, would not fit int64.
    """
    exponent_bits(tokens)
    period = -math.floor(-0.6931 / positive_scale(scale))
    offset = math.floor(LINE_RATIO / scale)
    row = (tokens - 1).bit_length()
    if offset.bit_length() + HYQ_SHIFT + max(8, row + 1) > 62:
        raise ConfigError(
            f"softmax kind 'hyq' at logit scale {scale!r} with {tokens} logits needs more than "
            "64 bits; requantize the logits to 8 bits first"
        )
    return PublishedExponential(period, offset)


def positive_scale(scale: float) -> float:
    """``scale`` itself; raises ``ConfigError`` unless it is a positive finite number."""
    if not 0 < scale < math.inf:
        raise ConfigError(f"scale {scale!r} is not a positive number")
    return float(scale)
