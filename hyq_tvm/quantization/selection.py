"""The choice between whole plans, by simulating them on images that calibration kept.

Estimates by gradients are good to compare one grid with another. They say little about errors that
are large or add up over layers, as in a network whose filters cancel: there the learned factors of
distribution scaling, which the estimate prefers, can cost half of the signal to noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.quantization.float_executor import FloatExecutor
from hyq_tvm.quantization.graph import Graph
from hyq_tvm.quantization.plan import QuantPlan
from hyq_tvm.quantization.simulate import Simulator, relative_error

Images = NDArray[np.float32]

FLOOR = 1e-12
"""120 dB: as good as exact."""


def with_and_without_shifts(plan: QuantPlan) -> Iterator[QuantPlan]:
    """The plan, and if it shifts biases the same without."""
    yield plan
    if any(layer.bias_shift for layer in plan.layers.values()):
        layers = {name: replace(layer, bias_shift=()) for name, layer in plan.layers.items()}
        yield replace(plan, layers=layers)


def best_of(graph: Graph, plans: Sequence[QuantPlan], runs: Images) -> QuantPlan:
    """The plan with the best signal to noise at the outputs, the mean of all runs' decibels.

    runs: [n, *shape of the graph's input] float32. The mean is noted as ``simulated_sqnr_db``;
    of equal plans the first is taken.
    """
    executor = FloatExecutor(graph)
    exact = [executor.run(run) for run in runs]
    found = [_decibels(Simulator(graph, plan), runs, exact) for plan in plans]
    best = int(np.argmax(found))
    notes = {**plans[best].notes, "simulated_sqnr_db": round(found[best], 2)}
    return replace(plans[best], notes=notes)


def _decibels(simulator: Simulator, runs: Images, exact: Sequence[Any]) -> float:
    errors = [
        relative_error(want, simulator.run(run)) for run, want in zip(runs, exact, strict=True)
    ]
    return float(np.mean(-10 * np.log10(np.maximum(errors, FLOOR))))
