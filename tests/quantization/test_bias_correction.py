"""A bias makes up for what rounding shifts, on average over the sampled positions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hyq_tvm.errors import PlanError
from hyq_tvm.quantization.bias_correction import bias_shift, column_means
from hyq_tvm.quantization.config import QuantConfig
from hyq_tvm.quantization.graph import Graph
from hyq_tvm.quantization.lowering import lower
from hyq_tvm.quantization.plan import LayerPlan, QuantPlan, TensorPlan
from hyq_tvm.quantization.statistics import WeightSquares
from tests.quantization.lowering.planning import conv, dense, float_values, minmax_plan, node

SHAPE = (1, 5, 5, 6)


def layer(kind):
    rng = np.random.default_rng(3)
    if kind == "dense":
        return dense(rng, "layer", "x", (1, 5, 5, 4), 6)
    groups = {"conv": 1, "depthwise": 6, "grouped": 2}[kind]
    return conv(rng, "layer", "x", SHAPE, kernel=3, groups=groups, cin=6)


KINDS = ("dense", "conv", "depthwise", "grouped")


@pytest.mark.parametrize("kind", KINDS)
def test_the_shift_is_the_mean_error_of_an_input_that_is_the_same_everywhere(kind):
    made = layer(kind)
    rows = np.repeat(np.random.default_rng(1).normal(size=(1, 6)).astype(np.float32), 9, axis=0)
    grid = TensorPlan((0.05,), 3, 8, False, "minmax", -6.0, 6.0)
    shift = np.array(bias_shift(made, rows, grid, 4))
    graph = Graph([node("x", "input", [], SHAPE), made], ["layer"])
    x = np.broadcast_to(rows[0], SHAPE).astype(np.float32)
    plan = minmax_plan(graph, x, wide=("layer",), layers={"layer": {"weight_bits": 4}})
    output = replace(plan.tensors["layer:wide"], scale=(2e-4,))
    plan = replace(plan, tensors={**plan.tensors, "x": grid, "layer:wide": output})
    error = float_values(graph, x)["layer"] - lower(graph, plan).run(x)[0]
    # The integer bias is a whole number of accumulator steps.
    np.testing.assert_allclose(shift, error[0, 2, 2], atol=6e-3)
    assert np.abs(shift).max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_column_means_meet_their_weights(kind):
    made = layer(kind)
    weight = made.params["weight"]
    means = np.arange(6, dtype=np.float32)
    found = np.broadcast_to(column_means(made, means[None]), weight.shape)
    for index in np.ndindex(weight.shape):
        group = 0
        if made.op == "conv2d":
            group = index[0] // (weight.shape[0] // int(made.attrs["groups"]))
        assert found[index] == means[group * weight.shape[-1] + index[-1]]


def test_squares_of_centered_inputs_are_those_of_inputs_that_were_centered():
    rng = np.random.default_rng(0)
    mean, squares, direct = rng.normal(size=3).astype(np.float32), WeightSquares(), 0.0
    for _ in range(5):
        x, g = rng.normal(size=(7, 3)) + mean, rng.normal(size=(7, 2))
        squares.add((g.T @ x).astype(np.float32), g.sum(axis=0).astype(np.float32))
        direct = direct + (g.T @ (x - mean)) ** 2 / 5
    squares.finish(5)
    np.testing.assert_allclose(squares.centered(mean), direct, rtol=1e-3)


def test_a_plan_shifts_the_bias_of_the_integer_program():
    made = layer("dense")
    graph = Graph([node("x", "input", [], SHAPE), made], ["layer"])
    x = np.random.default_rng(5).normal(size=SHAPE).astype(np.float32)
    plain = minmax_plan(graph, x, wide=("layer",))
    shift = (0.5, -0.25, 0.0, 1.0)
    moved = QuantPlan(
        QuantConfig(),
        plain.fingerprint,
        plain.tensors,
        {"layer": LayerPlan("dense", bias_shift=shift)},
    )
    step = plain.tensors["layer:wide"].scale[0]
    change = lower(graph, moved).run(x)[0] - lower(graph, plain).run(x)[0]
    inside = np.abs(lower(graph, plain).run(x)[0] + np.array(shift)) < 32000 * step
    wanted = np.broadcast_to(np.array(shift), change.shape)
    np.testing.assert_allclose(change[inside], wanted[inside], atol=0.02)


def test_a_shift_for_another_number_of_channels_is_refused():
    graph = Graph([node("x", "input", [], SHAPE), layer("dense")], ["layer"])
    x = np.zeros(SHAPE, np.float32)
    plain = minmax_plan(graph, x, wide=("layer",))
    wrong = {"layer": LayerPlan("dense", bias_shift=(1.0,))}
    with pytest.raises(PlanError, match="'layer': bias_shift has 1 numbers for 4"):
        lower(graph, QuantPlan(QuantConfig(), plain.fingerprint, plain.tensors, wrong))


def test_rounding_that_cancels_in_float_is_made_up_for():
    """Great weights that cancel on a constant background, as in trained first layers."""
    made = dense(np.random.default_rng(0), "layer", "x", (1, 64, 1), 3)
    made.params["weight"][:] = [[-2.93, -5.41, 8.29]]
    made.params["bias"][:] = 0
    noise = 0.01 * torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    rows = (1 + noise).numpy()
    grid = TensorPlan((1 / 100,), 0, 8, False, "minmax", 0.0, 1.2)
    (shift,) = bias_shift(made, rows, grid, 8)
    graph = Graph([node("x", "input", [], (1, 64, 3)), made], ["layer"])
    plain = minmax_plan(graph, rows[None], wide=("layer",))
    tensors = {**plain.tensors, "x": grid}

    def error(layers):
        plan = QuantPlan(QuantConfig(), plain.fingerprint, tensors, layers)
        return float(
            (lower(graph, plan).run(rows[None])[0] - rows[None] @ [[-2.93], [-5.41], [8.29]]).mean()
        )

    assert abs(error({"layer": LayerPlan("dense", bias_shift=(shift,))})) < 0.1 * abs(error({}))
