"""From a float graph and its plan to the integer program: one rule per operator."""

from hyq_tvm.quantization.lowering.lower import lower

__all__ = ["lower"]
