"""Scheduled kernels: every marked PrimFunc of an integer module made fast for a target.

``apply(module, target, records)`` replaces each operator by the kernel of the first rule that
takes it; see ``schedules.rule`` for what a rule is and ``schedules.llvm`` for the rules of CPUs.
"""

from schedules.application import apply
from schedules.rule import Constant, Kernel, Rule, Workload

__all__ = ["Constant", "Kernel", "Rule", "Workload", "apply"]
