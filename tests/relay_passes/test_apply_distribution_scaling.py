"""ApplyDistributionScaling: where the factor goes, and that the function stays what it was."""

import numpy as np
import pytest
import tvm
from tvm import relax

from relay_passes import ApplyDistributionScaling
from tests.relay_passes.scaled_modules import ALPHA, SHAPE, build

RNG = np.random.default_rng(5)
W1 = RNG.normal(size=(4, 3, 1, 1)).astype(np.float32)
B1 = RNG.normal(size=(1, 4, 1, 1)).astype(np.float32)
W2 = RNG.normal(size=(5, 4, 3, 3)).astype(np.float32)
GAMMA, BETA = RNG.normal(size=(2, 4)).astype(np.float32)
DENSE = RNG.normal(size=(4, 6)).astype(np.float32)


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


def norm_then_dense(gamma=GAMMA, beta=BETA, weight=DENSE, axes=(-1,)):
    def body(builder, x):
        norm = relax.op.nn.layer_norm(x, relax.const(gamma), relax.const(beta), axes=list(axes))
        return builder.emit(relax.op.matmul(builder.emit(norm), relax.const(weight)), "head")

    return build(body, (2, 7, 4))


def before_head(make, weight=DENSE, shape=(2, 7, 4), factor=None):
    """``make(builder, x)`` and behind it the layer that is scaled; perhaps a factor between."""

    def body(builder, x):
        a = make(builder, x)
        if factor is not None:
            a = builder.emit(relax.op.multiply(a, relax.const(factor)))
        return builder.emit(relax.op.matmul(a, relax.const(weight)), "head")

    return build(body, shape)


def assert_multiplied(make, shape=(2, 7, 4), rank=3):
    """``make`` absorbs nothing: one multiply stands before the layer."""
    after = ApplyDistributionScaling({"head": ALPHA})(before_head(make, shape=shape))
    inverse = (1 / ALPHA).reshape(*(1,) * (rank - 1), 4)
    expected = before_head(make, DENSE * ALPHA[:, None], shape, inverse)
    tvm.ir.assert_structural_equal(after, expected)


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


@pytest.mark.parametrize("axes", [(-1,), (2,)])
def test_layer_norm_absorbs_the_factor(axes):
    after = ApplyDistributionScaling({"head": ALPHA})(norm_then_dense(axes=axes))
    inverse = (1 / ALPHA).astype(np.float32)
    expected = norm_then_dense(GAMMA * inverse, BETA * inverse, DENSE * ALPHA[:, None], axes)
    tvm.ir.assert_structural_equal(after, expected)


INNER = RNG.normal(size=(4, 4)).astype(np.float32)


def dense(weight=INNER, bias=None):
    """A matmul, perhaps with a sum behind it, as ``before_head`` takes it."""

    def make(builder, x):
        a = builder.emit(relax.op.matmul(x, relax.const(weight)))
        return a if bias is None else builder.emit(relax.op.add(a, relax.const(bias)))

    return make


@pytest.mark.parametrize("bias", [None, (4,), (7, 4), (4, 4), (2, 1, 4)])
def test_a_matmul_absorbs_the_factor_on_its_last_axis(bias):
    """Also where another axis of what is added is as long."""
    shape = (2, 4, 4) if bias == (4, 4) else (2, 7, 4)
    inverse = (1 / ALPHA).astype(np.float32)
    offset = None if bias is None else RNG.normal(size=bias).astype(np.float32)
    after = ApplyDistributionScaling({"head": ALPHA})(
        before_head(dense(INNER, offset), DENSE, shape)
    )
    scaled = dense(INNER * inverse, None if bias is None else offset * inverse)
    expected = before_head(scaled, DENSE * ALPHA[:, None], shape)
    tvm.ir.assert_structural_equal(after, expected)


def test_sums_in_a_row_absorb_the_factor():
    def make(builder, x, factor=1):
        a = dense(INNER * factor, GAMMA * factor)(builder, x)
        return builder.emit(relax.op.add(a, relax.const(BETA * factor)))

    after = ApplyDistributionScaling({"head": ALPHA})(before_head(make))
    inverse = (1 / ALPHA).astype(np.float32)
    expected = before_head(lambda b, x: make(b, x, inverse), DENSE * ALPHA[:, None])
    tvm.ir.assert_structural_equal(after, expected)


@pytest.mark.parametrize("bias", [np.float32(0.5), np.ones((7, 1), np.float32), np.ones((1,))])
def test_sums_without_channels_absorb_nothing(bias):
    assert_multiplied(dense(bias=np.asarray(bias, np.float32)))


@pytest.mark.parametrize("shape", [(2, 7, 4), (7, 4)])
def test_inputs_absorb_nothing(shape):
    assert_multiplied(lambda builder, x: x, shape, len(shape))


def sum_behind_an_activation(builder, x):
    return builder.emit(relax.op.add(builder.emit(relax.op.nn.relu(x)), relax.const(GAMMA)))


def sum_of_two(builder, x):
    return builder.emit(relax.op.add(x, builder.emit(relax.op.nn.relu(x))))


