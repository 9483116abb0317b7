"""Products too small for tensor cores: four bytes at once, a few channels a thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from tvm import tirx

from schedules.cuda import words
from schedules.cuda.finish import Finisher
from schedules.cuda.gather import Rows
from schedules.cuda.words import Buffer, Expr
from schedules.llvm.choices import default_first
from schedules.llvm.stages import Epilogue
from schedules.prim_func import prim_func
from schedules.rule import Constant, Kernel, Workload, passed_specs

_WORD = 4
_THREADS = (128, 64, 256)
_WIDTHS = (8, 4, 16)


@dataclass(frozen=True)
class Choice:
    """``threads`` of a block, each with ``width`` channels of a row."""

    threads: int
    width: int


def own_choice(channels: int) -> Choice:
    """The rule's own choice."""
    return Choice(_THREADS[0], min(_WIDTHS[0], -(-channels // _WORD) * _WORD))


def space(channels: int) -> Sequence[Choice]:
    """Choices for so many channels, the rule's own first."""
    widths = [n for n in _WIDTHS if n < channels + _WORD]
    others = (Choice(*both) for both in product(_THREADS, widths))
    return default_first(own_choice(channels), others)


def kernel(
    workload: Workload,
    rows: Rows,
    matrix: np.ndarray[Any, Any],
    epilogue: Epilogue,
    choice: Choice,
) -> Kernel:
    """The kernel for constant weights ``matrix [channels, depth]``."""
    channels, depth = matrix.shape
    threads, width = choice.threads, choice.width
    groups, reach = -(-channels // width), -(-depth // _WORD) * _WORD
    padded = np.zeros((groups * width, reach), np.int8)
    padded[:channels, :depth] = matrix
    # [groups, words of the reduction, channels, 4]: a thread reads it front to back.
    packed = padded.reshape(groups, width, -1, _WORD).swapaxes(1, 2)
    finisher = Finisher(epilogue, groups * width)
    arguments = [0, Constant(np.ascontiguousarray(packed)), *finisher.arguments]
    name = f"{workload.op}_{rows.count}x{depth}x{channels}"

    def body(x: Buffer, weights: Buffer, *rest: Buffer) -> None:
        finisher.bind(rest[:-1], rest[-1])
        blocks = -(-rows.count // threads)
        with words.grid((blocks, groups), threads) as (block, group, thread):
            row = words.bind(block * threads + thread)
            channel = words.bind(group * width)
            sums = words.local(width)
            for i in range(width):
                words.store(sums, i, finisher.start(channel + i))
            place = rows.place(row)
            with words.loop(reach // _WORD) as number:
                word = _word(x, rows, place, number * _WORD, reach)
                cell = words.bind((group * (reach // _WORD) + number) * (width * _WORD))
                for i in range(0, width, _WORD):
                    at = words.at(weights, cell + i * _WORD)
                    words.call("hyq_dot4x4", words.at(sums, i), word, at)
            finisher.finish(
                [[sums[i] for i in range(width)]],
                channel,
                [words.bind(row * channels + channel)],
                [words.below(row, rows.count, blocks * threads)],
                lambda i: words.below(channel + i, channels, groups * width),
                channels % width == 0,
            )

    function = prim_func(name, passed_specs(workload, arguments), workload.output, body)
    return Kernel(name, function, tuple(arguments))


def _word(x: Buffer, rows: Rows, place: tuple[Expr, ...], k: Expr, reach: int) -> Expr:
    """Four bytes of a row."""
    if rows.chunk >= _WORD:
        offset, exists = rows.address(place, k, reach)
        read = words.local(1)
        if exists is True:
            words.call("hyq_read_4", words.at(read, 0), words.at(x, offset))
            return read[0]
        words.store(read, 0, words.const((rows.fill & 255) * 0x01010101 - _wrap(rows.fill)))
        with words.when(exists):
            words.call("hyq_read_4", words.at(read, 0), words.at(x, offset))
        return read[0]
    parts = []
    for i in range(_WORD):
        offset, exists = rows.address(place, k + i, reach)
        byte = words.cast(x[offset], "int32")
        if exists is not True:
            byte = tirx.if_then_else(exists, byte, words.const(rows.fill))
        parts.append(byte)
    return words.value("hyq_pack", *parts)


def _wrap(fill: int) -> int:
    """What takes four equal bytes back into int32."""
    return 1 << 32 if fill & 128 else 0
