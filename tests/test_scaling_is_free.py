"""Distribution scaling changes numbers only: the same kernels, calls and constant sizes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
import tvm
from tvm import relax
from tvm_ffi import structural_hash

import hyq_tvm
import schedules
from hyq_tvm.module_facts import plan_text
from hyq_tvm.quantization.plan import QuantPlan
from hyq_tvm.targets.backend import make_target


class Hybrid(torch.nn.Module):
    """An inverted residual with outlier channels, then a normalised linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 16, 1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(16, 16, 3, padding=1, groups=16),
            torch.nn.ReLU(),
            torch.nn.Conv2d(16, 16, 1),
        )
        self.norm, self.head = torch.nn.LayerNorm(16), torch.nn.Linear(16, 5)
        with torch.no_grad():
            for layer in (self.body[0], self.body[2]):
                layer.weight *= torch.logspace(-1.5, 1, 16).reshape(-1, 1, 1, 1)
            self.norm.weight *= torch.logspace(-1, 1, 16)

    def forward(self, x):
        return self.head(self.norm(self.body(x).flatten(2).transpose(1, 2)))


@pytest.fixture(scope="module")
def modules():
    """The integer module without and with scaling."""
    torch.manual_seed(3)
    images = torch.randn(24, 3, 8, 8).numpy()
    module = hyq_tvm.from_torch(Hybrid().eval(), (torch.zeros(1, 3, 8, 8),))
    return [
        hyq_tvm.quantize(module, images, hyq_tvm.QuantConfig(scaling=scaling, samples=256))
        for scaling in (None, "qads")
    ]


def facts(module):
    """Structures of all kernels, callees in order, and the shapes and dtypes of all constants."""
    target = make_target({"kind": "llvm", "mcpu": "znver4"})
    with target:
        done = schedules.apply(relax.transform.LegalizeOps()(module), target)
    kernels = Counter(
        structural_hash(function.without_attr("global_symbol"))
        for function in done.functions.values()
        if isinstance(function, tvm.tirx.PrimFunc)
    )
    calls, constants = [], Counter()

    def visit(expression):
        if isinstance(expression, relax.Call) and expression.op == tvm.ir.Op.get("relax.call_tir"):
            calls.append(structural_hash(done[expression.args[0]].without_attr("global_symbol")))
        if isinstance(expression, tvm.ir.GenericConst):
            value = expression.value.numpy()
            constants[value.shape, str(value.dtype)] += 1

    relax.analysis.post_order_visit(done["main"], visit)
    return kernels, calls, constants


def test_scales_differ_and_nothing_else(modules):
    plain, scaled = (QuantPlan.from_json(plan_text(module)) for module in modules)
    assert not any(layer.alpha for layer in plain.layers.values())
    spread = [
        max(layer.alpha) / min(layer.alpha) for layer in scaled.layers.values() if layer.alpha
    ]
    assert len(spread) >= 3
    assert max(spread) > 4
    assert {layer.alpha_cost for layer in scaled.layers.values() if layer.alpha} == {"free"}
    before, after = (facts(module) for module in modules)
    assert len(before[1]) >= 5
    assert sum(before[2].values()) >= 10
    assert before == after


def test_scaling_pays_here(modules):
    """The comparison means something: with these weights the factors matter."""
    noise = [QuantPlan.from_json(plan_text(m)).notes["predicted_sqnr_db"] for m in modules]
    assert noise[1] > noise[0] + 3
    assert np.isfinite(noise).all()
