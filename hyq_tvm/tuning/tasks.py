"""What there is to tune in a module: its operators, each kind once, with their choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from hyq_tvm.errors import TuningError
from schedules import application
from schedules.recorded import Record, target_key, workload_key
from schedules.rule import Kernel, Tunable, Workload


@dataclass(frozen=True, eq=False)
class Candidate(Kernel):
    """A kernel to be measured, and the operator that it computes."""

    workload: Workload


@dataclass(frozen=True, eq=False)
class Task:
    """Operators that are alike, ``count`` of them, and the ``choices`` of their rule.

    workload: one of them. key: what they have in common. target, machine: the TVM target and its
    key. choices: the rule's own first.
    """

    workload: Workload
    key: str
    count: int
    target: Any
    machine: str
    rule: Tunable
    choices: Sequence[Any]

    def kernel(self, number: int) -> Candidate:
        """The kernel of choice ``number``; raises ``ValueError`` where the rule makes none."""
        kernel = self.rule.schedule(self.workload, self.target, self.choices[number])
        if kernel is None:
            raise ValueError(f"the rule {self.rule.name} leaves {self.key} to others")
        return Candidate(kernel.name, kernel.function, kernel.arguments, self.workload)

    def record(self, number: int, seconds: float | None, error: str, cost: float) -> Record:
        """The record of a measurement of choice ``number``."""
        choice = asdict(self.choices[number])
        return Record(self.key, self.machine, self.rule.name, choice, seconds, error, cost)

    @cached_property
    def features(self) -> NDArray[np.float64]:
        """What a cost model may know, float64 ``[choices, features]``: sizes, and the choice."""
        specs = [*self.workload.arguments[:2], self.workload.output]
        sizes = [n for spec in specs for n in (*spec.shape, 1, 1, 1, 1)[:4]]
        stages = len(self.workload.params.get("epilogue", ()))
        shared = np.array([*sizes, 1 + stages], np.float64)
        chosen = 1 + np.array([astuple(choice) for choice in self.choices], np.float64)
        return np.log2(np.hstack([np.tile(shared, (len(chosen), 1)), chosen]))


def extract(module: tvm.IRModule, target: Any) -> list[Task]:
    """The tasks of an integer module for a TVM target, in the order of their first operators.

    Operators whose rule has nothing to choose are not among them. Raises ``TuningError`` for a
    target whose rules have no choices at all.
    """
    kind = str(target.kind.name)
    if kind not in application.TUNABLES:
        raise TuningError(f"target {kind!r} has nothing to tune: its rules have no choices")
    machine = target_key(target)
    counts: dict[str, int] = {}
    first: dict[str, Workload] = {}
    for workload in application.workloads(module):
        key = workload_key(workload)
        counts[key] = counts.get(key, 0) + 1
        first.setdefault(key, workload)
    tasks = []
    for key, workload in first.items():
        rule, choices = _choices(workload, target, application.TUNABLES[kind])
        if rule is not None and len(choices) > 1:
            tasks.append(Task(workload, key, counts[key], target, machine, rule, choices))
    return tasks


def _choices(
    workload: Workload, target: Any, rules: Sequence[Tunable]
) -> tuple[Tunable | None, Sequence[Any]]:
    for rule in rules:
        choices = rule.space(workload, target)
        if choices:
            return rule, choices
    return None, ()
