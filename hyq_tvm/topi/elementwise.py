"""Element by element in TE: identity, add, multiply, sums over axes (clauses A1 to A4)."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te, tirx

from hyq_tvm.numerics.fixed_point import MULTIPLIER_BITS
from hyq_tvm.topi.epilogue import Stage, apply, at, finish
from hyq_tvm.topi.fixed_point import Expr, bounds, dtype_of, rounding_shift, saturate, width_for
from hyq_tvm.topi.registry import operator


@operator("add")
def add(
    a: te.Tensor,
    b: te.Tensor,
    multiplier_a: te.Tensor,
    multiplier_b: te.Tensor,
    *,
    zero_point_a: int,
    zero_point_b: int,
    shift: int,
    zero_point: int,
    low: int,
    high: int,
    dtype: str,
    multiplier_bits: int = MULTIPLIER_BITS,
) -> te.Tensor:
    """A1: int8 or int16 operands that broadcast, multipliers ``[1]`` or ``[C]``. Block: add."""
    operands = ((a, zero_point_a), (b, zero_point_b))
    width = _add_width(operands, multiplier_bits, shift, zero_point)

    def element(*index: Expr) -> Expr:
        scaled_a = _centred(a, index, zero_point_a, width) * at(multiplier_a, index).astype(width)
        scaled_b = _centred(b, index, zero_point_b, width) * at(multiplier_b, index).astype(width)
        total = rounding_shift(scaled_a + scaled_b, shift) + tirx.const(zero_point, width)
        return saturate(total, low, high).astype(dtype)

    return te.compute(_broadcast(a.shape, b.shape), element, name="add")


@operator("multiply")
def multiply(
    a: te.Tensor,
    b: te.Tensor,
    *tensors: te.Tensor,
    zero_point_a: int,
    zero_point_b: int,
    epilogue: Sequence[Stage],
) -> te.Tensor:
    """A2: the int32 product of int8 or int16 operands that broadcast. Block: epilogue."""

    def product(*index: Expr) -> Expr:
        return _centred(a, index, zero_point_a) * _centred(b, index, zero_point_b)

    return apply(_broadcast(a.shape, b.shape), product, epilogue, tensors)


@operator("identity")
def identity(
    x: te.Tensor, *tensors: te.Tensor, zero_point: int, epilogue: Sequence[Stage]
) -> te.Tensor:
    """A3: ``x - zero_point`` through an epilogue. Block: epilogue."""
    return apply(x.shape, lambda *i: _centred(x, i, zero_point), epilogue, tensors)


@operator("reduce_sum")
def reduce_sum(
    x: te.Tensor,
    *tensors: te.Tensor,
    axes: Sequence[int],
    keepdims: bool,
    zero_point: int,
    epilogue: Sequence[Stage],
) -> te.Tensor:
    """A4: the int32 sum of ``x - zero_point`` over ``axes``. Blocks: sum, epilogue."""
    rank = len(x.shape)
    reduced = {axis % rank: te.reduce_axis((0, x.shape[axis]), f"r{axis % rank}") for axis in axes}
    kept = [axis for axis in range(rank) if keepdims or axis not in reduced]
    shape = [1 if axis in reduced else x.shape[axis] for axis in kept]

    def total(*index: Expr) -> Expr:
        full = {**dict(zip(kept, index, strict=True)), **reduced}
        value = x[tuple(full[axis] for axis in range(rank))].astype("int32")
        return te.sum(value - tirx.const(zero_point, "int32"), axis=list(reduced.values()))

    return finish(te.compute(tuple(shape), total, name="sum"), epilogue, tensors)


def _centred(x: te.Tensor, index: Sequence[Expr], zero_point: int, width: str = "int32") -> Expr:
    value = at(x, index).astype(width)
    return value - tirx.const(zero_point, width) if zero_point else value


def _add_width(operands: Sequence[tuple[te.Tensor, int]], bits: int, shift: int, zero: int) -> str:
    """Int32 where no operands of these dtypes and zero points can wrap it, else int64."""
    reach = sum(
        max(abs(end - zero_point) for end in bounds(dtype_of(tensor)))
        for tensor, zero_point in operands
    )
    total = reach * ((1 << bits) - 1) + ((1 << shift) >> 1)
    return width_for(total, (total >> shift) + abs(zero))


def _broadcast(a: Sequence[Expr], b: Sequence[Expr]) -> tuple[int, ...]:
    """NumPy's rule; raises ``ValueError`` on shapes that do not broadcast."""
    left, right = [int(n) for n in a], [int(n) for n in b]
    rank = max(len(left), len(right))
    left, right = [1] * (rank - len(left)) + left, [1] * (rank - len(right)) + right
    if any(m != n and 1 not in (m, n) for m, n in zip(left, right, strict=True)):
        raise ValueError(f"shapes {left} and {right} do not broadcast")
    return tuple(n if m == 1 else m for m, n in zip(left, right, strict=True))
