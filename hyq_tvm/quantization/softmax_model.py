"""What each integer softmax does to probabilities, in float: used to choose widths and to simulate.

The definition of the integers is docs/numerics.md; this models their arithmetic closely enough to
compare kinds and widths (no requantize ties, no reciprocal rounding).
"""

from __future__ import annotations

import math
from typing import Any

import torch

from hyq_tvm.quantization.plan import LayerPlan

Tensor = Any

LOG2E = math.log2(math.e)
LINE = 1.35472
"""Offset over slope of the line that stands for exp on (-ln 2, 0]."""

POT_LINE = 1.95445
"""The same offset in units of ln 2."""


def weights(logits: Tensor, kind: str, bits: int, fraction_bits: int) -> Tensor:
    """Unnormalised weights of ``logits`` [.., N] (scale and bias applied), 1 or so at the maximum.

    kind: one of ``config.SOFTMAX_KINDS``. bits: 8 or 16, their width; fraction_bits: F of the
    power-of-two grid.
    """
    if kind == "exact":
        return torch.exp(logits - logits.amax(dim=-1, keepdim=True))
    if kind == "hyq":
        return _published(logits)
    if kind in ("linear_pot", "table"):
        return _power_of_two(logits, kind, bits, fraction_bits)
    r = logits - logits.amax(dim=-1, keepdim=True)
    octave = torch.floor(-r * math.log(2) ** -1)
    r = r + octave * math.log(2)
    value = (r + LINE) / LINE if kind == "linear" else 0.3585 * (r + 1.353) ** 2 + 0.344
    full = float(2**bits - 1)
    return torch.round(value * torch.exp2(-octave) * full) / full


def _power_of_two(logits: Tensor, kind: str, bits: int, fraction_bits: int) -> Tensor:
    steps = torch.round(logits * (LOG2E * 2**fraction_bits))
    d = steps.amax(dim=-1, keepdim=True) - steps
    full = float(2**bits - 1)
    if kind == "table":
        e = torch.round(full * torch.exp2(-d / 2**fraction_bits))
    else:
        octave = torch.floor(d / 2**fraction_bits)
        line = POT_LINE * 2**fraction_bits
        mantissa = torch.round(full * (line - (d - octave * 2**fraction_bits)) / line)
        e = torch.floor(mantissa * torch.exp2(-octave) + 0.5)
    return torch.where(d >= (bits + 1) * 2**fraction_bits, torch.zeros_like(e), e) / full


def _published_weights(logits: Tensor) -> Tensor:
    """The published repository: 8-bit logits, floored constants."""
    scale = float(logits.abs().max()) / 127 or 1.0
    x = torch.round(logits / scale)
    x = x - x.amax(dim=-1, keepdim=True)
    octave_length, offset = math.floor(-math.log(2) / scale), math.floor(LINE / scale)
    x = torch.clamp(x, min=30 * octave_length)
    octave = torch.floor(x / octave_length)
    return torch.clamp((x - octave * octave_length + offset) * torch.exp2(30 - octave), min=0)


def _published(logits: Tensor) -> Tensor:
    """Its attention's 4-bit log2 probabilities."""
    e = _published_weights(logits)
    ratio = torch.round(e.sum(dim=-1, keepdim=True) / e)
    mantissa, exponent = torch.frexp(ratio)
    exponent = torch.where(mantissa >= 0.75, exponent, exponent - 1)  # rounded at 1.5 * 2^k
    return torch.where(
        (exponent >= 16) | (e == 0), torch.zeros_like(e), torch.exp2(-exponent.float())
    )


def planned_probabilities(logits: Tensor, layer: LayerPlan) -> Tensor:
    """``probabilities`` as a planned attention or softmax has them.

    A softmax operator's own weights have 15 bits and more (SM3); what rounds is its output's grid,
    which for the published kind is always 1/255 (SM7).
    """
    if layer.op == "softmax" and layer.softmax == "hyq":
        e = _published_weights(logits)
        return torch.round(255 * e / e.sum(dim=-1, keepdim=True).clamp(min=1e-30)) / 255
    bits = layer.softmax_weight_bits if layer.op == "attention" else 16
    return probabilities(logits, layer.softmax, bits, layer.softmax_fraction_bits)


def probabilities(logits: Tensor, kind: str, bits: int, fraction_bits: int) -> Tensor:
    """``weights`` divided by their sum, as attention's deferred division does."""
    e = weights(logits, kind, bits, fraction_bits)
    return e if kind == "hyq" else e / e.sum(dim=-1, keepdim=True).clamp(min=1e-30)
