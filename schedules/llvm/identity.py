"""An epilogue alone: tensors that change their grid, or pass a table, outside of any product."""

from __future__ import annotations

from typing import Any

import numpy as np

from schedules.llvm import vector
from schedules.llvm.finish import Finisher
from schedules.llvm.isa import Isa, instruction_set
from schedules.llvm.stages import Epilogue, plan
from schedules.llvm.vector import Buffer, Expr
from schedules.prim_func import prim_func
from schedules.rule import Constant, Kernel, Workload, passed_specs

REGISTERS = 4
PARALLEL_ELEMENTS = 100_000
_TASKS = 16


def schedule(workload: Workload, target: Any) -> Kernel | None:
    """``identity`` with constants for the whole tensor, read flat, four registers at once."""
    if workload.op != "identity":
        return None
    isa = instruction_set(target)
    epilogue = _epilogue(workload, isa)
    return None if epilogue is None else _Identity(workload, isa, epilogue).kernel()


def _epilogue(workload: Workload, isa: Isa) -> Epilogue | None:
    """None where constants differ between channels, or are not known."""
    size = workload.output.size
    tensors = workload.arguments[1:]
    constants = [t for t in tensors if t.constant is not None and t.dtype == "int32"]
    if any(spec.size != 1 for spec in constants):
        return None
    if any(spec.constant is None and spec.size != size for spec in tensors):
        return None
    info = np.iinfo(workload.arguments[0].dtype)
    zero_point = int(workload.params["zero_point"])
    bound = max(int(info.max) - zero_point, zero_point - int(info.min))
    block = REGISTERS * isa.lanes
    start = np.full(block, -zero_point, np.int64)
    stages = workload.params["epilogue"]
    return plan(stages, workload.arguments, start, np.full(block, bound, np.int64))


class _Identity:
    def __init__(self, workload: Workload, isa: Isa, epilogue: Epilogue) -> None:
        self.workload = workload
        self.isa = isa
        self.block = REGISTERS * isa.lanes
        self.finisher = Finisher(isa, epilogue, np.arange(self.block))

    def kernel(self) -> Kernel:
        """The scheduled PrimFunc and its arguments."""
        workload = self.workload
        arguments: list[int | Constant] = [0, *self.finisher.arguments]
        name = f"identity_{workload.output.size}"
        specs = passed_specs(workload, arguments)
        function = prim_func(name, specs, workload.output, self._body)
        return Kernel(name, function, tuple(arguments))

    def _body(self, x: Buffer, *rest: Buffer) -> None:
        self.finisher.bind(rest[:-1], rest[-1])
        size = self.workload.output.size
        blocks, last = divmod(size, self.block)
        if blocks:
            threads = size >= PARALLEL_ELEMENTS
            tasks = min(blocks, _TASKS) if threads else 1
            each = -(-blocks // tasks)
            with vector.tasks(tasks, threads) as task, vector.loop(each) as number:
                place = vector.at_most(task * each + number, blocks - 1)
                self._piece(x, place * self.block, self.block)
        if last:
            self._piece(x, blocks * self.block, last)

    def _piece(self, x: Buffer, place: Expr, valid: int) -> None:
        lanes, dtype = self.isa.lanes, self.workload.arguments[0].dtype
        registers = []
        for i in range(-(-valid // lanes)):
            value = vector.load_some(x, place + i * lanes, lanes, valid - i * lanes, dtype)
            moved = vector.cast(value, "int32", lanes) + self.finisher.start(i)
            registers.append(vector.bind(moved))
        self.finisher.finish([registers], 0, [place], valid)
