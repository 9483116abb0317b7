"""Relax passes of hyq_tvm; each lives in a module of its own.

``ApplyDistributionScaling`` and ``LowerLinearSoftmax`` are ordinary Relax module passes for any
pipeline; the functions that take a model to integers are in ``extract_graph``, ``quantize_graph``,
``check_integer_only`` and ``read_program``.
"""

from relay_passes.apply_distribution_scaling import ApplyDistributionScaling
from relay_passes.lower_linear_softmax import LowerLinearSoftmax

__all__ = ["ApplyDistributionScaling", "LowerLinearSoftmax"]
