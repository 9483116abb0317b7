"""Depthwise convolution: a thread makes four neighbouring channels of a pixel, or of some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from schedules.cuda import words
from schedules.cuda.finish import Finisher
from schedules.cuda.gather import Windows
from schedules.cuda.words import Buffer, Expr
from schedules.llvm.image import Window
from schedules.llvm.stages import Epilogue, plan
from schedules.prim_func import prim_func
from schedules.rule import Constant, Kernel, Workload, passed_specs

_FOUR = 4
_MAGNITUDE = 128
_THREADS = (128, 64, 256)
_PIXELS = (1, 2, 4)


@dataclass(frozen=True)
class Choice:
    """``threads`` of a block, each with ``pixels`` neighbouring pixels."""

    threads: int
    pixels: int


_OWN = Choice(_THREADS[0], _PIXELS[0])


def schedule(workload: Workload, target: Any, choice: Choice | None = None) -> Kernel | None:
    """One output a channel, constant weights, channels a multiple of four."""
    epilogue = _epilogue(workload)
    return None if epilogue is None else _kernel(workload, epilogue, choice or _OWN)


def space(workload: Workload, target: Any) -> Sequence[Choice]:
    """Choices for ``workload``, the rule's own first; empty where it is not the rule's."""
    if _epilogue(workload) is None:
        return ()
    return [Choice(*both) for both in product(_THREADS, _PIXELS)]


def _epilogue(workload: Workload) -> Epilogue | None:
    """That of a convolution of the rule; None for everything else."""
    if workload.op != "conv2d" or any(workload.arguments[i].constant is None for i in (1, 2)):
        return None
    outputs, _, _, inputs = workload.arguments[1].shape
    channels = workload.arguments[0].shape[3]
    if inputs != 1 or outputs != channels or channels % _FOUR:
        return None
    weight = workload.constant(1).reshape(channels, -1)
    bias = workload.constant(2).astype(np.int64)
    bound = _MAGNITUDE * np.abs(weight.astype(np.int64)).sum(axis=1) + np.abs(bias)
    return plan(workload.params["epilogue"], workload.arguments, bias, bound)


def _kernel(workload: Workload, epilogue: Epilogue, choice: Choice) -> Kernel:
    window, threads, each = Window.of(workload), choice.threads, choice.pixels
    channels = workload.arguments[0].shape[3]
    weight = workload.constant(1).reshape(channels, -1)
    taps = weight.shape[1]
    pixels = window.batch * window.out_height * window.out_width
    rows = Windows(pixels, taps * channels, window, window.kernel, channels)
    finisher = Finisher(epilogue, channels)
    packed = Constant(np.ascontiguousarray(weight.T))
    arguments: list[int | Constant] = [0, packed, *finisher.arguments]
    quads, groups = channels // _FOUR, -(-pixels // each)
    blocks = -(-groups * quads // threads)
    name = f"depthwise_{window.label}"

    def body(x: Buffer, weights: Buffer, *rest: Buffer) -> None:
        finisher.bind(rest[:-1], rest[-1])
        with words.grid((blocks,), threads) as (block, thread):
            number = words.bind(block * threads + thread)
            with words.when(words.below(number, groups * quads, blocks * threads)):
                group, channel = number // quads, words.bind(number % quads * _FOUR)
                own = [words.bind(group * each + i if each > 1 else group) for i in range(each)]
                sums = _sums(finisher, rows, x, weights, (own, channel))
                values = [[sums[_FOUR * p + i] for i in range(_FOUR)] for p in range(each)]
                places = [words.bind(pixel * channels + channel) for pixel in own]
                inside = [words.below(pixel, pixels, groups * each) for pixel in own]
                finisher.finish(values, channel, places, inside, lambda _: True, True)

    function = prim_func(name, passed_specs(workload, arguments), workload.output, body)
    return Kernel(name, function, tuple(arguments))


def _sums(
    finisher: Finisher,
    rows: Windows,
    x: Buffer,
    weights: Buffer,
    where: tuple[Sequence[Expr], Expr],
) -> Buffer:
    """Products of the windows of neighbouring pixels, tap by tap: ``[pixel][4]``."""
    pixels, channel = where
    channels = rows.piece
    fill = np.frombuffer(np.full(_FOUR, rows.fill, np.int8).tobytes(), np.int32)[0]
    sums, held = words.local(_FOUR * len(pixels)), words.local(2)
    for i in range(_FOUR):
        start = words.bind(finisher.start(channel + i))
        for p in range(len(pixels)):
            words.store(sums, _FOUR * p + i, start)
    places = [rows.place(pixel) for pixel in pixels]
    for tap in range(rows.depth // channels):
        k = words.bind(channel + tap * channels)
        words.call("hyq_read_4", words.at(held, 0), words.at(weights, k))
        for p, place in enumerate(places):
            offset, exists = rows.address(place, k, rows.depth)
            if exists is not True:
                words.store(held, 1, words.const(int(fill)))
            with words.when(exists):
                words.call("hyq_read_4", words.at(held, 1), words.at(x, offset))
            words.call("hyq_four_products", words.at(sums, _FOUR * p), held[1], held[0])
    return sums
