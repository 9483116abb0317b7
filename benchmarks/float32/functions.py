"""Functions of one number on vectors of float32, by polynomials, about 1e-6 from exact."""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import tirx

from schedules.llvm import vector
from schedules.llvm.vector import Expr

_LN2_HIGH = 0.693359375  # 10 bits of ln2: n * _LN2_HIGH is exact in float32
_SMALLEST, _LARGEST = -87.0, 88.0
_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
_ERF_SLOPE = 0.3275911

Function = Callable[[Expr, int], Expr]
"""``function(x, lanes)``."""


def real(value: float, lanes: int) -> Expr:
    """``value`` in every lane."""
    return tirx.const(value, vector.vector_type("float32", lanes))


def exponential(x: Expr, lanes: int) -> Expr:
    """2^n times a Taylor polynomial of degree 6 on [-ln2/2, ln2/2]."""
    clamped = tirx.max(tirx.min(x, real(_LARGEST, lanes)), real(_SMALLEST, lanes))
    x = vector.bind(clamped)
    n = vector.bind(tirx.floor(x * real(1 / math.log(2), lanes) + real(0.5, lanes)))
    r = x - n * real(_LN2_HIGH, lanes) - n * real(math.log(2) - _LN2_HIGH, lanes)
    r = vector.bind(r)
    power = real(1 / math.factorial(6), lanes)
    for degree in range(5, -1, -1):
        power = power * r + real(1 / math.factorial(degree), lanes)
    bits = vector.cast(n, "int32", lanes) + vector.constant(127, "int32", lanes)
    scale = vector.reinterpret(bits << vector.constant(23, "int32", lanes), "float32", lanes)
    return vector.bind(power * scale)


def sigmoid(x: Expr, lanes: int) -> Expr:
    """``1 / (1 + exp(-x))``."""
    one = real(1.0, lanes)
    return one / (one + exponential(real(0.0, lanes) - x, lanes))


def silu(x: Expr, lanes: int) -> Expr:
    """``x * sigmoid(x)``."""
    return x * sigmoid(x, lanes)


def gelu(x: Expr, lanes: int) -> Expr:
    """``x * (1 + erf(x / sqrt 2)) / 2``, erf by Abramowitz and Stegun's formula 7.1.26."""
    zero, one = real(0.0, lanes), real(1.0, lanes)
    z = vector.bind(tirx.max(x, zero - x) * real(math.sqrt(0.5), lanes))
    t = vector.bind(one / (one + real(_ERF_SLOPE, lanes) * z))
    series = real(_ERF[0], lanes)
    for coefficient in _ERF[1:]:
        series = series * t + real(coefficient, lanes)
    tail = series * t * exponential(zero - z * z, lanes)
    positive = vector.bind(real(0.5, lanes) * (one + one - tail))
    return x * vector.select(x < zero, one - positive, positive)


def relu(x: Expr, lanes: int) -> Expr:
    """``max(x, 0)``."""
    return tirx.max(x, real(0.0, lanes))


FUNCTIONS: dict[str, Function] = {
    "silu": silu,
    "gelu": gelu,
    "relu": relu,
    "sigmoid": sigmoid,
    "exp": exponential,
}
