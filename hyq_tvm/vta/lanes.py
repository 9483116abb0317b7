"""The lane functions of VECTOR and the weights of SOFTMAX in NumPy, int64 modulo 2^64.

Shifts take their amount modulo 64, as the hardware's shifters do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.numerics.bits import bit_length
from hyq_tvm.numerics.reference.norm import inverse_root
from hyq_tvm.numerics.reference.softmax import log2_codes
from hyq_tvm.vta.isa.table import REGISTER, REGISTERS
from hyq_tvm.vta.machine import Fault, Status

Int64 = NDArray[np.int64]
Registers = dict[str, int]

LANES_MASK = 63


def registers_of(values: Int64) -> Registers:
    """Name -> value."""
    return {r.name: int(values[REGISTER[r.name]]) for r in REGISTERS}


def rshift(x: Int64, shift: Int64 | int) -> Int64:
    """S1 with the shift modulo 64, wrapping around int64."""
    s = np.asarray(shift, dtype=np.int64) & LANES_MASK
    half = ((np.uint64(1) << s.astype(np.uint64)) >> np.uint64(1)).astype(np.int64)
    return np.asarray(np.right_shift(x + half, s), dtype=np.int64)


def clip(x: Int64, reg: Registers) -> Int64:
    """To [LOW, HIGH]."""
    return np.minimum(np.maximum(x, reg["LOW"]), reg["HIGH"])


def joined(entry: Int64, lane: int) -> Int64:
    """Two int32 lanes ``[.., lane:lane + 2]`` as one int64, low word first, last axis kept."""
    low = entry[..., lane : lane + 1] & 0xFFFFFFFF
    return np.asarray(low | (entry[..., lane + 1 : lane + 2] << 32))


def words(*values: Int64, block: int) -> Int64:
    """An entry of the given int32 lanes ``[n, 1]`` and zeros, ``[n, block]``."""
    result = np.zeros((len(values[0]), block), dtype=np.int64)
    for lane, value in enumerate(values):
        result[:, lane] = value[:, 0]
    return result.astype(np.int32).astype(np.int64)


def two_words(value: Int64) -> tuple[Int64, Int64]:
    """Low and high word of an int64."""
    return value & 0xFFFFFFFF, value >> 32


def scaled(value: Int64, multiplier: Int64, shift: Int64, reg: Registers) -> Int64:
    """RESCALE: a 64-bit product, one rounding, the zero point, the clip."""
    return clip(rshift(value * multiplier, shift) + reg["ZERO_POINT"], reg)


Lane = Callable[[Int64, Int64, Int64, Registers], Int64]
"""``(a, b, row, registers) -> r``; row: the row's entry, or zeros."""

SIMPLE: dict[str, Lane] = {
    "MOV": lambda a, b, row, reg: clip(b, reg),
    "MIN": lambda a, b, row, reg: clip(np.minimum(a, b), reg),
    "MAX": lambda a, b, row, reg: clip(np.maximum(a, b), reg),
    "ADD": lambda a, b, row, reg: clip(a + b, reg),
    "SUB": lambda a, b, row, reg: clip(a - b, reg),
    "MUL": lambda a, b, row, reg: clip(a * b, reg),
    "SHR": lambda a, b, row, reg: clip(rshift(a, b & 31), reg),
    "ROW_SUM": lambda a, b, row, reg: clip(a + _valid(b, reg).sum(-1, keepdims=True), reg),
    "ROW_MAX": lambda a, b, row, reg: clip(
        np.maximum(a, _valid(b, reg).max(-1, keepdims=True)), reg
    ),
    "NORM": lambda a, b, row, reg: clip(
        rshift((reg["COUNT"] * b - row[:, 0:1]) * row[:, 1:2], row[:, 2:3]), reg
    ),
    "RESCALE": lambda a, b, row, reg: scaled(b, joined(row, 0), row[:, 2:3], reg),
    "RESCALE_WIDE": lambda a, b, row, reg: scaled(256 * a + b, joined(row, 0), row[:, 2:3], reg),
    "MOMENTS": lambda a, b, row, reg: moments(a, b, reg),
    "ROOT": lambda a, b, row, reg: root(b, reg),
    "RECIPROCAL": lambda a, b, row, reg: reciprocal(b, reg),
}


def _valid(x: Int64, reg: Registers) -> Int64:
    return x[:, : reg["LANES"]]


