"""Epilogues: the stages that turn an accumulator into an operator's result (clauses E1 to E4).

``stages`` is a list of dictionaries, each with the key ``kind`` and the parameters of that stage:

==============  ==========================================  ==================================
kind            parameters                                  tensors
==============  ==========================================  ==================================
``requantize``  zero_point, low, high, dtype                multiplier int32, shift int32
``lookup``      low, dtype                                  table (1-D)
``add``         zero_point, multiplier, shift, low, high,   other (the value's shape)
                dtype
==============  ==========================================  ==================================

The TE twin is ``hyq_tvm.topi.epilogue``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.numerics.fixed_point import IntArray, as_dtype, requantize, rounding_shift, saturate

STAGE_TENSORS = {"requantize": 2, "lookup": 1, "add": 1}
"""How many tensors each stage takes from the end of the operator's arguments."""

Stage = Mapping[str, Any]


def tensor_count(stages: Sequence[Stage]) -> int:
    """How many tensors ``stages`` take together; raises ``ValueError`` on an unknown stage."""
    for stage in stages:
        if stage.get("kind") not in STAGE_TENSORS:
            raise ValueError(f"unknown epilogue stage {stage!r}; known: {sorted(STAGE_TENSORS)}")
    return sum(STAGE_TENSORS[stage["kind"]] for stage in stages)


def apply(acc: IntArray, stages: Sequence[Stage], tensors: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """E1: ``acc`` (int32 values, any integer dtype) through ``stages`` in order.

    ``tensors``: the tensors of all stages in order. The result has the dtype of the last stage,
    or ``acc``'s without stages. Raises ``ValueError`` when stages and tensors do not match.
    """
    if tensor_count(stages) != len(tensors):
        raise ValueError(f"{len(tensors)} tensors for stages that take {tensor_count(stages)}")
    value: NDArray[Any] = acc
    rest = list(tensors)
    for stage in stages:
        count = STAGE_TENSORS[stage["kind"]]
        value = _STAGES[stage["kind"]](value, stage, *rest[:count])
        rest = rest[count:]
    return value


def _requantize(value: IntArray, stage: Stage, multiplier: IntArray, shift: IntArray) -> IntArray:
    """E2: the value times the real factor ``multiplier * 2^-shift``, by R32."""
    result = requantize(value, multiplier, shift, stage["zero_point"], stage["low"], stage["high"])
    return _stored(result, value, stage)


def _lookup(value: IntArray, stage: Stage, table: NDArray[Any]) -> NDArray[Any]:
    """E3: ``table[value - low]``; the value must lie within the table."""
    index = np.subtract(value, stage["low"], dtype=np.int64)
    if index.size and (index.min() < 0 or index.max() >= len(table)):
        raise ValueError(
            f"lookup of {index.min()}..{index.max()} in a table of {len(table)} entries"
        )
    return _stored(table[index], value, stage)


def _add(value: IntArray, stage: Stage, other: IntArray) -> IntArray:
    """E4: the value plus another tensor that is scaled into the value's grid."""
    centred = np.subtract(other, stage["zero_point"], dtype=np.int64)
    scaled = rounding_shift(centred * np.int64(stage["multiplier"]), stage["shift"])
    return _stored(saturate(value + scaled, stage["low"], stage["high"]), value, stage)


def _stored(result: NDArray[Any], value: IntArray, stage: Stage) -> NDArray[Any]:
    if result.shape != value.shape:
        raise ValueError(
            f"the tensors of {stage['kind']} change the shape {value.shape} to {result.shape}"
        )
    return as_dtype(result, stage["dtype"])


_STAGES: dict[str, Callable[..., NDArray[Any]]] = {
    "requantize": _requantize,
    "lookup": _lookup,
    "add": _add,
}
