"""LayerNorm and GroupNorm in TE (clauses LN1 to LN5): the twin of ``numerics.reference.norm``.

Blocks, in order: norm_sum, norm_square_sum, norm_variance (V), norm_square (2^62 div v),
norm_root_high, norm_root_middle, norm_root_low, norm_root (R), norm_shift, norm (the result).
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import te, tirx

from hyq_tvm.numerics.reference.norm import check_count, count_shift
from hyq_tvm.topi.bits import leading_zeros
from hyq_tvm.topi.fixed_point import Expr, rounding_shift, rounding_shift_by, saturate
from hyq_tvm.topi.registry import operator


@operator("layer_norm")
def layer_norm(
    x: te.Tensor,
    gamma: te.Tensor,
    beta: te.Tensor,
    *,
    epsilon: int,
    shift: int,
    zero_point: int,
    low: int,
    high: int,
    dtype: str,
) -> te.Tensor:
    """LN1 to LN5 over the rows of int8 or int16 ``x [M,C]``; gamma int32 and beta int64 ``[C]``."""
    rows, channels = (int(n) for n in x.shape)
    check_count(channels)
    k = te.reduce_axis((0, channels), "rc")

    def total(value: Callable[[Expr], Expr], name: str) -> te.Tensor:
        return te.compute((rows,), lambda m: te.sum(value(x[m, k]), axis=k), name=name)

    sums = total(lambda v: v.astype("int32"), "norm_sum")
    squares = total(_squared(x.dtype), "norm_square_sum")
    root, bits = _inverse_deviation(sums, squares, channels, epsilon)

    def element(m: Expr, c: Expr) -> Expr:
        n = _normalized(x[m, c], sums[m], root[m], bits[m], channels)
        return _affine(n, gamma[c], beta[c], shift, zero_point, low, high).astype(dtype)

    return te.compute((rows, channels), element, name="norm")


@operator("group_norm")
def group_norm(
    x: te.Tensor,
    gamma: te.Tensor,
    beta: te.Tensor,
    *,
    groups: int,
    epsilon: int,
    shift: int,
    zero_point: int,
    low: int,
    high: int,
    dtype: str,
) -> te.Tensor:
    """LN1 to LN5 over ``x [B,S,C]``: the S x C/groups elements of a group share a mean.

    Raises ``ValueError`` unless groups divides C.
    """
    batch, positions, channels = (int(n) for n in x.shape)
    if groups < 1 or channels % groups:
        raise ValueError(f"{groups} groups do not divide {channels} channels")
    width = channels // groups
    count = positions * width
    check_count(count)
    axes = [te.reduce_axis((0, positions), "rs"), te.reduce_axis((0, width), "rc")]

    def total(value: Callable[[Expr], Expr], name: str) -> te.Tensor:
        def element(b: Expr, g: Expr) -> Expr:
            return te.sum(value(x[b, axes[0], g * width + axes[1]]), axis=axes)

        return te.compute((batch, groups), element, name=name)

    narrow = count_shift(count) == 0
    sums = total(lambda v: v.astype("int32" if narrow else "int64"), "norm_sum")
    squares = total(_squared(x.dtype if narrow else "int64"), "norm_square_sum")
    root, bits = _inverse_deviation(sums, squares, count, epsilon)

    def element(b: Expr, s: Expr, c: Expr) -> Expr:
        g = tirx.floordiv(c, width)
        n = _normalized(x[b, s, c], sums[b, g], root[b, g], bits[b, g], count)
        return _affine(n, gamma[c], beta[c], shift, zero_point, low, high).astype(dtype)

    return te.compute((batch, positions, channels), element, name="norm")


def _squared(dtype: str) -> Callable[[Expr], Expr]:
    """The square of a value in a type that holds the sum of 32768 of them, or of 2^20: int64."""
    wide = "int32" if dtype == "int8" else "int64"

    def square(value: Expr) -> Expr:
        wider = value.astype("int32")
        return (wider * wider).astype(wide)

    return square


def _inverse_deviation(
    sums: te.Tensor, squares: te.Tensor, count: int, epsilon: int
) -> tuple[te.Tensor, te.Tensor]:
    """LN2, LN3: R (int64) and the shift that goes with it (int32), per mean."""

    def variance_at(*i: Expr) -> Expr:
        spread = _spread(sums[i].astype("int64"), squares[i].astype("int64"), count)
        return tirx.max(spread + _wide(epsilon), _wide(1))

    variance = te.compute(sums.shape, variance_at, name="norm_variance")

    def zeros(*i: Expr) -> Expr:
        return tirx.bitwise_and(leading_zeros(variance[i]), tirx.const(~1, "int32"))

    def square_at(*i: Expr) -> Expr:
        none, limit = tirx.const(0, "int32"), tirx.const(32, "int32")
        left = tirx.max(zeros(*i) - limit, none).astype("int64")
        right = tirx.max(limit - zeros(*i), none).astype("int64")
        return tirx.truncdiv(_wide(1 << 62), (variance[i] << left) >> right)

    def shift_at(*i: Expr) -> Expr:
        return tirx.const(32, "int32") - (zeros(*i) >> tirx.const(1, "int32"))

    square = te.compute(sums.shape, square_at, name="norm_square")
    return _root(square), te.compute(sums.shape, shift_at, name="norm_shift")


def _spread(total: Expr, squares: Expr, count: int) -> Expr:
    """LN2: V without E, int64."""
    shift = count_shift(count)
    if not shift:
        return squares * _wide(count) - total * total
    mean = tirx.floordiv(total + _wide(count >> 1), _wide(count))
    centred = squares + mean * (mean * _wide(count) - total * _wide(2))
    return (centred >> _wide(2 * shift)) * _wide(count)


def _root(square: te.Tensor) -> te.Tensor:
    """``floor(sqrt(square))`` for ``2^30 < square <= 2^32``, five bits a step, by counting.

    Each step counts the multiples of its unit that may still be added: a plain sum over at most
    32 candidates, so that it vectorises and no expression grows with the number of bits.
    """

    def step(start: Callable[..., Expr], unit: int, candidates: int, name: str) -> te.Tensor:
        k = te.reduce_axis((0, candidates), "rk")

        def element(*i: Expr) -> Expr:
            candidate = start(*i) + (k.astype("int64") + _wide(1)) * _wide(unit)
            fits = candidate * candidate <= square[i]
            return te.sum(tirx.Select(fits, _wide(unit), _wide(0)), axis=k)

        return te.compute(square.shape, element, name=name)

    high = step(lambda *i: _wide(1 << 15), 1 << 10, 32, "norm_root_high")
    middle = step(lambda *i: _wide(1 << 15) + high[i], 1 << 5, 31, "norm_root_middle")
    low = step(lambda *i: _wide(1 << 15) + high[i] + middle[i], 1, 31, "norm_root_low")
    return te.compute(
        square.shape, lambda *i: _wide(1 << 15) + high[i] + middle[i] + low[i], name="norm_root"
    )


def _normalized(value: Expr, total: Expr, root: Expr, bits: Expr, count: int) -> Expr:
    """LN3: ``D / sqrt(V)`` with 15 fraction bits, int64."""
    if shift := count_shift(count):
        wide = rounding_shift(value.astype("int64") * _wide(count) - total, shift)
        return rounding_shift_by(wide * root, bits)
    centred = value.astype("int32") * tirx.const(count, "int32") - total
    return rounding_shift_by(centred.astype("int64") * root, bits)


def _affine(
    n: Expr, gamma: Expr, beta: Expr, shift: int, zero_point: int, low: int, high: int
) -> Expr:
    """LN5: gamma, beta, one rounding shift and the output's zero point."""
    scaled = rounding_shift(n * gamma.astype("int64") + beta, shift)
    return saturate(scaled + _wide(zero_point), low, high)


def _wide(value: int) -> Expr:
    return tirx.const(value, "int64")
