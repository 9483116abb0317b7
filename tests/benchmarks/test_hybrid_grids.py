import numpy as np
import pytest
import torch

import hyq_tvm
from benchmarks import hybrid_grids
from hyq_tvm.quantization.planner import make_plan
from relay_passes.extract_graph import extract_graph


@pytest.fixture(scope="module")
def made():
    """A small graph, a plan from faint pictures, and pictures that are brighter than those."""
    torch.manual_seed(1)
    layers = [
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.SiLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(288, 5),
    ]
    module = torch.nn.Sequential(*layers).eval()
    graph = extract_graph(hyq_tvm.from_torch(module, (torch.zeros(1, 3, 8, 8),)))
    draw = np.random.default_rng(0)
    seen = draw.standard_normal((8, 3, 8, 8)).astype(np.float32)
    plan = make_plan(graph, [seen], hyq_tvm.QuantConfig(observer="minmax"))
    return graph, plan, 1.7 * seen[:3]


def test_wider_grids_hold_more_and_finer_ones_as_much(made):
    _, plan, _ = made
    wide, fine = hybrid_grids.wider(plan, 2.0), hybrid_grids.finer(plan)
    assert set(wide.tensors) == set(fine.tensors) == set(plan.tensors)
    for name, tensor in plan.tensors.items():
        np.testing.assert_array_equal(wide.tensors[name].scales, 2 * tensor.scales)
        assert wide.tensors[name].bits == tensor.bits
        assert fine.tensors[name].bits == 16
        parts = 2.0 ** (16 - tensor.bits)
        np.testing.assert_allclose(fine.tensors[name].scales * parts, tensor.scales, rtol=1e-12)
        assert fine.tensors[name].zero_point == tensor.zero_point * parts


def test_pictures_outside_of_the_ranges_need_wider_ones(made):
    rows = {row.grids: row for row in hybrid_grids.compare(*made)}
    assert rows["16 bits, twice the range"].sqnr_db > rows["16 bits"].sqnr_db + 3
    assert rows["16 bits, twice the range"].sqnr_db > rows["twice the range"].sqnr_db
    for row in rows.values():
        assert row.worst_db <= row.sqnr_db <= row.best_db
    table = hybrid_grids.markdown(list(rows.values()))
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == [f"| {n}" for n in rows]
