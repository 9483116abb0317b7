"""The exact softmax in float32 TE: the honest opponent of the integer one in benchmarks.

Integer modules never contain it. Its exponential is a polynomial in plain multiplications, so that
compilers vectorise it, which they do not do to a call of the C library.
"""

from __future__ import annotations

import math

from tvm import te, tirx

from hyq_tvm.errors import ConfigError
from hyq_tvm.topi.fixed_point import Expr, dtype_of

LN2_HIGH = 0.693359375
"""ln2 to 10 bits: n * LN2_HIGH is exact in float32, so the remainder loses nothing."""

SMALLEST_EXPONENT = -87.0


def exact_softmax(
    x: te.Tensor, scale: float | None = None, output: str = "float32", polynomial: bool = True
) -> te.Tensor:
    """Softmax over the last axis in float32; about 1e-6 from float64.

    x: float32 of any rank, or int8, int16, int32 logits of which one step is ``scale``. output:
    ``"float32"``, or ``"uint8"`` for probabilities times 255, rounded. polynomial: False calls
    the target's own exp instead. Blocks: exact_max, exact_exp, exact_sum, exact_softmax.
    Raises ``ConfigError`` on other outputs and on integers without a scale.
    """
    if output not in ("float32", "uint8"):
        raise ConfigError(f"exact softmax output {output!r}: choose 'float32' or 'uint8'")
    if (dtype_of(x) == "float32") != (scale is None):
        raise ConfigError(f"exact softmax of {dtype_of(x)} with scale={scale!r}: float32 has none")
    rm, rs = (te.reduce_axis((0, x.shape[-1]), name) for name in ("rm", "rs"))
    top = te.compute(x.shape[:-1], lambda *i: te.max(x[(*i, rm)], axis=rm), name="exact_max")
    exponential = _exponential if polynomial else te.exp

    def weight(*i: Expr) -> Expr:
        d = x[i].astype("float32") - top[i[:-1]].astype("float32")
        return exponential(d if scale is None else d * _real(scale))

    e = te.compute(x.shape, weight, name="exact_exp")
    total = te.compute(x.shape[:-1], lambda *i: te.sum(e[(*i, rs)], axis=rs), name="exact_sum")

    def share(*i: Expr) -> Expr:
        if output == "float32":
            return e[i] / total[i[:-1]]
        return tirx.nearbyint(e[i] * (_real(255.0) / total[i[:-1]])).astype("uint8")

    return te.compute(x.shape, share, name="exact_softmax")


def _exponential(x: Expr) -> Expr:
    """``exp(x)`` for ``x <= 0``: 2^n times a Taylor polynomial of degree 6 on [-ln2/2, ln2/2]."""
    clamped = tirx.max(x, _real(SMALLEST_EXPONENT))
    n = tirx.floor(clamped * _real(1 / math.log(2)) + _real(0.5))
    r = clamped - n * _real(LN2_HIGH) - n * _real(math.log(2) - LN2_HIGH)
    power = _real(1 / math.factorial(6))
    for degree in range(5, -1, -1):
        power = power * r + _real(1 / math.factorial(degree))
    exponent = (n.astype("int32") + tirx.const(127, "int32")) << tirx.const(23, "int32")
    return power * tirx.reinterpret("float32", exponent)


def _real(value: float) -> Expr:
    return tirx.const(value, "float32")
