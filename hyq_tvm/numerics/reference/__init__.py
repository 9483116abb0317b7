"""The golden operators, one module a family; importing them fills ``OPERATORS``."""

from hyq_tvm.numerics.reference import conv, edges, elementwise, layout, matmul, pool

__all__ = ["conv", "edges", "elementwise", "layout", "matmul", "pool"]
