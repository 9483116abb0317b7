import math

import numpy as np
import pytest

from hyq_tvm.quantization.config import QuantConfig
from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.lowering import lower
from hyq_tvm.quantization.plan import WIDE, LayerPlan, QuantPlan, TensorPlan
from hyq_tvm.report.inspection import channel_ranges, integer_sqnr, layer_rows

WEIGHT = np.array([[1.0, -0.5, 0.25, 2.0], [0.5, 1.0, -1.0, 0.0]], np.float32)
BIAS = np.array([0.5, -0.25], np.float32)
ALPHA = (1.0, 2.0, 4.0, 0.5)


def grid(scale, bits=8, symmetric=False, zero_point=0):
    scales = tuple(np.atleast_1d(scale).tolist())
    return TensorPlan(scales, zero_point, bits, symmetric, "minmax", -1.0, 1.0)


@pytest.fixture
def graph():
    return Graph(
        [
            Node("x", "input", (), (1, 4)),
            Node("squash", "unary", ("x",), (1, 4), {"fn": "relu", "args": ()}),
            Node("fc", "dense", ("squash",), (1, 2), {}, {"weight": WEIGHT, "bias": BIAS}),
        ],
        ["fc"],
    )


@pytest.fixture
def plan():
    return QuantPlan(
        QuantConfig(),
        "",
        {
            "x": grid(1 / 64),
            "squash": grid(np.array(ALPHA) / 64, zero_point=-128),
            "fc" + WIDE: grid(1 / 4096, bits=16, symmetric=True),
        },
        {"fc": LayerPlan("dense", alpha=ALPHA, alpha_cost="free")},
    )


def images(count=6):
    random = np.random.default_rng(0)
    return [random.uniform(-1, 1, (1, 4)).astype(np.float32) for _ in range(count)]


def test_sqnr_is_that_of_the_golden_model(graph, plan):
    program = lower(graph, plan)
    found = integer_sqnr(program, graph, plan, images())
    exact = np.concatenate([np.maximum(i, 0) @ WEIGHT.T + BIAS for i in images()]).astype(float)
    integer = np.concatenate([program.run(i)[0] for i in images()]).astype(float)
    expected = 10 * math.log10(np.sum(exact**2) / np.sum((integer - exact) ** 2))
    assert found["fc" + WIDE] == pytest.approx(expected, abs=1e-3)
    assert 20 < found["fc" + WIDE] < 60


def test_images_on_the_grid_have_no_noise(graph, plan):
    exact = np.array([[0.5, -0.25, 0.125, 0.75]], np.float32)
    found = integer_sqnr(lower(graph, plan), graph, plan, [exact])
    assert found["squash"] == math.inf


def test_rows_say_what_the_plan_decided(graph, plan):
    program = lower(graph, plan)
    rows = {row.name: row for row in layer_rows(program, plan, {"fc" + WIDE: 33.0})}
    fc = rows["fc" + WIDE]
    assert (fc.op, fc.shape, fc.bits, fc.zero_point) == ("dense", (1, 2), 16, 0)
    assert fc.alpha_spread == 8
    assert fc.alpha_cost == "free"
    assert fc.sqnr_db == 33
    # |w| <= 127, 4 inputs of at most 255 steps, and a bias: far below 2**31.
    assert 10 < fc.margin_bits < 20
    assert next(iter(rows.values())).op == "quantize"
    assert rows["x:quantized"].margin_bits is None


def test_channel_ranges_are_the_largest_magnitudes(graph, plan):
    (found,) = channel_ranges(graph, plan, images())
    peaks = np.maximum(np.concatenate(images()), 0).max(axis=0)
    assert found.name == "fc"
    np.testing.assert_allclose(found.before, peaks, rtol=1e-6)
    np.testing.assert_allclose(found.after, peaks / np.array(ALPHA), rtol=1e-6)


def test_no_scaling_no_ranges(graph, plan):
    assert channel_ranges(graph, plan.with_layer("fc", alpha=()), images()) == []
    assert channel_ranges(graph, plan, images(), most=0) == []
