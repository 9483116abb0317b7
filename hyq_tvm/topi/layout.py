"""Operators that only move numbers, in TE: concat, view, pad (clauses L1 to L3)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from tvm import te, tirx
from tvm.ir import Range
from tvm.sym import Analyzer

from hyq_tvm.numerics.reference.layout import check_view
from hyq_tvm.topi.fixed_point import Expr, dtype_of
from hyq_tvm.topi.registry import operator


@operator("concat")
def concat(*tensors: te.Tensor, axis: int) -> te.Tensor:
    """L1: tensors of one dtype side by side along ``axis``. Block: concat."""
    axis %= len(tensors[0].shape)
    sizes = [int(t.shape[axis]) for t in tensors]
    shape = list(tensors[0].shape)
    shape[axis] = sum(sizes)

    def element(*index: Expr) -> Expr:
        start = shape[axis]
        result: Expr = None
        for tensor, size in zip(reversed(tensors), reversed(sizes), strict=True):
            start -= size
            own = tensor[(*index[:axis], index[axis] - start, *index[axis + 1 :])]
            # if_then_else evaluates one branch only: the others would read out of bounds.
            result = (
                own
                if result is None
                else tirx.if_then_else(index[axis] < start + size, own, result)
            )
        return result

    return te.compute(tuple(shape), element, name="concat")


@operator("view")
def view(x: te.Tensor, *, shape: Sequence[int], strides: Sequence[int], offset: int) -> te.Tensor:
    """L2: ``out[i...] = x.flat[offset + sum(i * stride)]``. Block: view.

    Raises ``ValueError`` when the view reads outside ``x``.
    """
    sizes = [int(n) for n in x.shape]
    check_view(prod(sizes), shape, strides, offset)

    def element(*index: Expr) -> Expr:
        analyzer = Analyzer()
        flat = tirx.const(offset, "int32")
        for variable, size, stride in zip(index, shape, strides, strict=True):
            analyzer.bind(variable, Range(0, size))
            flat = flat + variable * stride
        # Simplified here, where the ranges are at hand, so that schedules see plain indices.
        return x[tuple(analyzer.simplify(i) for i in _unravel(flat, sizes))]

    return te.compute(tuple(shape), element, name="view")


def _unravel(flat: Expr, sizes: Sequence[int]) -> list[Expr]:
    """The position in a row-major array of ``sizes`` of the element number ``flat``."""
    position = []
    step = 1
    for axis in range(len(sizes) - 1, -1, -1):
        quotient = tirx.indexdiv(flat, step)
        position.append(tirx.indexmod(quotient, sizes[axis]) if axis else quotient)
        step *= sizes[axis]
    return position[::-1]


@operator("pad")
def pad(x: te.Tensor, *, pads: Sequence[Sequence[int]], value: int) -> te.Tensor:
    """L3: ``x`` with ``value`` around it, ``(low, high)`` elements an axis. Block: pad."""
    sizes = [int(n) for n in x.shape]
    shape = tuple(low + n + high for n, (low, high) in zip(sizes, pads, strict=True))

    def element(*index: Expr) -> Expr:
        inside = [
            condition
            for i, n, (low, high) in zip(index, sizes, pads, strict=True)
            if low or high
            for condition in (i >= low, i < low + n)
        ]
        own = x[tuple(i - low for i, (low, _) in zip(index, pads, strict=True))]
        outside = tirx.const(value, dtype_of(x))
        return tirx.if_then_else(tirx.all(*inside), own, outside) if inside else own

    return te.compute(shape, element, name="pad")
