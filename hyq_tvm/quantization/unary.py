"""Unary functions in float64, from which activation tables are made (docs/numerics.md, tables)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.quantization.graph import AFFINE, TABLES

Reals = NDArray[np.float64]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Reals) -> Reals:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _gelu(x: Reals) -> Reals:
    return np.asarray(0.5 * x * (1.0 + _erf(x / math.sqrt(2.0))))


def _gelu_tanh(x: Reals) -> Reals:
    return np.asarray(0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))))


def _hardsigmoid(x: Reals) -> Reals:
    return np.clip(x / 6.0 + 0.5, 0.0, 1.0)


def _followed(function: Callable[..., Reals]) -> Callable[..., Reals]:
    """``a * function(x) + b``."""
    return lambda x, a, b: a * function(x) + b


_PLAIN: dict[str, Callable[..., Reals]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "relu6": lambda x: np.clip(x, 0.0, 6.0),
    "silu": lambda x: x * _sigmoid(x),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "sigmoid": _sigmoid,
    "hardswish": lambda x: x * _hardsigmoid(x),
    "hardsigmoid": _hardsigmoid,
    "hardtanh": lambda x, low=-1.0, high=1.0: np.clip(x, low, high),
    "clip": lambda x, low, high: np.clip(x, low, high),
    "tanh": np.tanh,
    "leaky_relu": lambda x, slope=0.01: np.where(x > 0, x, slope * x),
    "elu": lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0))),
    "exp": np.exp,
    "sqrt": lambda x: np.sqrt(np.maximum(x, 0.0)),
    "rsqrt": lambda x: 1.0 / np.sqrt(np.maximum(x, np.finfo(np.float32).tiny)),
    "square": np.square,
    "abs": np.abs,
    "neg": np.negative,
    "affine": lambda x, a, b: a * x + b,
    "erf": _erf,
}

FUNCTIONS: dict[str, Callable[..., Reals]] = _PLAIN | {
    name + AFFINE: _followed(_PLAIN[name]) for name in TABLES
}
"""Name -> function of a float64 array and the node's ``args``."""

CLAMPS: dict[str, Callable[..., tuple[float, float]]] = {
    "relu": lambda: (0.0, math.inf),
    "relu6": lambda: (0.0, 6.0),
    "hardtanh": lambda low=-1.0, high=1.0: (low, high),
    "clip": lambda low, high: (low, high),
}
"""Functions that only clamp: a requantize does them in its saturation, without a table."""


def evaluate(fn: str, args: Sequence[float], x: Reals) -> Reals:
    """``fn(x, *args)`` in float64; raises ``KeyError`` on an unknown name."""
    with np.errstate(over="ignore"):
        return np.asarray(FUNCTIONS[fn](np.asarray(x, np.float64), *args), dtype=np.float64)
