"""Epilogues in TE: the twin of ``hyq_tvm.numerics.epilogue`` (clauses E1 to E4).

All stages become one expression of one compute, named ``epilogue``, so that a schedule can fuse
them behind the accumulator with a single ``compute_at`` and nothing but the result is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tvm import te, tirx

from hyq_tvm.numerics.epilogue import STAGE_TENSORS, tensor_count
from hyq_tvm.topi.fixed_point import (
    Expr,
    bounds,
    dtype_of,
    requantize,
    rounding_shift,
    saturate,
    width_for,
)

Stage = Mapping[str, Any]
BLOCK = "epilogue"


def apply(
    shape: Sequence[int],
    accumulator: Callable[..., Expr],
    stages: Sequence[Stage],
    tensors: Sequence[te.Tensor],
    name: str = BLOCK,
) -> te.Tensor:
    """E1: the tensor of ``shape`` whose elements are ``accumulator(*index)`` through the stages.

    ``accumulator``: makes an integer expression, int32 as a rule. ``tensors``: the tensors of all
    stages in order. Raises ``ValueError`` when stages and tensors do not match.
    """
    if tensor_count(stages) != len(tensors):
        raise ValueError(f"{len(tensors)} tensors for stages that take {tensor_count(stages)}")

    def element(*index: Expr) -> Expr:
        return expression(accumulator(*index), index, stages, tensors)

    return te.compute(tuple(shape), element, name=name)


def finish(
    acc: te.Tensor,
    stages: Sequence[Stage],
    tensors: Sequence[te.Tensor],
    bias: te.Tensor | None = None,
) -> te.Tensor:
    """The accumulator ``acc``, plus ``bias`` along its last axis, through the stages."""

    def biased(*index: Expr) -> Expr:
        return acc[index] if bias is None else acc[index] + bias[index[-1]]

    return apply(acc.shape, biased, stages, tensors)


def expression(
    value: Expr, index: Sequence[Expr], stages: Sequence[Stage], tensors: Sequence[te.Tensor]
) -> Expr:
    """One element through the stages: ``value`` is the accumulator at ``index``."""
    rest = list(tensors)
    for stage in stages:
        count = STAGE_TENSORS[stage["kind"]]
        value = _STAGES[stage["kind"]](value, index, stage, *rest[:count])
        rest = rest[count:]
    return value


def at(tensor: te.Tensor, index: Sequence[Expr]) -> Expr:
    """``tensor[index]`` with NumPy broadcasting from the right."""
    own = tuple(index)[len(index) - len(tensor.shape) :]
    return tensor[tuple(0 if int(n) == 1 else i for n, i in zip(tensor.shape, own, strict=True))]


def _requantize(
    value: Expr, index: Sequence[Expr], stage: Stage, multiplier: te.Tensor, shift: te.Tensor
) -> Expr:
    result = requantize(
        value,
        at(multiplier, index),
        at(shift, index),
        stage["zero_point"],
        stage["low"],
        stage["high"],
    )
    return result.astype(stage["dtype"])


def _lookup(value: Expr, index: Sequence[Expr], stage: Stage, table: te.Tensor) -> Expr:
    entry = value.astype("int32") - tirx.const(stage["low"], "int32")
    return table[entry].astype(stage["dtype"])


def _add(value: Expr, index: Sequence[Expr], stage: Stage, other: te.Tensor) -> Expr:
    # 32-bit arithmetic where it provably cannot wrap: twice the lanes of a vector register.
    low, high = bounds(dtype_of(other))
    multiplier, shift, zero_point = stage["multiplier"], stage["shift"], stage["zero_point"]
    half = (1 << shift) >> 1
    products = [(low - zero_point) * multiplier + half, (high - zero_point) * multiplier + half]
    sums = [b + (p >> shift) for b in bounds(dtype_of(value)) for p in products]
    width = width_for(low - zero_point, high - zero_point, *products, *sums, multiplier)
    centred = other[tuple(index)].astype(width) - tirx.const(zero_point, width)
    scaled = rounding_shift(centred * tirx.const(multiplier, width), shift)
    total = saturate(value.astype(width) + scaled, stage["low"], stage["high"])
    return total.astype(stage["dtype"])


_STAGES: dict[str, Callable[..., Expr]] = {
    "requantize": _requantize,
    "lookup": _lookup,
    "add": _add,
}
