"""Fused integer attention: scores, weights and weighted values of a few query rows at a time.

Nothing of the size tokens x tokens reaches memory: a tile of query rows keeps its logits and its
weights in scratch memory of some kilobytes. Keys and values are packed once for all rows.
"""

from schedules.llvm.attention.plan import space
from schedules.llvm.attention.rule import schedule

__all__ = ["schedule", "space"]
