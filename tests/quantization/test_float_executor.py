"""The float executor: operators against NumPy, taps, memory, errors, gradients."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch

from hyq_tvm.errors import InputError
from hyq_tvm.quantization.float_executor import (
    EVALUATORS,
    UNARY_FUNCTIONS,
    FloatExecutor,
    evaluate_node,
)
from hyq_tvm.quantization.graph import AFFINE, OPS, UNARY, Graph, Node
from hyq_tvm.quantization.sensitivity import WEIGHT, GradientPass
from hyq_tvm.quantization.view import View

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 5, 6, 8)).astype(np.float32)


def node(op, shape, params=None, inputs=1, **attrs):
    params = {k: np.asarray(v, np.float32) for k, v in (params or {}).items()}
    return Node("node", op, ("_",) * inputs, tuple(shape), attrs, params)


def evaluate(node, *arrays):
    return evaluate_node(node, [torch.from_numpy(a) for a in arrays]).numpy()


def windows(x, kernel, strides, padding, fill):
    """Every window of an image as [B, OH, OW, KH, KW, C], padded with ``fill``."""
    top, left, bottom, right = padding
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(x, kernel, (1, 2))
    return view[:, :: strides[0], :: strides[1]].transpose(0, 1, 2, 4, 5, 3)


@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 2, 3)])
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_conv2d(padding, groups):
    weight, bias = RNG.normal(size=(16, 3, 2, 8 // groups)), RNG.normal(size=16)
    cut = windows(X, (3, 2), (2, 1), padding, 0.0)
    outs = [
        np.einsum("bhwklc,oklc->bhwo", part, block)
        for part, block in zip(np.split(cut, groups, -1), np.split(weight, groups), strict=True)
    ]
    expected = np.concatenate(outs, -1) + bias
    conv = node(
        "conv2d", expected.shape, {"weight": weight, "bias": bias},
        strides=(2, 1), padding=padding, dilation=(1, 1), groups=groups,
    )  # fmt: skip
    np.testing.assert_allclose(evaluate(conv, X), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 0, 1, 2)])
@pytest.mark.parametrize("include", [True, False])
def test_avg_pool2d(padding, include):
    cut = windows(X, (3, 2), (2, 2), padding, 0.0)
    counts = windows(np.ones_like(X), (3, 2), (2, 2), padding, 0.0).sum((3, 4))
    expected = cut.sum((3, 4)) / (6 if include else counts)
    pool = node(
        "avg_pool2d", expected.shape,
        kernel=(3, 2), strides=(2, 2), padding=padding, count_include_pad=include,
    )  # fmt: skip
    np.testing.assert_allclose(evaluate(pool, X), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 0, 2, 2)])
def test_max_pool2d(padding):
    expected = windows(X, (3, 3), (2, 2), padding, -np.inf).max((3, 4))
    pool = node("max_pool2d", expected.shape, kernel=(3, 3), strides=(2, 2), padding=padding)
    np.testing.assert_array_equal(evaluate(pool, X), expected)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_dense_matmul_softmax():
    w, b = RNG.normal(size=(4, 8)), RNG.normal(size=4)
    out = evaluate(node("dense", (2, 5, 6, 4), {"weight": w, "bias": b}), X)
    np.testing.assert_allclose(out, X @ w.T + b, rtol=1e-4, atol=1e-4)
    out = evaluate(node("matmul", (2, 5, 6, 6), inputs=2, scale=0.5), X, X)
    np.testing.assert_allclose(out, 0.5 * X @ X.swapaxes(-1, -2), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(evaluate(node("softmax", X.shape), X), softmax(X), rtol=1e-5)


@pytest.mark.parametrize("biased", [False, True])
def test_attention(biased):
    bias = RNG.normal(size=(5, 6, 6))
    scores = 0.3 * X @ X.swapaxes(-1, -2) + (bias if biased else 0)
    attention = node("attention", X.shape, {"bias": bias} if biased else None, 3, scale=0.3)
    out = evaluate(attention, X, X, X)
    np.testing.assert_allclose(out, softmax(scores) @ X, rtol=1e-4, atol=1e-5)


def normalised(x, axes):
    mean = x.mean(axes, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + 1e-5)


def test_norms():
    params = {"gamma": RNG.normal(size=8), "beta": RNG.normal(size=8)}
    out = evaluate(node("layer_norm", X.shape, params, eps=1e-5), X)
    expected = normalised(X, -1) * params["gamma"] + params["beta"]
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
    out = evaluate(node("group_norm", X.shape, params, groups=4, eps=1e-5), X)
    grouped = normalised(X.reshape(2, 5, 6, 4, 2), (1, 2, 4)).reshape(X.shape)
    expected = grouped * params["gamma"] + params["beta"]
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def test_the_rest():
    column = X[:, :, :1]
    np.testing.assert_array_equal(evaluate(node("add", X.shape, inputs=2), X, column), X + column)
    assert evaluate(node("add", X.shape, {"const": 2.0}), X)[0, 0, 0, 0] == X[0, 0, 0, 0] + 2
    row = RNG.normal(size=8).astype(np.float32)
    out = evaluate(node("multiply", X.shape, {"const": row}), X)
    np.testing.assert_array_equal(out, X * row)
    out = evaluate(node("concat", (2, 5, 6, 16), inputs=2, axis=3), X, X)
    np.testing.assert_array_equal(out, np.concatenate([X, X], 3))
    out = evaluate(node("reduce", (2, 8), kind="mean", axes=(1, 2), keepdims=False), X)
    np.testing.assert_allclose(out, X.mean((1, 2)), rtol=1e-4, atol=1e-6)
    out = evaluate(node("reduce", (2, 1, 6, 8), kind="sum", axes=(1,), keepdims=True), X)
    np.testing.assert_allclose(out, X.sum(1, keepdims=True), rtol=1e-4, atol=1e-5)
    pads = ((0, 0), (1, 0), (0, 2), (3, 0))
    out = evaluate(node("pad", (2, 6, 8, 11), pads=pads, value=0.5), X)
    np.testing.assert_array_equal(out, np.pad(X, pads, constant_values=0.5))


def test_views_of_tensors_that_lie_strided_in_memory():
    swap = View.identity((6, 4)).permute((1, 0))
    x = torch.arange(48.0).reshape(2, 24)[1].reshape(4, 6).T
    out = evaluate_node(node("view", (4, 6), view=swap), [x])
    np.testing.assert_array_equal(out, x.T)


def test_every_operator_and_function_of_the_graph_is_there():
    assert {name.removesuffix(AFFINE) for name in UNARY} <= set(UNARY_FUNCTIONS)
    assert set(EVALUATORS) == OPS - {"input"}
    with pytest.raises(ValueError, match="input"):
        evaluate_node(node("input", (1,)), [])


def small_graph():
    return Graph(
        [
            Node("x", "input", (), (2, 8)),
            Node("k", "constant", (), (2, 8), {}, {"value": np.ones((2, 8), np.float32)}),
            Node("a", "unary", ("x",), (2, 8), {"fn": "relu"}),
            Node("b", "add", ("a", "k"), (2, 8)),
            Node("c", "multiply", ("b", "a"), (2, 8)),
        ],
        ["c", "b"],
    )


def test_outputs_come_in_the_graphs_order():
    x = RNG.normal(size=(2, 8)).astype(np.float32)
    c, b = FloatExecutor(small_graph()).run(x)
    np.testing.assert_array_equal(b, np.maximum(x, 0) + 1)
    np.testing.assert_array_equal(c, (np.maximum(x, 0) + 1) * np.maximum(x, 0))


def test_taps_see_every_tensor_but_constants_in_order():
    seen = {}
    FloatExecutor(small_graph()).run(
        X[0, 0, :2], tap=lambda name, t: seen.update({name: t.clone()})
    )
    assert list(seen) == ["x", "a", "b", "c"]
    np.testing.assert_array_equal(seen["a"], np.maximum(X[0, 0, :2], 0))


def test_tensors_are_freed_after_their_last_reader():
    nodes = [Node("x", "input", (), (4, 4))]
    for i in range(6):
        nodes.append(Node(f"n{i}", "unary", (nodes[-1].name,), (4, 4), {"fn": "exp"}))
    references, alive = {}, []

    def tap(name, tensor):
        references[name] = weakref.ref(tensor)
        gc.collect()
        alive.append(sum(1 for r in references.values() if r() is not None))

    FloatExecutor(Graph(nodes, ["n5"])).run(np.zeros((4, 4), np.float32), tap=tap)
    assert max(alive) <= 3


def test_threads_are_set_for_the_run_only():
    before, during = torch.get_num_threads(), []
    executor = FloatExecutor(small_graph(), threads=1)
    executor.run(X[0, 0, :2], tap=lambda *_: during.append(torch.get_num_threads()))
    assert set(during) == {1}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((np.zeros((3, 8), np.float32),), "expected float32"),
        ((np.zeros((2, 8), np.float64),), "float64"),
        ((), "has 1 inputs, got 0"),
        ((np.zeros((2, 8), np.float32),) * 2, "has 1 inputs, got 2"),
    ],
)
def test_wrong_inputs_are_named(inputs, message):
    with pytest.raises(InputError, match=message):
        FloatExecutor(small_graph()).run(*inputs)


def test_evaluation_is_differentiable_in_inputs_and_weights():
    dense = node("dense", (2, 4), {"weight": RNG.normal(size=(4, 8)), "bias": np.zeros(4)})
    weights = {k: torch.from_numpy(v).requires_grad_() for k, v in dense.params.items()}
    x = torch.from_numpy(X[0, 0, :2]).requires_grad_()
    evaluate_node(dense, [x], weights).square().sum().backward()
    assert x.grad.abs().sum() > 0
    assert weights["weight"].grad.abs().sum() > 0


def test_gradients_of_strided_1x1_convolutions():
    """PyTorch's own crash on a picture's three channels in channels-last order."""
    rng = np.random.default_rng(0)
    x, y = (1, 64, 64, 3), (1, 32, 32, 48)
    attrs = {"strides": (2, 2), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    weight, bias = rng.normal(size=(48, 1, 1, 3)), rng.normal(size=48)
    params = {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}
    nodes = [Node("x", "input", (), x, {}, {}), Node("y", "conv2d", ("x",), y, attrs, params)]
    image, seen = rng.normal(size=x).astype(np.float32), {}
    energy = GradientPass(Graph(nodes, ["y"]), 0).run(
        0, image, lambda name, way, gradient: seen.update({(name, way): gradient.shape})
    )
    want = image[:, ::2, ::2] @ params["weight"][:, 0, 0].T + params["bias"]
    assert energy == pytest.approx(float(np.square(want).sum()), rel=1e-4)
    assert ("y", WEIGHT) in seen
