"""Layers and factors that ApplyDistributionScaling refuses, by name."""

import numpy as np
import pytest
from tvm import relax

from hyq_tvm.errors import ConfigError
from relay_passes import ApplyDistributionScaling
from tests.relay_passes.scaled_modules import ALPHA, build

RNG = np.random.default_rng(6)
DENSE = RNG.normal(size=(4, 6)).astype(np.float32)


@pytest.mark.parametrize("outputs", [2, 4, 8])
def test_grouped_convolutions_are_refused(outputs):
    weight = relax.const(RNG.normal(size=(outputs, 2, 3, 3)).astype(np.float32))
    mod = build(
        lambda b, x: b.emit(relax.op.nn.conv2d(x, weight, groups=2), "grouped"), (2, 4, 5, 5)
    )
    with pytest.raises(RuntimeError, match="grouped: grouped convolutions cannot be scaled"):
        ApplyDistributionScaling({"grouped": ALPHA[:2]})(mod)


def test_several_outputs_each_of_a_channel_are_grouped_too():
    weight = relax.const(RNG.normal(size=(6, 1, 3, 3)).astype(np.float32))
    mod = build(
        lambda b, x: b.emit(relax.op.nn.conv2d(x, weight, groups=3), "grouped"), (2, 3, 5, 5)
    )
    with pytest.raises(RuntimeError, match="grouped: grouped convolutions cannot be scaled"):
        ApplyDistributionScaling({"grouped": ALPHA[:3]})(mod)


@pytest.mark.parametrize("shape", [(2, 4, 6), (4,)])
def test_weights_that_are_no_matrix_are_refused(shape):
    weight = relax.const(np.ones(shape, np.float32))
    mod = build(lambda b, x: b.emit(relax.op.matmul(x, weight), "head"), (2, 7, 4))
    with pytest.raises(RuntimeError, match="head: only conv2d and matmul with constant weights"):
        ApplyDistributionScaling({"head": ALPHA})(mod)


def test_weights_that_are_computed_are_refused():
    def body(builder, x):
        w = builder.emit(relax.op.exp(relax.const(DENSE)), "w")
        return builder.emit(relax.op.matmul(x, w), "head")

    with pytest.raises(RuntimeError, match=r"no layer 'nothing' to scale; layers: $"):
        ApplyDistributionScaling({"nothing": ALPHA})(build(body, (2, 7, 4)))
    with pytest.raises(RuntimeError, match="head: only conv2d and matmul with constant weights"):
        ApplyDistributionScaling({"head": ALPHA})(build(body, (2, 7, 4)))


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.inf, np.nan])
def test_factors_must_be_positive(wrong):
    factors = ALPHA.copy()
    factors[2] = wrong
    with pytest.raises(ConfigError, match="second: scaling factors are finite and positive"):
        ApplyDistributionScaling({"second": factors})
