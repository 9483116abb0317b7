"""Of several plans the one that the simulation likes best."""

from dataclasses import replace

import numpy as np
import pytest

from hyq_tvm.quantization.graph import Graph
from hyq_tvm.quantization.plan import LayerPlan
from hyq_tvm.quantization.selection import best_of, with_and_without_shifts
from tests.quantization.lowering.planning import dense, minmax_plan, node

SHAPE = (1, 7, 6)


@pytest.fixture
def case():
    rng = np.random.default_rng(3)
    graph = Graph([node("x", "input", [], SHAPE), dense(rng, "y", "x", (1, 7, 4), 6)], ["y"])
    runs = rng.uniform(-1, 1, size=(5, *SHAPE)).astype(np.float32)
    runs[0, 0, 0, :2] = -1, 1
    return graph, runs, minmax_plan(graph, runs[0], wide=("y",))


def coarser(plan, factor):
    grid = plan.tensors["x"]
    scale = tuple(s * factor for s in grid.scale)
    return replace(plan, tensors={**plan.tensors, "x": replace(grid, scale=scale)})


def test_the_finer_plan_wins_wherever_it_stands(case):
    graph, runs, plan = case
    plans = [coarser(plan, 8.0), plan, coarser(plan, 4.0)]
    for order in ([0, 1, 2], [1, 2, 0], [2, 0, 1]):
        best = best_of(graph, [plans[i] for i in order], runs)
        assert best.tensors == plan.tensors
        assert best.notes["simulated_sqnr_db"] > 25


def test_of_equal_plans_the_first_is_taken(case):
    graph, runs, plan = case
    marked = replace(plan, notes={"second": True})
    assert "second" not in best_of(graph, [plan, marked], runs).notes


def test_a_shift_that_does_harm_is_dropped(case):
    graph, runs, plan = case
    shifted = replace(plan, layers={"y": LayerPlan("dense", bias_shift=(0.5,) * 4)})
    both = list(with_and_without_shifts(shifted))
    assert both[0] == shifted
    assert best_of(graph, both, runs).layers["y"].bias_shift == ()


def test_a_plan_without_shifts_stays_alone(case):
    assert list(with_and_without_shifts(case[2])) == [case[2]]
