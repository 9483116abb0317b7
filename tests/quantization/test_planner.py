"""From calibration data to a plan: the same whatever the batches, and good enough to run on."""

import numpy as np
import pytest

from hyq_tvm.errors import CalibrationError, ConfigError, PlanError
from hyq_tvm.quantization.config import QuantConfig
from hyq_tvm.quantization.graph import Graph
from hyq_tvm.quantization.lowering import lower
from hyq_tvm.quantization.plan import WIDE, QuantPlan
from hyq_tvm.quantization.planner import (
    calibrate,
    make_plan,
    plan_from_statistics,
    with_softmax,
)
from hyq_tvm.quantization.simulate import simulate
from tests.quantization.lowering.planning import conv, dense, float_values, node, sqnr

SMALL = {"samples": 64}


@pytest.fixture(scope="module")
def hybrid():
    """An inverted residual, a transformer block with one peaky attention, a head."""
    rng = np.random.default_rng(2)
    s, m, t = (1, 4, 4, 8), (1, 4, 4, 16), (1, 16, 8)
    gamma = 1 + 0.1 * rng.normal(size=8)
    nodes = [
        node("x", "input", [], s),
        conv(rng, "expand", "x", m, cin=8),
        node("act1", "unary", ["expand"], m, {"fn": "silu"}),
        conv(rng, "depthwise", "act1", m, kernel=3, groups=16, cin=16),
        node("act2", "unary", ["depthwise"], m, {"fn": "silu"}),
        conv(rng, "project", "act2", s, cin=16),
        node("sum", "add", ["x", "project"], s),
        node("tokens", "view", ["sum"], t, {"view": _flat(s, t)}),
        node("norm", "layer_norm", ["tokens"], t, {"eps": 1e-5}, gamma=gamma, beta=np.zeros(8)),
        *(dense(rng, name, "norm", t, 8) for name in "qkv"),
        node("mix", "attention", ["q", "k", "v"], t, {"scale": 8**-0.5}),
        dense(rng, "proj", "mix", t, 8),
        node("stream", "add", ["tokens", "proj"], t),
        node(
            "pool", "reduce", ["stream"], (1, 8), {"kind": "mean", "axes": (1,), "keepdims": False}
        ),
        dense(rng, "head", "pool", (1, 5), 8),
    ]
    nodes[1].params["weight"][3] *= 8
    return Graph(nodes, ["head"])


def _flat(source, shape):
    from hyq_tvm.quantization.view import View

    return View.identity(source).reshape(shape)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(4).normal(size=(24, 4, 4, 8)).astype(np.float32)


def plan_of(graph, images, **config):
    return make_plan(graph, [images], QuantConfig(**{**SMALL, **config}))


def quality(graph, plan, images):
    program = lower(graph, plan)
    got = np.concatenate([program.run(x[None])[0] for x in images])
    want = np.concatenate([float_values(graph, x[None])["head"] for x in images])
    return sqnr(want, got)


@pytest.mark.parametrize("scaling", [None, "smoothquant", "qads_paper", "qads"])
def test_every_scaling_gives_a_program_close_to_float(hybrid, images, scaling):
    plan = plan_of(hybrid, images, scaling=scaling)
    assert quality(hybrid, plan, images[:6]) > 25
    scaled = [name for name, layer in plan.layers.items() if layer.alpha]
    if scaling is None:
        assert scaled == []
    if scaling == "qads_paper":
        assert set(scaled) <= {"expand", "project"}


def test_scaling_wins_at_few_bits(hybrid, images):
    plain = plan_of(hybrid, images, scaling=None, activation_bits=4)
    learned = plan_of(hybrid, images, scaling="qads", activation_bits=4)
    assert quality(hybrid, learned, images[:6]) > quality(hybrid, plain, images[:6])


def test_the_plan_does_not_depend_on_the_batches(hybrid, images):
    config = QuantConfig(**SMALL)
    whole = make_plan(hybrid, [images], config)
    pieces = make_plan(hybrid, iter([images[:1], images[1:11], images[11:]]), config)
    assert whole.to_json() == pieces.to_json()


def test_batches_of_1_and_of_32_give_the_same_plan(hybrid):
    rng = np.random.default_rng(8)
    images = rng.normal(size=(40, 4, 4, 8)).astype(np.float32)
    config = QuantConfig(**SMALL)
    one, many = (
        make_plan(hybrid, (images[i : i + n] for i in range(0, 40, n)), config) for n in (1, 32)
    )
    assert one.to_json() == many.to_json()


def test_plans_survive_the_round_trip(hybrid, images, tmp_path):
    plan = plan_of(hybrid, images)
    plan.save(tmp_path / "plan.json")
    assert QuantPlan.load(tmp_path / "plan.json") == plan
    assert list(tmp_path.iterdir()) == [tmp_path / "plan.json"]


