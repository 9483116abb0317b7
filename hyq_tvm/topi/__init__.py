"""Every integer operator of docs/numerics.md in TE: the twins of ``hyq_tvm.numerics``.

``OPERATORS[name](*te_tensors, **params) -> te.Tensor``; ``prim_func`` makes the marked PrimFunc
that an integer module calls.
"""

from hyq_tvm.topi.registry import OPERATORS, prim_func

__all__ = ["OPERATORS", "prim_func"]
