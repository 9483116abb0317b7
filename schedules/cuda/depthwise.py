"""Depthwise convolution: a thread makes four neighbouring channels of one pixel."""

from __future__ import annotations

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

THREADS = 128
_FOUR = 4
_MAGNITUDE = 128


def schedule(workload: Workload, target: Any) -> Kernel | None:
    """One output a channel, constant weights, channels a multiple of four."""
    if workload.op != "conv2d" or any(workload.arguments[i].constant is None for i in (1, 2)):
        return None
    outputs, _, _, inputs = workload.arguments[1].shape
    channels = workload.arguments[0].shape[3]
    if inputs != 1 or outputs != channels or channels % _FOUR:
        return None
    weight = workload.constant(1).reshape(channels, -1)
    bias = workload.constant(2).astype(np.int64)
    bound = _MAGNITUDE * np.abs(weight.astype(np.int64)).sum(axis=1) + np.abs(bias)
    epilogue = plan(workload.params["epilogue"], workload.arguments, bias, bound)
    return None if epilogue is None else _kernel(workload, weight, epilogue)


def _kernel(workload: Workload, weight: np.ndarray[Any, Any], epilogue: Epilogue) -> Kernel:
    window = Window.of(workload)
    channels, taps = weight.shape
    pixels = window.batch * window.out_height * window.out_width
    rows = Windows(pixels, taps * channels, window, window.kernel, channels)
    finisher = Finisher(epilogue, channels)
    packed = Constant(np.ascontiguousarray(weight.T))
    arguments: list[int | Constant] = [0, packed, *finisher.arguments]
    quads = channels // _FOUR
    blocks = -(-pixels * quads // THREADS)
    name = f"depthwise_{window.label}"

    def body(x: Buffer, weights: Buffer, *rest: Buffer) -> None:
        finisher.bind(rest[:-1], rest[-1])
        with words.grid((blocks,), THREADS) as (block, thread):
            number = words.bind(block * THREADS + thread)
            with words.when(words.below(number, pixels * quads, blocks * THREADS)):
                pixel = words.bind(number // quads)
                channel = words.bind(number % quads * _FOUR)
                sums = _sums(finisher, rows, x, weights, (pixel, channel))
                values = [[sums[i] for i in range(_FOUR)]]
                place = words.bind(pixel * channels + channel)
                finisher.finish(values, channel, [place], [True], lambda _: True, True)

    function = prim_func(name, passed_specs(workload, arguments), workload.output, body)
    return Kernel(name, function, tuple(arguments))


def _sums(
    finisher: Finisher, rows: Windows, x: Buffer, weights: Buffer, where: tuple[Expr, Expr]
) -> Buffer:
    """Products of a window, tap by tap."""
    pixel, channel = where
    channels = rows.piece
    fill = np.frombuffer(np.full(_FOUR, rows.fill, np.int8).tobytes(), np.int32)[0]
    sums, held = words.local(_FOUR), words.local(2)
    for i in range(_FOUR):
        words.store(sums, i, words.bind(finisher.start(channel + i)))
    place = rows.place(pixel)
    for tap in range(rows.depth // channels):
        k = words.bind(channel + tap * channels)
        offset, exists = rows.address(place, k, rows.depth)
        words.call("hyq_read_4", words.at(held, 0), words.at(weights, k))
        if exists is not True:
            words.store(held, 1, words.const(int(fill)))
        with words.when(exists):
            words.call("hyq_read_4", words.at(held, 1), words.at(x, offset))
        words.call("hyq_four_products", words.at(sums, 0), held[1], held[0])
    return sums
