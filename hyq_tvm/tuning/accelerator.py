"""Tuning for the VTA accelerator: its cycle model measures, on any machine and always the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tvm

from hyq_tvm.errors import DeviceProgramError, UnsupportedModelError
from hyq_tvm.targets.vta import VTATarget
from hyq_tvm.targets.vta_records import RULE, machine_key, workload
from hyq_tvm.tuning.measure import Measurer, Timing
from hyq_tvm.tuning.tasks import Task
from hyq_tvm.vta.arch import VTAConfig
from hyq_tvm.vta.codegen import RULES, compile_operations
from hyq_tvm.vta.codegen.choices import TileChoice, space
from hyq_tvm.vta.codegen.folding import fold_views
from hyq_tvm.vta.codegen.source import Operation
from hyq_tvm.vta.timing import time_program
from relay_passes.read_program import read_program
from schedules.recorded import workload_key
from schedules.rule import Kernel, Tunable, Workload


def extract(module: tvm.IRModule, target: VTATarget) -> list[Task]:
    """The operators of an integer module whose tiles can be chosen, each kind once."""
    program = read_program(module)
    operations = [o for o in program.instructions if o.op in RULES]
    kept = [str(a.value) for o in program.instructions if o.op not in RULES for a in o.arguments]
    tunable = Tunable(RULE, _kernel, _space)
    counts: dict[str, int] = {}
    first: dict[str, Workload] = {}
    for operation in fold_views(operations, [*kept, *program.outputs]):
        found = workload(operation)
        key = workload_key(found)
        counts[key] = counts.get(key, 0) + 1
        first.setdefault(key, found)
    machine = machine_key(target.config)
    return [
        Task(found, key, counts[key], target, machine, tunable, choices)
        for key, found in first.items()
        if len(choices := space(found.function)) > 1
    ]


def _space(found: Workload, _: Any) -> Sequence[TileChoice]:
    return space(found.function)


def _kernel(found: Workload, _: Any, choice: TileChoice) -> Kernel:
    return Kernel(f"{found.op}_{choice}", (found.function, choice), ())


class CycleMeasurer:
    """Schedules single operators on the cycle model of a device."""

    def __init__(self, config: VTAConfig) -> None:
        self._config = config

    def measure(self, kernels: Sequence[Kernel]) -> Iterator[tuple[int, Timing]]:
        """See ``Measurer``: cycles at the device's clock."""
        for number, kernel in enumerate(kernels):
            yield number, self._time(*kernel.function)

    def _time(self, operation: Operation, choice: TileChoice) -> Timing:
        try:
            made = compile_operations(
                [operation], [operation.name], self._config, choose=lambda _: choice
            )
        except (UnsupportedModelError, DeviceProgramError) as error:
            return Timing(None, str(error))
        return Timing(time_program(made).milliseconds / 1000)


@contextmanager
def cycle_measurer(target: VTATarget) -> Iterator[Measurer]:
    """What measures for ``target``."""
    yield CycleMeasurer(target.config)
