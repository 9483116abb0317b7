"""A stream changes its scale where it grows, and nowhere else."""

import numpy as np
import pytest

from hyq_tvm.quantization.config import QuantConfig
from hyq_tvm.quantization.demand import demands, streams
from hyq_tvm.quantization.graph import Graph
from hyq_tvm.quantization.lowering import lower
from hyq_tvm.quantization.plan import WIDE
from hyq_tvm.quantization.planner import make_plan
from hyq_tvm.quantization.segments import SPREAD, segments
from hyq_tvm.quantization.view import View
from tests.quantization.lowering.planning import dense, float_values, node, sqnr

SHAPE = (1, 6, 8)


def transformer(seed=0, great=1.0):
    """Three residual branches; the middle one's output grows by ``great`` in one channel."""
    rng = np.random.default_rng(seed)
    ones, zeros = np.ones(8), np.zeros(8)

    def norm(name, source):
        return node(name, "layer_norm", [source], SHAPE, {"eps": 1e-5}, gamma=ones, beta=zeros)

    nodes = [node("x", "input", [], SHAPE), dense(rng, "embed", "x", SHAPE, 8)]
    stream = "embed"
    for i in range(3):
        nodes += [norm(f"norm{i}", stream), dense(rng, f"branch{i}", f"norm{i}", SHAPE, 8)]
        nodes.append(node(f"sum{i}", "add", [stream, f"branch{i}"], SHAPE))
        stream = f"sum{i}"
    moved = View.identity(SHAPE).reshape((6, 8))
    nodes.append(node("moved", "view", [stream], (6, 8), {"view": moved}))
    last = node("norm", "layer_norm", ["moved"], (6, 8), {"eps": 1e-5}, gamma=ones, beta=zeros)
    nodes += [last, dense(rng, "head", "norm", (6, 4), 8)]
    graph = Graph(nodes, ["head"])
    graph["branch1"].params["weight"][3] *= great
    return graph


def cut(graph, peaks):
    (stream,) = [s for s in streams(graph, demands(graph)) if "sum0" in s.tensors]
    return [set(s) for s in segments(graph, stream, lambda name: peaks.get(name, 0.0))]


FLAT = dict.fromkeys(
    ["embed", *(f"{kind}{i}" for kind in ("branch", "sum") for i in range(3))], 1.0
)


def test_an_even_stream_has_one_scale():
    assert len(cut(transformer(), FLAT)) == 1


def test_a_branch_that_grows_starts_a_segment_with_its_sum_and_what_moves_it():
    found = cut(transformer(), {**FLAT, "branch1": 100.0, "sum1": 100.0, "sum2": 100.0})
    assert {"branch1", "sum1", "branch2", "sum2", "moved"} in found
    assert {"embed", "branch0", "sum0"} in found


def test_a_stream_that_shrinks_is_cut_too():
    assert len(cut(transformer(), {**FLAT, "embed": 100.0, "sum0": 100.0})) == 2


@pytest.mark.parametrize(("growth", "count"), [(SPREAD, 1), (np.nextafter(SPREAD, 9), 2)])
def test_the_spread_of_a_segment_is_bounded(growth, count):
    assert len(cut(transformer(), {**FLAT, "sum2": growth})) == count


def test_slow_growth_is_cut_as_well():
    slow = {f"sum{i}": 3.0 ** (i + 1) for i in range(3)}
    assert len(cut(transformer(), {**FLAT, **slow})) == 2


def test_one_great_channel_does_not_coarsen_what_comes_before():
    graph = transformer(great=400.0)
    images = np.random.default_rng(1).normal(size=(24, *SHAPE[1:])).astype(np.float32)
    plan = make_plan(graph, [images], QuantConfig(samples=64))
    before, after = plan.tensors["sum0" + WIDE], plan.tensors["sum1" + WIDE]
    assert after.scale[0] > 30 * before.scale[0]
    assert plan.tensors["branch1" + WIDE].scale == after.scale
    program = lower(graph, plan)
    got = np.concatenate([program.run(x[None])[0] for x in images[:8]])
    want = np.concatenate([float_values(graph, x[None])["head"] for x in images[:8]])
    assert sqnr(want, got) > 20
