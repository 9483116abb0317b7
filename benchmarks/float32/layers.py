"""Kernels of layers with constant weights: the integer ones' loops around float sums."""

from __future__ import annotations

from typing import Any

from benchmarks.float32.finish import FloatEpilogue, FloatFinisher
from schedules.llvm import dense, depthwise
from schedules.llvm.conv2d import Conv
from schedules.llvm.dense import Dense
from schedules.llvm.depthwise import Depthwise
from schedules.llvm.isa import Isa
from schedules.rule import Kernel, Workload


def layer(workload: Workload, isa: Isa, steps: tuple[str, ...] = ()) -> Kernel:
    """A ``conv2d`` or ``dense`` with float32 weight and bias, arguments 1 and 2.

    steps: what follows, see ``FloatEpilogue``; further arguments are what its ``"add"`` add.
    """
    others = tuple(range(3, len(workload.arguments)))
    epilogue = FloatEpilogue(workload.constant(2), steps, others)

    def finish(channels: Any, mixed: int) -> FloatFinisher:
        return FloatFinisher(isa, epilogue, channels, mixed)

    if dense.is_dense(workload):
        return Dense(workload, isa, finish, dense.own_choice(workload, isa)).kernel()
    if depthwise.is_depthwise(workload):
        return Depthwise(workload, isa, finish, depthwise.own_choice(workload, isa)).kernel()
    return Conv(workload, isa, finish, None).kernel()
