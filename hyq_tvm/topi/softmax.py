"""The integer softmax in TE (clauses SM1 to SM9): the twin of ``numerics.reference.softmax``.

``linear_softmax`` is the function to call from a module of one's own; ``softmax`` is the operator
of an integer module. Both make the same blocks, in order:

=====================  ==========================================================================
softmax_max            the row's maximum
softmax_mantissa       ``[2^F]``, kind ``table`` only
softmax_exp            unnormalised weights: uint16 where 15 bits are enough, else int32
softmax_sum            int32 (int64 for ``hyq``)
softmax_multiplier,    one each per row: the reciprocal of the sum and the shift that goes with
softmax_shift          it (``log2_4bit``: softmax_limit alone; ``hyq``: neither)
softmax                the result
=====================  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import te, tirx

from hyq_tvm.errors import ConfigError
from hyq_tvm.numerics.exponential import GRID_KINDS, LN2, exponent_bits, grid_requantizer
from hyq_tvm.numerics.reference.softmax import check_choices
from hyq_tvm.numerics.softmax_tables import LOG2_CODES, LOG2_ONE
from hyq_tvm.topi.bits import bit_length, leading_zeros
from hyq_tvm.topi.exponential import row_length, weights
from hyq_tvm.topi.fixed_point import (
    Expr,
    dtype_of,
    rounding_divide,
    rounding_shift_by,
    saturate,
)
from hyq_tvm.topi.registry import operator


@operator("softmax")
def softmax(
    x: te.Tensor,
    *tensors: te.Tensor,
    kind: str = "linear_pot",
    output: str = "uint8",
    fraction_bits: int = 4,
    scale: float | None = None,
    rescale_multiplier: int = 0,
    rescale_shift: int = 0,
    zero_point: int = 0,
    low: int = 0,
    high: int = 255,
    dtype: str = "uint8",
) -> te.Tensor:
    """SM1 to SM9 over the last axis of int8, int16 or int32 ``x``; arguments as the golden model's.

    Raises as that does, and ``ConfigError`` where the last axis has no constant length.
    """
    check_choices(kind, output, len(tensors))
    steps = tuple(tensor[0] for tensor in tensors)
    real = LN2 / 2**fraction_bits if scale is None else scale
    e = weights(x, kind, fraction_bits, real, steps)
    if output != "grid":
        return _finish(e, kind, output)

    def stored(scaled: Expr) -> Expr:
        return saturate(scaled + tirx.const(zero_point, "int64"), low, high).astype(dtype)

    total = _row_sum(e, "int32")
    return row_rescale(e, total, rescale_multiplier, rescale_shift, stored, "softmax")


def linear_softmax(
    x: te.Tensor,
    scale: float | None = None,
    kind: str = "linear_pot",
    output: str = "uint8",
    fraction_bits: int = 4,
) -> te.Tensor:
    """Integer-only softmax over the last axis of ``x``, for a TE or Relax module of one's own.

    x: int8, int16 or int32 logits of any rank; the last axis has a constant length N <= 65,536.
    scale: real value of one step of x, for instance ``scale_q * scale_k / sqrt(head_dim)`` for
    an int32 accumulator; None says that x lies on the grid ``ln2 / 2^fraction_bits`` already,
    which saves a multiply an element. kind: ``"linear_pot"``, ``"table"``, ``"linear"``,
    ``"poly2"`` or ``"hyq"``. output: ``"uint8"``, probabilities times 255, or ``"log2_4bit"``,
    codes whose probability is ``2^-code`` (15 is zero; for ``"hyq"`` 16 is).
    fraction_bits: F of the grid of ``linear_pot`` and ``table``; 4 to 6 keep the bound.

    The result is uint8 of x's shape. ``numerics.OPERATORS["softmax"]`` defines it bit for bit
    (docs/numerics.md, SM1 to SM9); max |dp| against float softmax is at most 0.025 for
    ``linear_pot``, ``linear`` and ``table`` at any scale and up to 4,096 logits.
    Raises ``ConfigError`` on unknown choices, dtypes, scales and lengths.

    Example::

        x = te.placeholder((8, 197, 197), "int32", name="logits")
        y = hyq_tvm.topi.linear_softmax(x, scale=0.0003)
        function = te.create_prim_func([x, y])          # or builder.call_te(linear_softmax, ...)
    """
    if output == "grid":
        raise ConfigError("output 'grid' belongs to the operator; choose 'uint8' or 'log2_4bit'")
    check_choices(kind, output, 0)
    if scale is None or kind not in GRID_KINDS:
        return softmax(x, kind=kind, output=output, fraction_bits=fraction_bits, scale=scale)
    requantizer = grid_requantizer(scale, fraction_bits, row_length(x))
    fields = (requantizer.multiplier, requantizer.pre_shift, requantizer.shift)
    steps = tuple(tirx.const(value, "int32") for value in fields)
    return _finish(weights(x, kind, fraction_bits, scale, steps), kind, output)


def _finish(e: te.Tensor, kind: str, output: str) -> te.Tensor:
    """Weights to uint8 probabilities or codes."""
    if kind == "hyq":
        return _published(e, output)
    total = _row_sum(e, "int32")
    if output == "log2_4bit":
        return _log2(e, total)
    return _uint8(e, total, exponent_bits(int(e.shape[-1])))


def _row_sum(e: te.Tensor, wide: str) -> te.Tensor:
    k = te.reduce_axis((0, e.shape[-1]), "rs")

    def element(*i: Expr) -> Expr:
        return te.sum(e[(*i, k)].astype(wide), axis=k)

    return te.compute(e.shape[:-1], element, name="softmax_sum")


def _uint8(e: te.Tensor, total: te.Tensor, bits: int) -> te.Tensor:
    """SM8. Where the weights are uint16, so is everything per element: the high half of a product.

    There a shift above 15 makes every result 0, which a multiplier of 0 says in 16 bits.
    """
    narrow = dtype_of(e) == "uint16"
    lanes = "uint16" if narrow else "int32"

    def shift_at(*i: Expr) -> Expr:
        return bit_length(total[i]) + tirx.const(6 - bits, "int32")

    def multiplier_at(*i: Expr) -> Expr:
        scaled = tirx.const(255, "int64") << (
            shift_at(*i).astype("int64") + tirx.const(16, "int64")
        )
        m = rounding_divide(scaled, total[i]).astype("int32")
        if narrow:
            m = tirx.Select(shift_at(*i) > 15, tirx.const(0, "int32"), m)
        return m.astype(lanes)

    def stored_shift(*i: Expr) -> Expr:
        z = shift_at(*i)
        return (tirx.min(z, tirx.const(15, "int32")) if narrow else z).astype(lanes)

    multiplier = te.compute(total.shape, multiplier_at, name="softmax_multiplier")
    shift = te.compute(total.shape, stored_shift, name="softmax_shift")

    def element(*i: Expr) -> Expr:
        product = e[i].astype("uint32") * multiplier[i[:-1]].astype("uint32")
        high = (product >> tirx.const(16, "uint32")).astype(lanes)
        z, one = shift[i[:-1]], tirx.const(1, lanes)
        return ((high + (one << (z - one))) >> z).astype("uint8")

    return te.compute(e.shape, element, name="softmax")


def _log2(e: te.Tensor, total: te.Tensor) -> te.Tensor:
    """SM9: a leading-zero count, a shift and a comparison an element."""

    def limit_at(*i: Expr) -> Expr:
        t = total[i].astype("uint32")
        return t + tirx.truncdiv(t, tirx.const(3, "uint32"))

    limit = te.compute(total.shape, limit_at, name="softmax_limit")

    def element(*i: Expr) -> Expr:
        row = limit[i[:-1]]
        value = e[i].astype("uint32")
        zeros = leading_zeros(tirx.max(value, tirx.const(1, "uint32")))
        row_zeros = leading_zeros(row)
        above = (value << zeros.astype("uint32")) > (row << row_zeros.astype("uint32"))
        code = zeros - row_zeros - above.astype("int32")
        last = tirx.const(LOG2_ONE, "int32")
        some = value > tirx.const(0, "uint32")
        return tirx.Select(some, tirx.min(code, last), last).astype("uint8")

    return te.compute(e.shape, element, name="softmax")


def row_rescale(
    a: te.Tensor,
    total: te.Tensor,
    multiplier: int,
    shift: int,
    stored: Callable[[Expr], Expr],
    name: str,
) -> te.Tensor:
    """AT5: ``a / total * (multiplier * 2^-shift)`` in int64, one division a row, then ``stored``.

    ``total``: int32 ``a.shape[:-1]``. Blocks: NAME_multiplier, NAME_shift, NAME.
    """
    one = tirx.const(1, "int32")

    def bits_at(*i: Expr) -> Expr:
        return bit_length(tirx.max(total[i], one))

    def reciprocal_at(*i: Expr) -> Expr:
        scaled = tirx.const(multiplier, "int64") << bits_at(*i).astype("int64")
        return rounding_divide(scaled, tirx.max(total[i], one))

    reciprocal = te.compute(total.shape, reciprocal_at, name=f"{name}_multiplier")
    shifts = te.compute(
        total.shape, lambda *i: bits_at(*i) + tirx.const(shift, "int32"), name=f"{name}_shift"
    )

    def element(*i: Expr) -> Expr:
        product = a[i].astype("int64") * reciprocal[i[:-1]]
        return stored(rounding_shift_by(product, shifts[i[:-1]]))

    return te.compute(a.shape, element, name=name)


def _published(e: te.Tensor, output: str) -> te.Tensor:
    """SM7: one division an element, as published."""
    total = _row_sum(e, "int64")
    one = tirx.const(1, "int64")

    def uint8(*i: Expr) -> Expr:
        share = rounding_divide(e[i] * tirx.const(255, "int64"), tirx.max(total[i[:-1]], one))
        return share.astype("uint8")

    def code(*i: Expr) -> Expr:
        return published_code(e[i], total[i[:-1]]).astype("uint8")

    return te.compute(e.shape, code if output == "log2_4bit" else uint8, name="softmax")


def published_code(e: Expr, total: Expr) -> Expr:
    """SM7: the code of one weight, int32: half-even quotient, then log2 rounded at 1.5 * 2^k."""
    zero, one = tirx.const(0, "int64"), tirx.const(1, "int64")
    positive = tirx.max(e, one)
    whole = tirx.truncdiv(total, positive)
    twice = (total - whole * positive) * tirx.const(2, "int64")
    odd = tirx.bitwise_and(whole, one) == one
    up = tirx.any(twice > positive, tirx.all(twice == positive, odd))
    ratio = tirx.max(whole + up.astype("int64"), one)
    floor = bit_length(ratio) - tirx.const(1, "int32")
    mantissa = tirx.const(3, "int64") << floor.astype("int64")
    code = floor + (ratio * tirx.const(2, "int64") >= mantissa).astype("int32")
    last = tirx.const(LOG2_CODES - 1, "int32")
    return tirx.Select(e > zero, tirx.min(code, last), last)
