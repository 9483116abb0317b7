"""ApplyDistributionScaling: where the factor goes, and that the function stays what it was."""

import numpy as np
import pytest
import tvm
from tvm import relax

from hyq_tvm.errors import ConfigError
from relay_passes import ApplyDistributionScaling

ALPHA = np.array([1.0, 2.0, 0.5, 4.0], np.float32)
RNG = np.random.default_rng(5)
W1 = RNG.normal(size=(4, 3, 1, 1)).astype(np.float32)
B1 = RNG.normal(size=(1, 4, 1, 1)).astype(np.float32)
W2 = RNG.normal(size=(5, 4, 3, 3)).astype(np.float32)
GAMMA, BETA = RNG.normal(size=(2, 4)).astype(np.float32)
DENSE = RNG.normal(size=(4, 6)).astype(np.float32)
SHAPE = (2, 3, 5, 5)


def build(body, shape=SHAPE):
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(body(builder, x))
        builder.emit_func_output(result)
    return builder.finalize()


def convs(activation=None, w1=W1, b1=B1, w2=W2, factor=None):
    def body(builder, x):
        a = builder.emit(relax.op.nn.conv2d(x, relax.const(w1)), "first")
        a = builder.emit(relax.op.add(a, relax.const(b1)))
        if activation is not None:
            a = builder.emit(activation(a))
        if factor is not None:
            a = builder.emit(relax.op.multiply(a, relax.const(factor)))
        return builder.emit(relax.op.nn.conv2d(a, relax.const(w2), padding=1), "second")

    return build(body)


def norm_then_dense(gamma=GAMMA, beta=BETA, weight=DENSE):
    def body(builder, x):
        norm = relax.op.nn.layer_norm(x, relax.const(gamma), relax.const(beta), axes=[-1])
        return builder.emit(relax.op.matmul(builder.emit(norm), relax.const(weight)), "head")

    return build(body, (2, 7, 4))


def run(mod, x):
    machine = relax.VirtualMachine(tvm.compile(mod, target="llvm"), tvm.cpu())
    return machine["main"](tvm.runtime.tensor(x)).numpy()


def test_a_linear_producer_absorbs_the_factor():
    after = ApplyDistributionScaling({"second": ALPHA})(convs())
    column = ALPHA.reshape(1, 4, 1, 1)
    inverse = (1 / ALPHA).astype(np.float32)
    expected = convs(
        w1=W1 * inverse.reshape(4, 1, 1, 1),
        b1=B1 * inverse.reshape(1, 4, 1, 1),
        w2=W2 * column,
    )
    tvm.ir.assert_structural_equal(after, expected)


def test_an_activation_in_between_costs_one_multiply():
    after = ApplyDistributionScaling({"second": ALPHA})(convs(relax.op.nn.silu))
    column = ALPHA.reshape(1, 4, 1, 1)
    expected = convs(relax.op.nn.silu, w2=W2 * column, factor=1 / column)
    tvm.ir.assert_structural_equal(after, expected)


def test_layer_norm_absorbs_the_factor():
    after = ApplyDistributionScaling({"head": ALPHA})(norm_then_dense())
    inverse = (1 / ALPHA).astype(np.float32)
    expected = norm_then_dense(GAMMA * inverse, BETA * inverse, DENSE * ALPHA[:, None])
    tvm.ir.assert_structural_equal(after, expected)


def test_depthwise_weights_take_the_factor_on_their_channel():
    weight = RNG.normal(size=(3, 1, 3, 3)).astype(np.float32)

    def body(builder, x):
        call = relax.op.nn.conv2d(x, relax.const(weight), padding=1, groups=3)
        return builder.emit(call, "depthwise")

    before = build(body)
    after = ApplyDistributionScaling({"depthwise": ALPHA[:3]})(before)
    x = RNG.normal(size=SHAPE).astype(np.float32)
    np.testing.assert_allclose(run(after, x), run(before, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", [None, relax.op.nn.silu])
def test_the_function_does_not_change(activation):
    before = convs(activation)
    after = ApplyDistributionScaling({"second": ALPHA})(before)
    x = RNG.normal(size=SHAPE).astype(np.float32)
    np.testing.assert_allclose(run(after, x), run(before, x), rtol=1e-4, atol=1e-4)


def test_unrelated_modules_are_left_alone():
    before = convs()
    tvm.ir.assert_structural_equal(ApplyDistributionScaling({})(before), before)


@pytest.mark.parametrize(
    ("alphas", "message"),
    [
        ({"nothing": ALPHA}, "no layer 'nothing' to scale; layers: first, second"),
        ({"second": ALPHA[:3]}, "second: 4 input channels, 3 factors"),
        ({"lv": ALPHA}, "lv: only conv2d and matmul"),
    ],
)
def test_what_cannot_be_scaled_is_named(alphas, message):
    with pytest.raises(RuntimeError, match=message):
        ApplyDistributionScaling(alphas)(convs())


def test_factors_must_be_positive():
    with pytest.raises(ConfigError, match="second: scaling factors are finite and positive"):
        ApplyDistributionScaling({"second": -ALPHA})
