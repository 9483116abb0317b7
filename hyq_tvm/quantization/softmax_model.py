"""What each integer softmax does to probabilities, in float: used to choose widths and to simulate.

The definition of the integers is docs/numerics.md; this takes their exponential tables and leaves
out requantize ties and the rounding of reciprocals.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from hyq_tvm.numerics.softmax_tables import weight_table

Tensor = Any

LINE = 1.35472
"""Offset over slope of the line that stands for exp on (-ln 2, 0]."""

PUBLISHED_SHIFT = 30
STANDALONE_BITS = 16
"""A softmax of its own has exponentials of about this width before it divides."""


def probabilities(
    logits: Tensor, kind: str, bits: int, fraction_bits: int, logit_scale: float = 0.0
) -> Tensor:
    """Softmax of ``logits`` [.., N] (scale and bias applied) as the integers of ``kind`` make it.

    bits: 8 or 16, the width of the unnormalised weights; fraction_bits: F of the power-of-two
    grid; logit_scale: the 8-bit grid of ``"hyq"``.
    """
    if kind == "exact":
        return torch.softmax(logits, dim=-1)
    if kind == "hyq":
        return _published(logits, logit_scale)
    table = torch.from_numpy(weight_table(kind, fraction_bits, bits).astype("float32"))
    steps = torch.round(logits * (2**fraction_bits / math.log(2)))
    d = torch.clamp(steps.amax(dim=-1, keepdim=True) - steps, max=len(table) - 1)
    e = table[d.long()]
    return e / e.sum(dim=-1, keepdim=True)


def _published(logits: Tensor, scale: float) -> Tensor:
    """The published repository: 8-bit logits, floored constants, 4-bit log2 probabilities."""
    x = torch.clamp(torch.round(logits / scale), -128, 127)
    x = x - x.amax(dim=-1, keepdim=True)
    period, offset = math.floor(-math.log(2) / scale), math.floor(LINE / scale)
    x = torch.clamp(x, min=PUBLISHED_SHIFT * period)
    octave = torch.floor(x / period)
    e = torch.clamp((x - octave * period + offset) * torch.exp2(PUBLISHED_SHIFT - octave), min=0)
    exponent = torch.round(torch.log2(torch.round(e.sum(dim=-1, keepdim=True) / e)))
    return torch.where(exponent > STANDALONE_BITS - 1, torch.zeros_like(e), torch.exp2(-exponent))
