"""The exponentials of the integer softmax in TE (clauses SM2 to SM7).

``weights`` makes the blocks softmax_max, softmax_mantissa (kind ``table`` only) and softmax_exp.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import te, tirx

from hyq_tvm.errors import ConfigError
from hyq_tvm.numerics.exponential import (
    DIFFERENCE_LIMIT,
    HYQ_SHIFT,
    NARROW_LIMIT,
    SteppedExponential,
    exponent_bits,
    hyq_constants,
    line_offset,
    linear_constants,
    mantissa_table,
    poly2_constants,
)
from hyq_tvm.topi.fixed_point import Expr, dtype_of, rounding_shift

NARROW_BITS = 15
"""Weights of so many bits are computed and stored in uint16: twice the lanes of a vector."""


def row_length(x: te.Tensor) -> int:
    """Length of the last axis; raises ``ConfigError`` where it or x's dtype does not fit."""
    if dtype_of(x) not in ("int8", "int16", "int32"):
        raise ConfigError(f"softmax of {dtype_of(x)}: logits are int8, int16 or int32")
    if not x.shape or not isinstance(x.shape[-1], int | tirx.IntImm):
        raise ConfigError(f"softmax over {list(x.shape)}: the last axis needs a constant length")
    return int(x.shape[-1])


def weights(
    x: te.Tensor, kind: str, fraction_bits: int, scale: float, steps: tuple[Expr, ...]
) -> te.Tensor:
    """Block softmax_exp: SM2 to SM7."""
    tokens = row_length(x)
    k = te.reduce_axis((0, tokens), "rm")
    top = te.compute(x.shape[:-1], lambda *i: te.max(x[(*i, k)], axis=k), name="softmax_max")
    weight = _exponential(kind, fraction_bits, scale, steps, tokens)
    return te.compute(
        x.shape, lambda *i: weight(_difference(top[i[:-1]], x[i])), name="softmax_exp"
    )


def _difference(top: Expr, value: Expr) -> Expr:
    """``top - value`` in an unsigned type that cannot wrap: uint32 for int32 logits, else uint16.

    Flipping the sign bit maps signed order to unsigned order, so the subtraction is exact over
    the whole range. A cast would say the same to the processor, but not to TVM's range analysis,
    which takes a cast to be free of wrap-around.
    """
    bits = int(dtype_of(value).removeprefix("int"))
    sign = tirx.const(1 << (bits - 1), f"uint{bits}")
    natural = [tirx.reinterpret(f"uint{bits}", v) ^ sign for v in (top, value)]
    difference = natural[0] - natural[1]
    return difference.astype("uint16") if bits == 8 else difference


def _exponential(
    kind: str, fraction_bits: int, scale: float, steps: tuple[Expr, ...], tokens: int
) -> Callable[[Expr], Expr]:
    """The function from a difference (unsigned) to an unnormalised weight."""
    bits = exponent_bits(tokens)
    if kind == "hyq":
        return _published_weight(scale, tokens)
    if kind == "linear":
        return _stepped(linear_constants(scale), bits)
    if kind == "poly2":
        return _stepped(poly2_constants(scale), bits)
    limit = ((bits + 1) << fraction_bits) - 1
    fraction = _mantissa(kind, fraction_bits, bits)
    lanes = _lanes(bits)

    def weight(difference: Expr) -> Expr:
        d = _on_grid(difference, steps) if steps else difference
        d = tirx.min(d, tirx.const(limit, dtype_of(d))).astype(lanes)
        octave = d >> tirx.const(fraction_bits, lanes)
        f = tirx.bitwise_and(d, tirx.const(2**fraction_bits - 1, lanes))
        return fraction(f) >> octave

    return weight


def _lanes(bits: int) -> str:
    return "uint16" if bits <= NARROW_BITS else "int32"


def _on_grid(difference: Expr, steps: tuple[Expr, ...]) -> Expr:
    """SM2 in int32: differences in steps of the power-of-two grid."""
    multiplier, pre_shift, shift = steps
    one = tirx.const(1, "int32")
    limit = tirx.const(DIFFERENCE_LIMIT, "uint32")
    # Unsigned, because the rounding term may carry into bit 31.
    half = (tirx.shift_left(one, pre_shift) >> one).astype("uint32")
    d = (tirx.min(difference.astype("uint32"), limit) + half) >> pre_shift.astype("uint32")
    narrow = tirx.min(d, tirx.const(NARROW_LIMIT, "uint32")).astype("int32")
    return (narrow * multiplier + tirx.shift_left(one, shift - one)) >> shift


def _mantissa(kind: str, fraction_bits: int, bits: int) -> Callable[[Expr], Expr]:
    """SM3, SM4: the weight within the first octave."""
    lanes = _lanes(bits)
    if kind == "linear_pot":
        offset = line_offset(fraction_bits)
        spare = tirx.const(bits - offset.bit_length(), lanes)
        return lambda f: (tirx.const(offset, lanes) - f) << spare
    values = [int(v) for v in mantissa_table(fraction_bits, bits)]

    def entry(i: Expr) -> Expr:
        value = tirx.const(values[-1], lanes)
        for number in range(len(values) - 2, -1, -1):
            value = tirx.Select(i == number, tirx.const(values[number], lanes), value)
        return value

    table = te.compute((len(values),), entry, name="softmax_mantissa")
    return lambda f: table[f.astype("int32")]


def _stepped(constants: SteppedExponential, bits: int) -> Callable[[Expr], Expr]:
    """SM5, SM6."""
    limit = (bits + 1) * constants.period - 1
    spare = bits - constants.top.bit_length()
    lanes = "int32" if constants.constant else _lanes(bits)

    def weight(difference: Expr) -> Expr:
        d = _stepped_difference(difference, constants.logit_shift, limit).astype(lanes)
        period, offset = tirx.const(constants.period, lanes), tirx.const(constants.offset, lanes)
        octave = tirx.truncdiv(d, period)
        r = d - octave * period
        z = offset - r
        if constants.constant:
            z = tirx.const(constants.constant, lanes) - r * z
        if spare >= 0:
            return ((z << tirx.const(spare, lanes)) >> octave).astype(_lanes(bits))
        return (z >> (octave + tirx.const(-spare, lanes))).astype(_lanes(bits))

    return weight


def _stepped_difference(difference: Expr, logit_shift: int, limit: int) -> Expr:
    """The difference in fine steps, at most ``limit``, as uint32."""
    d = difference.astype("uint32")
    if logit_shift < 0:
        d = rounding_shift(tirx.min(d, tirx.const(DIFFERENCE_LIMIT, "uint32")), -logit_shift)
    else:
        d = tirx.min(d, tirx.const((limit >> logit_shift) + 1, "uint32"))
        d = d << tirx.const(logit_shift, "uint32")
    return tirx.min(d, tirx.const(limit, "uint32"))


def _published_weight(scale: float, tokens: int) -> Callable[[Expr], Expr]:
    """SM7 in int64: the weights need 30 fraction bits."""
    constants = hyq_constants(scale, tokens)

    def wide(value: int) -> Expr:
        return tirx.const(value, "int64")

    def weight(difference: Expr) -> Expr:
        d = tirx.min(difference.astype("int64"), wide(DIFFERENCE_LIMIT))
        d = tirx.min(d, wide(HYQ_SHIFT * constants.period))
        octave = tirx.truncdiv(d, wide(constants.period))
        z = wide(constants.offset) - (d - octave * wide(constants.period))
        return tirx.max(z, wide(0)) << (wide(HYQ_SHIFT) - octave)

    return weight
