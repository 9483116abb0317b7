"""Error of every integer softmax over the scale of its logits: the curves of HyQ's Figure 4."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import ConfigError
from hyq_tvm.numerics.exponential import GRID_KINDS, INTEGER_KINDS, grid_requantizer
from hyq_tvm.numerics.reference.softmax import probabilities, softmax
from hyq_tvm.report.data import SoftmaxCurve

SPREADS = (1.0, 3.0, 10.0)
"""Standard deviations of the real logits; the largest error over all counts."""

FRACTION_BITS = 4
TOKENS = 64
ROWS = 64
SCALES = tuple(float(scale) for scale in np.geomspace(1e-3, 4, 16))


def softmax_curves(scales: tuple[float, ...] = SCALES, seed: int = 0) -> list[SoftmaxCurve]:
    """One curve a kind: largest |dp| against the exact softmax of the same integer logits.

    Logits are int32 as accumulators are, but int8 for ``hyq``, which is published so and answers
    in 4-bit powers of two; all others answer in uint8. Scales that a kind refuses are left out.
    """
    random = np.random.default_rng(seed)
    real = np.concatenate([s * random.standard_normal((ROWS, TOKENS)) for s in SPREADS])
    curves = []
    for kind in INTEGER_KINDS:
        errors = [largest_error(kind, real, scale) for scale in scales]
        known = [(s, e) for s, e in zip(scales, errors, strict=True) if e is not None]
        curves.append(SoftmaxCurve(kind, [s for s, _ in known], [e for _, e in known]))
    return curves


def largest_error(kind: str, real: NDArray[np.float64], scale: float) -> float | None:
    """Largest |dp| over rows of real logits [R,N] at ``scale``; ``None`` where it is refused."""
    logits = np.round(real / scale)
    logits = np.clip(logits, -128, 127) if kind == "hyq" else logits
    x = logits.astype(np.int32)
    output = "log2_4bit" if kind == "hyq" else "uint8"
    try:
        if kind in GRID_KINDS:
            tensors = grid_requantizer(scale, FRACTION_BITS, x.shape[-1]).tensors
            codes = softmax(x, *tensors, kind=kind, fraction_bits=FRACTION_BITS, output=output)
        else:
            codes = softmax(x, kind=kind, scale=scale, output=output)
    except ConfigError:
        return None
    e = np.exp(scale * (logits - logits.max(axis=-1, keepdims=True)))
    exact = e / e.sum(axis=-1, keepdims=True)
    return float(np.abs(probabilities(codes, kind, output) - exact).max())