def moments(a: Int64, b: Int64, reg: Registers) -> Int64:
    """Sum and sum of squares added to those in ``a``."""
    values = _valid(b, reg)
    s1 = joined(a, 0) + values.sum(-1, keepdims=True)
    s2 = joined(a, 2) + (values * values).sum(-1, keepdims=True)
    return words(*two_words(s1), *two_words(s2), block=b.shape[-1])


def root(b: Int64, reg: Registers) -> Int64:
    """The inverse square root of the variance; raises ``Fault`` where that has 62 bits."""
    s1, s2 = joined(b, 0), joined(b, 2)
    variance = np.maximum(reg["COUNT"] * s2 - s1 * s1 + reg["EPSILON"], 1)
    if (variance >= 1 << 62).any():
        raise Fault(Status.VARIANCE, int(variance.max()))
    zeros = (64 - bit_length(variance)) & ~1
    upper = (variance.astype(np.uint64) << zeros.astype(np.uint64)) >> np.uint64(32)
    found = inverse_root(upper.astype(np.int64))
    return words(s1, found, 32 - (zeros >> 1), block=b.shape[-1])


def reciprocal(b: Int64, reg: Registers) -> Int64:
    """RESCALE_MULTIPLIER over lane 0, with its shift."""
    total = np.maximum(b[:, 0:1], 1)
    h = bit_length(total)
    value = ((np.int64(reg["RESCALE_MULTIPLIER"]) << h) + (total >> 1)) // total
    return words(*two_words(value), h + reg["RESCALE_SHIFT"], block=b.shape[-1])


def weights(d: Int64, kind: str, reg: Registers, tbl: NDArray[np.int16]) -> Int64:
    """SOFTMAX's e of differences ``d`` to the maximum."""
    table = tbl.view(np.uint16).astype(np.int64)[reg["TABLE_BASE"] :]
    if kind == "WEIGHTS":
        return np.asarray(table[np.minimum(d, reg["TABLE_SIZE"] - 1)])
    if kind in ("LINEAR", "POLY2"):
        return _stepped(d, kind, reg)
    return _grid(d, kind, reg, table)


def _grid(d: Int64, kind: str, reg: Registers, table: Int64) -> Int64:
    fraction, width, offset = reg["FRACTION_BITS"], reg["WEIGHT_BITS"], reg["OFFSET"]
    if reg["GRID_MULTIPLIER"]:
        d = np.minimum(rshift(d, reg["GRID_PRE_SHIFT"]), 2**15 - 1)
        d = rshift(d * reg["GRID_MULTIPLIER"], reg["GRID_SHIFT"])
    d = np.minimum(d, ((width + 1) << fraction) - 1)
    octave, f = d >> fraction, d & ((1 << fraction) - 1)
    if kind == "TABLE":
        return np.asarray((table[2 * f] | table[2 * f + 1] << 16) >> octave)
    line = (offset - f) << max(width - offset.bit_length(), 0)
    return np.asarray(np.maximum(line, 0) >> octave)


def _stepped(d: Int64, kind: str, reg: Registers) -> Int64:
    width, period, shift = reg["WEIGHT_BITS"], reg["PERIOD"], reg["LOGIT_SHIFT"]
    limit = (width + 1) * period - 1
    d = rshift(d, -shift) if shift < 0 else np.minimum(d, (limit >> shift) + 1) << shift
    d = np.minimum(d, limit)
    octave, r = d // period, d % period
    z, top = reg["OFFSET"] - r, reg["OFFSET"]
    if kind == "POLY2":
        top = reg["CONSTANT"]
        z = top - r * z
    spare = width - top.bit_length()
    return np.asarray(np.maximum(z << max(spare, 0), 0) >> (octave + max(-spare, 0)))


def results(e: Int64, total: Int64, result: str, reg: Registers) -> Int64:
    """SOFTMAX's result of weights ``e [rows, n]`` with sums ``[rows, 1]``, at least 1 each."""
    h, width = bit_length(total), reg["WEIGHT_BITS"]
    if result == "UINT8":
        multiplier = ((np.int64(255) << (h + 22 - width)) + (total >> 1)) // total
        return rshift((e * multiplier) >> 16, h + 6 - width)
    if result == "LOG2":
        return log2_codes(e, total).astype(np.int64)
    if result == "GRID":
        multiplier = ((np.int64(reg["RESCALE_MULTIPLIER"]) << h) + (total >> 1)) // total
        return scaled(e, multiplier, h + reg["RESCALE_SHIFT"], reg)
    return e >> 8 if result == "WEIGHT_WIDE" else e
