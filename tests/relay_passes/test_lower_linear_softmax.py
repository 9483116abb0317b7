"""LowerLinearSoftmax: a float module with integer softmax, close to the exact one."""

import numpy as np
import pytest
import tvm
from tvm import relax, te, tirx

from hyq_tvm.errors import ConfigError
from hyq_tvm.numerics import OPERATORS
from relay_passes import LowerLinearSoftmax
from relay_passes.lower_linear_softmax import KINDS, float_softmax

RNG = np.random.default_rng(11)


def build(body, *shapes):
    builder = relax.BlockBuilder()
    variables = [
        relax.Var(f"x{i}", relax.TensorType(shape, "float32")) for i, shape in enumerate(shapes)
    ]
    with builder.function("main", variables):
        with builder.dataflow():
            result = builder.emit_output(body(*variables))
        builder.emit_func_output(result)
    return builder.finalize()


def run(mod, *arrays):
    machine = relax.VirtualMachine(tvm.compile(mod, target="llvm"), tvm.cpu())
    return machine["main"](*(tvm.runtime.tensor(a) for a in arrays)).numpy()


def exact(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def test_last_axis_becomes_one_call_to_the_integer_softmax():
    before = build(lambda x: relax.op.nn.softmax(x, axis=-1), (3, 17))
    after = LowerLinearSoftmax()(before)
    builder = relax.BlockBuilder()
    x = relax.Var("x0", relax.TensorType((3, 17), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            call = builder.call_te(
                float_softmax, x, "linear_pot", primfunc_name_hint="linear_softmax"
            )
            result = builder.emit_output(call)
        builder.emit_func_output(result)
    tvm.ir.assert_structural_equal(after, builder.finalize())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axis", [-1, 1])
def test_probabilities_are_close(kind, axis):
    x = (4 * RNG.normal(size=(2, 9, 33))).astype(np.float32)
    mod = LowerLinearSoftmax(kind)(build(lambda v: relax.op.nn.softmax(v, axis=axis), x.shape))
    got = run(mod, x)
    assert np.abs(got - exact(x, axis)).max() <= 0.025
    np.testing.assert_allclose(got.sum(axis=axis), 1, atol=2e-3)


def test_minus_infinity_is_a_mask():
    x = RNG.normal(size=(2, 8)).astype(np.float32)
    x[:, 5:] = -np.inf
    got = run(LowerLinearSoftmax()(build(lambda v: relax.op.nn.softmax(v, axis=-1), x.shape)), x)
    np.testing.assert_array_equal(got[:, 5:], 0)
    assert np.abs(got - exact(x)).max() <= 0.025


def test_attention_keeps_its_meaning():
    q, k, v = RNG.normal(size=(3, 2, 10, 4, 8)).astype(np.float32)
    before = build(relax.op.nn.attention, q.shape, k.shape, v.shape)
    after = LowerLinearSoftmax()(before)
    assert "nn.attention" not in after.script()
    logits = np.einsum("bnhd,bmhd->bhnm", q, k) / np.sqrt(8)
    want = np.einsum("bhnm,bmhd->bnhd", exact(logits), v)
    assert np.abs(run(after, q, k, v) - want).max() < 0.1


@pytest.mark.parametrize("options", [{}, {"scale": 0.3}, {"window_size": -1}])
@pytest.mark.parametrize("biased", [False, True])
def test_attention_is_exactly_these_operators(options, biased):
    shapes = [(2, 10, 4, 8), (2, 12, 4, 8), (2, 12, 4, 6), (2, 4, 10, 12)]
    shapes = shapes if biased else shapes[:3]
    before = build(lambda *x: relax.op.nn.attention(*x, **options), *shapes)
    after = LowerLinearSoftmax("table")(before)
    scale = options.get("scale", 1 / np.sqrt(8))

    def write(emit, te, q, k, v, *bias):
        q, k, v = (emit(relax.op.permute_dims(a, [0, 2, 1, 3])) for a in (q, k, v))
        logits = emit(relax.op.matmul(q, emit(relax.op.permute_dims(k, [0, 1, 3, 2]))))
        logits = emit(relax.op.multiply(logits, relax.const(scale, "float32")))
        for added in bias:
            logits = emit(relax.op.add(logits, added))
        weighted = emit(relax.op.matmul(emit(te(logits, "table")), v))
        return relax.op.permute_dims(weighted, [0, 2, 1, 3])

    tvm.ir.assert_structural_equal(after, written(write, *shapes))


def written(write, *shapes):
    """The module that ``write(emit, te, *inputs)`` makes; ``te`` calls the integer softmax."""
    builder = relax.BlockBuilder()
    inputs = [relax.Var(f"x{i}", relax.TensorType(s, "float32")) for i, s in enumerate(shapes)]

    def te_call(x, kind):
        return builder.call_te(float_softmax, x, kind, primfunc_name_hint="linear_softmax")

    with builder.function("main", inputs):
        with builder.dataflow():
            result = builder.emit_output(write(builder.emit, te_call, *inputs))
        builder.emit_func_output(result)
    return builder.finalize()


def test_an_inner_axis_is_moved_behind_and_back():
    after = LowerLinearSoftmax()(build(lambda v: relax.op.nn.softmax(v, axis=1), (2, 9, 3, 4)))

    def write(emit, te, x):
        moved = emit(relax.op.permute_dims(x, [0, 2, 3, 1]))
        return relax.op.permute_dims(emit(te(moved, "linear_pot")), [0, 3, 1, 2])

    tvm.ir.assert_structural_equal(after, written(write, (2, 9, 3, 4)))


def test_a_dynamic_axis_is_left_alone():
    n = tirx.Var("n", "int64")
    mod = build(lambda v: relax.op.nn.softmax(v, axis=-1), (3, n))
    tvm.ir.assert_structural_equal(LowerLinearSoftmax()(mod), mod)
    mod = build(lambda v: relax.op.nn.softmax(v, axis=-1), (n, 3))
    assert "linear_softmax" in LowerLinearSoftmax()(mod).script()


@pytest.mark.parametrize("window", [0, 3])
def test_attention_with_a_window_is_left_alone(window):
    shape = (2, 10, 4, 8)
    mod = build(lambda *x: relax.op.nn.attention(*x, window_size=window), shape, shape, shape)
    tvm.ir.assert_structural_equal(LowerLinearSoftmax()(mod), mod)


def test_numbers_are_those_of_the_integer_softmax():
    """Logits in steps of ln2/256 as far as 2**30 of them, probabilities in 15 bits."""
    x = (6 * RNG.normal(size=(3, 17))).astype(np.float32)
    x[0, :2], x[1, 3] = (1e30, -1e30), -np.inf
    for kind in KINDS:
        got = run(LowerLinearSoftmax(kind)(build(lambda v: relax.op.nn.softmax(v), x.shape)), x)
        steps = np.float32(x) * np.float32(256 / np.log(2))
        logits = np.clip(np.rint(steps), -(2.0**30), 2.0**30).astype(np.int32)
        weights = OPERATORS["softmax"](
            logits,
            kind=kind,
            output="grid",
            fraction_bits=8,
            rescale_multiplier=32767 << 8,
            rescale_shift=8,
            high=32767,
            dtype="int16",
        )
        np.testing.assert_array_equal(got, weights.astype(np.float32) * np.float32(1 / 32767))


def test_causal_attention_and_unrelated_functions_are_left_alone():
    shape = (2, 10, 4, 8)
    causal = build(
        lambda q, k, v: relax.op.nn.attention(q, k, v, causal_mask="TopLeft"), shape, shape, shape
    )
    tvm.ir.assert_structural_equal(LowerLinearSoftmax()(causal), causal)
    other = build(relax.op.nn.relu, (3, 4))
    tvm.ir.assert_structural_equal(LowerLinearSoftmax()(other), other)


def test_te_function_is_usable_alone():
    x = te.placeholder((4, 5), "float32", name="x")
    function = te.create_prim_func([x, float_softmax(x)])
    built = tvm.compile(tvm.IRModule({"main": function}), target="llvm")
    values = RNG.normal(size=(4, 5)).astype(np.float32)
    out = tvm.runtime.tensor(np.zeros((4, 5), np.float32))
    built["main"](tvm.runtime.tensor(values), out)
    assert np.abs(out.numpy() - exact(values)).max() <= 0.025


def test_unknown_kinds_are_refused():
    with pytest.raises(ConfigError, match="softmax kind 'cubic'"):
        LowerLinearSoftmax("cubic")
