"""The golden operators, one module a family; importing them fills ``OPERATORS``."""

from hyq_tvm.numerics.reference import (
    attention,
    conv,
    edges,
    elementwise,
    layout,
    matmul,
    norm,
    pool,
    softmax,
)

__all__ = [
    "attention",
    "conv",
    "edges",
    "elementwise",
    "layout",
    "matmul",
    "norm",
    "pool",
    "softmax",
]
