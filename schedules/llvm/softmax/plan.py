"""Sizes and tables of a softmax kernel."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.numerics.exponential import GRID_KINDS, LN2, exponent_bits
from hyq_tvm.numerics.reference.softmax import weights
from schedules.rule import Workload

BYTES = 256
_NARROW = 15


@dataclass(frozen=True)
class Plan:
    """``rows`` rows of ``tokens`` logits.

    bits: width of a weight. requantized: whether logits go to the grid first; halves: whether that
    is 16-bit arithmetic from the shift on.
    """

    rows: int
    tokens: int
    dtype: str
    bits: int
    requantized: bool
    halves: bool = False

    @property
    def count(self) -> int:
        """Planes of the table, one a byte of a weight."""
        return 2 if self.bits <= _NARROW else 3

    def planes(self, workload: Workload) -> NDArray[np.int8]:
        """The bytes of the weights of differences 0 to 255, plane after plane."""
        params, tensors = workload.params, len(workload.arguments) - 1
        fraction_bits = int(params.get("fraction_bits", 4))
        scale = params.get("scale") or LN2 / 2**fraction_bits
        inputs = () if self.requantized else [workload.constant(i + 1) for i in range(tensors)]
        lines = -(-BYTES // self.tokens)
        differences = np.resize(np.arange(BYTES, dtype=np.int64), (lines, self.tokens))
        made = weights(
            differences, *inputs, kind=params["kind"], fraction_bits=fraction_bits, scale=scale
        ).reshape(-1)[:BYTES]
        parts = [(made >> (8 * i) & 255).astype(np.uint8) for i in range(self.count)]
        return np.concatenate(parts).view(np.int8)


def make_plan(workload: Workload) -> Plan | None:
    """The plan of a ``softmax``; None where differences do not fit bytes."""
    params, shape = workload.params, workload.output.shape
    spec, tokens = workload.arguments[0], shape[-1]
    if params.get("output", "uint8") != "uint8" or params["kind"] == "hyq":
        return None
    if any(argument.constant is None for argument in workload.arguments[1:]):
        return None
    bits = exponent_bits(tokens)
    requantized = spec.dtype != "int8"
    if requantized and not _on_bytes(workload, bits):
        return None
    halves = requantized and _in_halves(workload)
    return Plan(prod(shape[:-1]), tokens, spec.dtype, bits, requantized, halves)


def _in_halves(workload: Workload) -> bool:
    """Whether SM2 is ``(high half of a * m + 2^(s-17)) >> (s - 16)``, a shifted but for one place.

    Saturation of ``d >> (p - 1)`` to 16 bits is that of the clause where 2^(31-p) does not fit 15.
    """
    pre_shift, shift = (int(workload.constant(i)[0]) for i in (2, 3))
    return 2 <= pre_shift <= 16 and 17 <= shift <= 31


def _on_bytes(workload: Workload, bits: int) -> bool:
    """Whether differences beyond 255 steps of the grid weigh nothing."""
    params = workload.params
    last = ((bits + 1) << int(params.get("fraction_bits", 4))) - 1
    return (
        workload.arguments[0].dtype == "int32"
        and params["kind"] in GRID_KINDS
        and len(workload.arguments) == 4
        and last < BYTES
    )