def test_streams_that_norms_read_are_wide_and_share_a_scale(hybrid, images):
    plan = plan_of(hybrid, images)
    scales = {plan.tensors[name + WIDE].scale for name in ("sum", "tokens", "stream")}
    assert len(scales) == 1
    assert plan.tensors["q"].symmetric


def test_the_simulation_predicts_the_integers(hybrid, images):
    plan = plan_of(hybrid, images)
    integer = lower(hybrid, plan).run(images[:1])[0]
    simulated = simulate(hybrid, plan, images[:1])[0].numpy()
    assert sqnr(simulated, integer) > 30


@pytest.mark.parametrize("kind", ["linear_pot", "linear", "table", "poly2", "hyq"])
def test_every_softmax_kind_is_planned(hybrid, images, kind):
    plan = plan_of(hybrid, images, softmax=kind, scaling=None)
    assert plan.layers["mix"].softmax == kind
    assert quality(hybrid, plan, images[:3]) > (8 if kind == "hyq" else 20)


@pytest.mark.parametrize("kind", ["table", "hyq"])
def test_another_softmax_on_the_same_grids(hybrid, images, kind):
    config = QuantConfig(**SMALL, scaling=None)
    statistics = calibrate(hybrid, [images], config)
    plan = plan_from_statistics(hybrid, statistics, config)
    found = with_softmax(hybrid, statistics, plan, kind)
    planned = plan_of(hybrid, images, softmax=kind, scaling=None)
    assert (found.config, found.tensors) == (planned.config, planned.tensors)
    assert found.layers["mix"] == planned.layers["mix"]
    assert found.notes["softmax_max_dp"] == planned.notes["softmax_max_dp"]
    assert {n: v for n, v in found.layers.items() if n != "mix"} == {
        n: v for n, v in plan.layers.items() if n != "mix"
    }


def test_overrides_are_honoured(hybrid, images):
    chosen = {"expand": {"exclude": True}, "act2": {"bits": 6}, "mix": {"softmax_weight_bits": 16}}
    plan = plan_of(hybrid, images, overrides=chosen, scaling=None)
    assert plan.layers["expand"].exclude
    assert plan.tensors["act2"].bits == 6
    assert plan.layers["mix"].softmax_weight_bits == 16


def test_uniform_widths_leave_nothing_but_logits_and_output_wider(hybrid, images):
    plan = plan_of(hybrid, images, activation_bits=6, widths="uniform", scaling=None)
    narrow = [t.bits for name, t in plan.tensors.items() if not name.endswith(WIDE)]
    assert set(narrow) == {6}
    assert plan.layers["mix"].softmax_weight_bits == 8
    mixed = plan_of(hybrid, images, activation_bits=6, scaling=None)
    assert mixed.tensors[hybrid.inputs[0].name].bits == 8
    assert quality(hybrid, mixed, images[:3]) > quality(hybrid, plan, images[:3])
    integer = lower(hybrid, plan).run(images[:1])[0]
    assert sqnr(simulate(hybrid, plan, images[:1])[0].numpy(), integer) > 20


def test_plans_note_what_they_expect(hybrid, images):
    plan = plan_of(hybrid, images)
    assert abs(plan.notes["predicted_sqnr_db"] - quality(hybrid, plan, images)) < 4
    assert 0.001 < plan.notes["softmax_max_dp"]["mix"] < 0.025
    fewer = plan_of(hybrid, images, activation_bits=6)
    assert fewer.notes["predicted_sqnr_db"] < plan.notes["predicted_sqnr_db"] - 6


def test_unknown_overrides_come_with_close_names(hybrid, images):
    with pytest.raises(ConfigError, match=r"'expandd'.*expand"):
        plan_of(hybrid, images, overrides={"expandd": {"exclude": True}})


def test_bad_calibration_data_is_named(hybrid, images):
    broken = images.copy()
    broken[3, 0, 0, 0] = np.nan
    cases = {
        "empty": [],
        "NaN or infinity": [broken],
        "dtype float64": [images.astype(np.float64)],
        r"shape \(24, 4, 8\)": [images[:, 0]],
        "iterable": 3,
    }
    for message, batches in cases.items():
        with pytest.raises(CalibrationError, match=message):
            make_plan(hybrid, batches, QuantConfig(**SMALL))


def test_damaged_plans_are_refused(hybrid, images):
    text = plan_of(hybrid, images, scaling=None).to_json()
    for damage in (text[:-20], text.replace('"version": 1', '"version": 9'), "[]", "{}"):
        with pytest.raises(PlanError):
            QuantPlan.from_json(damage)
