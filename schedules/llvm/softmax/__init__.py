"""Softmax of integer rows, 64 logits at a time, on processors that permute bytes.

A weight depends on the difference to the row's maximum alone. Where that difference fits a byte
(int8 logits, or others on the power-of-two grid), the 256 weights are a table in registers, one
plane a byte; the table is the clauses' own arithmetic, done beforehand. Two planes hold the weights
of rows up to 256 tokens, whose probabilities are 16-bit arithmetic (SM8). Longer rows look their
probabilities up, in a second table that each row makes from its sum.
"""

from schedules.llvm.softmax.rule import schedule

__all__ = ["schedule"]