def norm(gamma, beta, axes):
    def make(builder, x):
        weights = [
            relax.const(RNG.normal(size=w).astype(np.float32)) if isinstance(w, tuple) else w(x)
            for w in (gamma, beta)
        ]
        return builder.emit(relax.op.nn.layer_norm(x, *weights, axes=axes))

    state = RNG.bit_generator.state

    def same_numbers(builder, x):
        RNG.bit_generator.state = state
        return make(builder, x)

    return same_numbers


def computed(x):
    return relax.op.mean(x, [0, 1])


@pytest.mark.parametrize(
    "make",
    [
        sum_behind_an_activation,
        sum_of_two,
        norm(computed, (4,), [-1]),
        norm((4,), computed, [-1]),
        norm((7, 4), (7, 4), [-2, -1]),
    ],
)
def test_what_is_not_linear_absorbs_nothing(make):
    assert_multiplied(make)


def test_a_norm_over_another_axis_absorbs_nothing():
    assert_multiplied(norm((4,), (4,), [1]), (2, 4, 4))


def test_a_convolution_before_a_matmul_absorbs_nothing():
    """Its channels are not on the axis that the matmul reads."""
    weight = RNG.normal(size=(4, 3, 1, 1)).astype(np.float32)

    def make(builder, x):
        return builder.emit(relax.op.nn.conv2d(x, relax.const(weight)))

    assert_multiplied(make, (2, 3, 5, 4), 4)


def conv_head(make, weight=W2, factor=None):
    def body(builder, x):
        a = make(builder, x)
        if factor is not None:
            a = builder.emit(relax.op.multiply(a, relax.const(factor)))
        return builder.emit(relax.op.nn.conv2d(a, relax.const(weight), padding=1), "second")

    return build(body, (2, 4, 4, 4))


@pytest.mark.parametrize("make", [dense(), norm((4,), (4,), [-1])])
def test_a_matmul_or_norm_before_a_convolution_absorbs_nothing(make):
    after = ApplyDistributionScaling({"second": ALPHA})(conv_head(make))
    column = ALPHA.reshape(1, 4, 1, 1)
    tvm.ir.assert_structural_equal(after, conv_head(make, W2 * column, 1 / column))


@pytest.mark.parametrize(("bias", "axis"), [((4, 4, 4), 0), ((4, 1, 1), 0), ((1, 4, 5, 4), 1)])
def test_what_is_added_to_images_is_scaled_on_the_channels(bias, axis):
    shape = (2, 3, 5, 4) if bias[-2] == 5 else (2, 3, 4, 4)
    offset = RNG.normal(size=bias).astype(np.float32)

    def module(w1, added, w2):
        def body(builder, x):
            a = builder.emit(relax.op.nn.conv2d(x, relax.const(w1)))
            a = builder.emit(relax.op.add(a, relax.const(added)))
            return builder.emit(relax.op.nn.conv2d(a, relax.const(w2), padding=1), "second")

        return build(body, shape)

    after = ApplyDistributionScaling({"second": ALPHA})(module(W1, offset, W2))
    inverse = (1 / ALPHA).astype(np.float32)
    place = [1] * len(bias)
    place[axis] = 4
    expected = module(
        W1 * inverse.reshape(4, 1, 1, 1),
        offset * inverse.reshape(place),
        W2 * ALPHA.reshape(1, 4, 1, 1),
    )
    tvm.ir.assert_structural_equal(after, expected)


def test_a_tensor_with_two_readers_absorbs_nothing():
    def module(weight=DENSE, factor=None):
        def body(builder, x):
            a = dense()(builder, x)
            b = a if factor is None else builder.emit(relax.op.multiply(a, relax.const(factor)))
            head = builder.emit(relax.op.matmul(b, relax.const(weight)), "head")
            return builder.emit(relax.Tuple([head, a]))

        return build(body, (2, 7, 4))

    after = ApplyDistributionScaling({"head": ALPHA})(module())
    expected = module(DENSE * ALPHA[:, None], (1 / ALPHA).reshape(1, 1, 4))
    tvm.ir.assert_structural_equal(after, expected)


def depthwise(weight, factor=None):
    channels = weight.shape[0]

    def body(builder, x):
        a = x
        if factor is not None:
            a = builder.emit(relax.op.multiply(a, relax.const(factor)))
        call = relax.op.nn.conv2d(a, relax.const(weight), padding=1, groups=channels)
        return builder.emit(call, "depthwise")

    return build(body, (2, channels, 5, 5))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_depthwise_weights_take_the_factor_on_their_channel(channels):
    weight, alpha = RNG.normal(size=(channels, 1, 3, 3)).astype(np.float32), ALPHA[1 : channels + 1]
    after = ApplyDistributionScaling({"depthwise": alpha})(depthwise(weight))
    scaled = depthwise(weight * alpha.reshape(-1, 1, 1, 1), 1 / alpha.reshape(1, -1, 1, 1))
    tvm.ir.assert_structural_equal(after, scaled)


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
