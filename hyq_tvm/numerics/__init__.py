"""The golden model of docs/numerics.md: every integer operator in NumPy, bit for bit.

``OPERATORS[name](*arrays, **params)`` defines the result that all compiled code must equal.
"""

from hyq_tvm.numerics import reference
from hyq_tvm.numerics.registry import OPERATORS

__all__ = ["OPERATORS", "reference"]
