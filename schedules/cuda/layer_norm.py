"""LayerNorm, lanes of a warp a row: moments by shuffles, one division, the rest in registers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hyq_tvm.numerics.reference.norm import count_shift
from schedules.cuda import words
from schedules.cuda.warp_rows import OWN, WIDEST, Choice, Row, guarded, rows
from schedules.cuda.warp_rows import space as row_space
from schedules.cuda.words import Buffer
from schedules.prim_func import prim_func
from schedules.rule import Kernel, Workload


def schedule(workload: Workload, target: Any, choice: Choice = OWN) -> Kernel | None:
    """``layer_norm`` of rows that fit a warp's registers."""
    if not _is_ours(workload):
        return None
    count, channels = workload.arguments[0].shape
    name = f"layer_norm_{count}x{channels}"

    def body(x: Buffer, gamma: Buffer, beta: Buffer, out: Buffer) -> None:
        with rows(count, channels, choice) as row:
            _row(workload, row, x, gamma, beta, out)

    function = prim_func(name, list(workload.arguments), workload.output, body)
    return Kernel(name, function, (0, 1, 2))


def space(workload: Workload, target: Any) -> Sequence[Choice]:
    """Choices for ``workload``, the rule's own first; empty where it is not the rule's."""
    return row_space(workload.arguments[0].shape[1]) if _is_ours(workload) else ()


def _is_ours(workload: Workload) -> bool:
    if workload.op != "layer_norm":
        return False
    channels = workload.arguments[0].shape[1]
    return channels <= WIDEST and not count_shift(channels)


def _row(workload: Workload, row: Row, x: Buffer, gamma: Buffer, beta: Buffer, out: Buffer) -> None:
    params, channels = workload.params, row.length
    held = words.local(row.shares)
    for i in range(row.shares):
        zero = words.const(0)
        value = guarded(row, i, lambda p: words.cast(x[row.base + p], "int32"), zero)
        words.store(held, i, value)
    total, squares = words.local(1), words.local(1, "int64")
    words.store(total, 0, words.const(0))
    words.store(squares, 0, words.const(0, "int64"))
    for i in range(row.shares):
        words.store(total, 0, total[0] + held[i])
        wide = words.value("hyq_square", held[i], dtype="int64")
        words.store(squares, 0, squares[0] + wide)
    lanes = words.const(row.lanes)
    first = words.value("hyq_row_sum", total[0], lanes)
    second = words.value("hyq_row_sum_wide", squares[0], lanes, dtype="int64")
    n, epsilon = words.const(channels), words.const(int(params["epsilon"]), "int64")
    variance = words.value("hyq_norm_variance", first, second, n, epsilon, dtype="int64")
    root = words.value("hyq_norm_root", variance)
    shift = words.value("hyq_norm_shift", variance)
    for i in range(row.shares):
        position, exists = row.written(i)
        with words.when(exists):
            centred = held[i] * n - first
            wide = words.value(
                "hyq_norm_affine", centred, root, shift, gamma[position], beta[position],
                words.const(int(params["shift"])), dtype="int64",
            )  # fmt: skip
            moved = wide + words.const(int(params["zero_point"]), "int64")
            clipped = words.clip(moved, int(params["low"]), int(params["high"]), "int64")
            words.store(out, row.base + position, words.cast(clipped, str(params["dtype"])))
