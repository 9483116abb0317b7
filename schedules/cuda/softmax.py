"""The linear softmax, lanes of a warp a row: read once, written once, nothing between in memory."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from tvm import tirx

from hyq_tvm.numerics.exponential import (
    DIFFERENCE_LIMIT,
    NARROW_LIMIT,
    exponent_bits,
    line_offset,
)
from schedules.cuda import words
from schedules.cuda.warp_rows import OWN, WIDEST, Choice, Row, guarded, rows
from schedules.cuda.warp_rows import space as row_space
from schedules.cuda.words import Buffer, Expr
from schedules.prim_func import prim_func
from schedules.rule import Kernel, Workload

_LOWEST = -(2**31)


def schedule(workload: Workload, target: Any, choice: Choice = OWN) -> Kernel | None:
    """Kind ``linear_pot`` with uint8 output, of rows that fit a warp's registers."""
    if not _is_ours(workload):
        return None
    params, shape = workload.params, workload.output.shape
    count, length = prod(shape[:-1]), shape[-1]
    name = f"softmax_{count}x{length}"

    def body(x: Buffer, *rest: Buffer) -> None:
        with rows(count, length, choice) as row:
            _row(row, x, rest[:-1], rest[-1], int(params.get("fraction_bits", 4)))

    function = prim_func(name, list(workload.arguments), workload.output, body)
    return Kernel(name, function, tuple(range(len(workload.arguments))))


def space(workload: Workload, target: Any) -> Sequence[Choice]:
    """Choices for ``workload``, the rule's own first; empty where it is not the rule's."""
    return row_space(workload.output.shape[-1]) if _is_ours(workload) else ()


def _is_ours(workload: Workload) -> bool:
    params = workload.params
    if workload.op != "softmax" or params["kind"] != "linear_pot":
        return False
    return params.get("output", "uint8") == "uint8" and workload.output.shape[-1] <= WIDEST


def _row(row: Row, x: Buffer, steps: tuple[Buffer, ...], out: Buffer, bits: int) -> None:
    held = words.local(row.shares)
    top, total = words.local(1), words.local(1)
    words.store(top, 0, words.const(_LOWEST))
    words.store(total, 0, words.const(0))
    for i in range(row.shares):
        lowest = words.const(_LOWEST)
        value = guarded(row, i, lambda p: words.cast(x[row.base + p], "int32"), lowest)
        words.store(held, i, value)
        words.store(top, 0, tirx.max(top[0], held[i]))
    highest = words.value("hyq_row_max", top[0], words.const(row.lanes))
    factors = tuple(words.bind(step[0]) for step in steps)
    width = exponent_bits(row.length)
    for i in range(row.shares):
        weight = _weight(highest, held[i], factors, bits, width)
        exists = row.each(i)[1]
        if exists is not True:
            weight = tirx.Select(exists, weight, words.const(0))
        words.store(held, i, weight)
        words.store(total, 0, total[0] + held[i])
    whole = words.value("hyq_row_sum", total[0], words.const(row.lanes))
    shift = words.bind(words.value("hyq_row_bits", whole) + (6 - width))
    factor = words.value("hyq_softmax_multiplier", whole, shift)
    for i in range(row.shares):
        position, exists = row.written(i)
        with words.when(exists):
            share = words.value("hyq_softmax_share", held[i], factor, shift)
            words.store(out, row.base + position, words.cast(share, "uint8"))


def _weight(highest: Expr, value: Expr, steps: tuple[Expr, ...], bits: int, width: int) -> Expr:
    """SM1 to SM3."""
    limit = ((width + 1) << bits) - 1
    d = words.value("hyq_difference", highest, value, words.const(DIFFERENCE_LIMIT))
    if steps:
        multiplier, pre_shift, shift = steps
        most = words.const(NARROW_LIMIT)
        d = words.value("hyq_onto_grid", d, multiplier, pre_shift, shift, most)
    d = words.bind(tirx.min(d, words.const(limit)))
    offset = line_offset(bits)
    f = d & words.const((1 << bits) - 1)
    line = (words.const(offset) - f) << words.const(width - offset.bit_length())
    return words.bind(line >> (d >> words.const(bits)))
