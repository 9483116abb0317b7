"""A wanted accuracy decides what gets more bits."""

import numpy as np
import pytest
import torch

import hyq_tvm
from hyq_tvm.errors import ConfigError
from hyq_tvm.module_facts import plan_text
from hyq_tvm.quantization.plan import WIDE, QuantPlan, TensorPlan
from hyq_tvm.quantization.raises import finer, possible_raises
from hyq_tvm.quantization.target_drop import KEPT, plan_for_drop
from relay_passes.extract_graph import extract_graph

SIZE = 8


class Small(torch.nn.Module):
    """Convolution, a residual, an activation, attention and a head: something of every kind."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.stem = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.mix = torch.nn.Conv2d(8, 8, 1)
        self.qkv = torch.nn.Linear(8, 24)
        self.head = torch.nn.Linear(8, 6)

    def forward(self, x):
        y = torch.nn.functional.silu(self.stem(x))
        y = y + self.mix(y)
        q, k, v = self.qkv(y.flatten(2).transpose(1, 2)).unsqueeze(1).chunk(3, dim=-1)
        z = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.head(z.mean((1, 2))) * 100


@pytest.fixture(scope="module")
def module():
    return hyq_tvm.from_torch(Small().eval(), (torch.zeros(1, 3, SIZE, SIZE),))


@pytest.fixture(scope="module")
def images():
    """Noise in a colour of each picture's own, so that answers differ."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(KEPT + 8, 3, SIZE, SIZE))
    return (noise + 2 * rng.normal(size=(KEPT + 8, 3, 1, 1))).astype(np.float32)


COARSE = hyq_tvm.QuantConfig(
    activation_bits=4,
    weight_bits=4,
    residual_bits=8,
    table_bits=8,
    softmax_weight_bits=8,
    scaling=None,
)


def test_a_target_raises_bits_until_it_holds_and_says_why(module, images):
    quantized = hyq_tvm.quantize(module, images, COARSE, target_drop=0.5, progress=False)
    plan = QuantPlan.from_json(plan_text(quantized))
    note = plan.notes["target_drop"]
    assert note["before_raising"]["drop"] > 0.5 >= note["expected_points"]
    assert note["raised"]
    for entry in note["raised"]:
        assert entry["name"] in plan.config.overrides
        assert entry["noise_share"] > 0
        assert entry["cost_bytes"] > 0
    assert note["cost_bytes"] == sum(entry["cost_bytes"] for entry in note["raised"])
    untouched = [r.name for r in possible_raises(extract_graph(module), plan)]
    assert untouched, "raising everything is no search"
    assert hyq_tvm.compile(quantized).metadata.integer_only


def test_a_plan_that_is_good_enough_stays(module, images):
    graph = extract_graph(module)
    plan = plan_for_drop(graph, [images], hyq_tvm.QuantConfig(), 50.0)
    assert plan.notes["target_drop"]["raised"] == []
    assert plan.config == hyq_tvm.QuantConfig()


def test_images_come_in_any_batches(module, images):
    graph = extract_graph(module)
    whole = plan_for_drop(graph, [images], COARSE, 5.0)
    parts = plan_for_drop(graph, iter(np.array_split(images, 7)), COARSE, 5.0)
    assert whole.to_json() == parts.to_json()


def test_what_cannot_be_reached_is_said(module, images, monkeypatch):
    monkeypatch.setattr("hyq_tvm.quantization.target_drop.possible_raises", lambda *_: [])
    graph = extract_graph(module)
    with pytest.warns(UserWarning, match=r"expected drop is .* nothing more can be raised"):
        plan = plan_for_drop(graph, [images], COARSE, 1e-9)
    assert plan.notes["target_drop"]["expected_points"] > 0


@pytest.mark.parametrize("target", [0, -1, 100, float("nan")])
def test_targets_are_checked(module, images, target):
    with pytest.raises(ConfigError, match="points of top-1"):
        plan_for_drop(extract_graph(module), [images], COARSE, target)


def test_a_plan_and_a_target_exclude_each_other(module):
    with pytest.raises(ConfigError, match="target_drop="):
        hyq_tvm.quantize(module, plan="plan.json", target_drop=1)


def test_every_kind_can_be_raised(module, images):
    graph = extract_graph(module)
    plan = plan_for_drop(graph, [images], COARSE, 99.0)
    found = {r.change: r for r in possible_raises(graph, plan)}
    for change in ("4 to 8 bits", "8 to 12 bits", "weights 4 to 8 bits"):
        assert change in found
    assert any(change.startswith("softmax weights") for change in found)
    for candidate in found.values():
        tried = candidate.apply(plan)
        assert tried != plan
        changed = {n for n in tried.tensors if tried.tensors[n] != plan.tensors.get(n)}
        assert changed == set(candidate.tensors)
        assert all(n.removesuffix(WIDE) in graph for n in changed)


@pytest.mark.parametrize("bits", [6, 8, 12])
@pytest.mark.parametrize(
    ("zero_point", "symmetric"), [(-8, False), (-3, False), (7, False), (0, True)]
)
def test_finer_keeps_the_range(bits, zero_point, symmetric):
    grid = TensorPlan((0.5, 2.0), zero_point, 4, symmetric, "minmax", -1.0, 1.0)
    found = finer(grid, bits)
    for old, new in zip(grid.scale, found.scale, strict=True):
        low, high = old * (grid.qmin - grid.zero_point), old * (grid.qmax - grid.zero_point)
        assert new * (found.qmin - found.zero_point) == pytest.approx(low, abs=new)
        assert new * (found.qmax - found.zero_point) == pytest.approx(high, abs=new)
