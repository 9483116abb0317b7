"""Attention, norms and softmax: exact attributes, numbers against NumPy, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from tests.relay_passes.reading.small_modules import (
    assert_computes,
    const,
    nodes,
    one,
    random,
    read,
    refusal,
    x0,
)

R = relax.op


class TestAttention:
    SHAPES = ((2, 5, 3, 4), (2, 6, 3, 4), (2, 6, 3, 7))

    @staticmethod
    def golden(scale, bias=0.0):
        q, k, v = (random(f"x{i}", *s) for i, s in enumerate(TestAttention.SHAPES))
        scores = scale * np.einsum("bnhd,bmhd->bhnm", q, k) + bias
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return np.einsum("bhnm,bmhe->bnhe", weights / weights.sum(-1, keepdims=True), v)

    @pytest.mark.parametrize("scale", [None, 0.3])
    @pytest.mark.parametrize("bias", [None, random("b", 2, 3, 5, 6)])
    def test_is_one_node(self, scale, bias):
        more = () if bias is None else (const(bias),)
        graph = read(lambda q, k, v: R.nn.attention(q, k, v, *more, scale=scale), *self.SHAPES)
        node = one(graph, "attention")
        assert node.name == "y"
        assert node.shape == (2, 3, 5, 7)
        number = 0.5 if scale is None else 0.3
        assert node.attrs == {"scale": pytest.approx(number, rel=1e-6)}
        assert list(node.params) == ([] if bias is None else ["bias"])
        assert_computes(graph, self.golden(number, 0.0 if bias is None else bias))

    def test_with_a_computed_bias_is_its_parts(self):
        graph = read(
            lambda q, k, v, b: R.nn.attention(q, k, v, b, scale=0.3), *self.SHAPES, (2, 3, 5, 6)
        )
        assert [(name, op) for name, op, _ in nodes(graph) if op != "view"] == [
            ("y.scores", "matmul"),
            ("y.scaled", "multiply"),
            ("y.biased", "add"),
            ("y.softmax", "softmax"),
            ("y", "matmul"),
        ]
        np.testing.assert_array_equal(graph["y.scaled"].params["const"], np.float32(0.3))
        for part in ("scores", "scaled", "biased", "softmax"):
            assert graph[f"y.{part}"].shape == (2, 3, 5, 6)
        assert_computes(graph, self.golden(0.3, random("x3", 2, 3, 5, 6)))

    @pytest.mark.parametrize("options", [{"causal_mask": "TopLeft"}, {"window_size": 2}])
    def test_with_masks_is_refused(self, options):
        shapes = ((2, 5, 3, 4),) * 3
        reason = refusal(lambda q, k, v: R.nn.attention(q, k, v, **options), *shapes)
        assert reason == "relax.nn.attention at y: a causal mask or a window"


class TestNorms:
    @pytest.mark.parametrize("axis", [1, 3, -1])
    def test_batch_norm(self, axis):
        shape = (2, 3, 4, 5)
        gamma, beta, mean = (random(n, shape[axis]) for n in ("g", "b", "m"))
        variance = random("v", shape[axis]) ** 2

        def write(x):
            arrays = (const(a) for a in (gamma, beta, mean, variance))
            return R.nn.batch_norm(x, *arrays, axis=axis, epsilon=0.25, training=False)

        graph = read(write, shape)
        assert [(n, op) for n, op, _ in nodes(graph)][:2] == [("y.scale", "multiply"), ("y", "add")]
        scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + 0.25)
        place = [-1 if a == axis % 4 else 1 for a in range(4)]
        factor, shift = scale.reshape(place), (beta - mean * scale).reshape(place)
        assert_computes(graph, x0(*shape) * factor + shift, mean, variance)
        found = graph["y.scale"].params["const"]
        np.testing.assert_array_equal(found, factor.astype(np.float32).reshape(found.shape))

    @pytest.mark.parametrize(("left_out", "factor", "shift"), [("scale", 1, 3), ("center", 2, 0)])
    def test_batch_norm_without_gamma_or_beta(self, left_out, factor, shift):
        arrays = [const(np.full(4, value)) for value in (2.0, 3.0, 0.0, 1.0)]
        options = {"axis": 1, "epsilon": 0.0, "training": False, left_out: False}
        graph = read(lambda x: R.nn.batch_norm(x, *arrays, **options)[0], (2, 4, 3, 4))
        assert_computes(graph, x0(2, 4, 3, 4) * factor + shift)

    def test_batch_statistics_are_refused(self):
        ones = const(np.ones(3))
        reason = refusal(
            lambda x: R.nn.batch_norm(x, ones, ones, ones, ones, axis=1, training=True)[0],
            (2, 3, 4, 5),
        )
        assert reason.endswith(": batch statistics; import the model in evaluation mode")
        assert reason.startswith("relax.nn.batch_norm at ")

    @pytest.mark.parametrize("axes", [[-1], [2], [1, 2], [-2, -1], [0, 1, 2]])
    def test_layer_norm(self, axes):
        shape = (2, 3, 4)
        ordered = tuple(sorted(a % 3 for a in axes))
        part = [shape[a] for a in ordered]
        gamma, beta = random("g", *part), random("b", *part)
        graph = read(
            lambda x: R.nn.layer_norm(x, const(gamma), const(beta), axes, epsilon=0.25), shape
        )
        norm = one(graph, "layer_norm")
        assert norm.name == "y"
        assert norm.attrs == {"eps": 0.25}
        np.testing.assert_array_equal(norm.params["gamma"], gamma.reshape(-1))
        np.testing.assert_array_equal(norm.params["beta"], beta.reshape(-1))
        assert_computes(graph, normalised(x0(*shape), ordered) * gamma + beta)

    @pytest.mark.parametrize(("axes", "named"), [([1], [1]), ([0, 2], [0, 2]), ([0, -2], [0, 1])])
    def test_layer_norm_over_other_axes_is_refused(self, axes, named):
        sizes = [(2, 3, 4)[a] for a in axes]
        reason = refusal(
            lambda x: R.nn.layer_norm(x, const(np.ones(sizes)), const(np.ones(sizes)), axes),
            (2, 3, 4),
        )
        assert reason == f"relax.nn.layer_norm at y: normalisation over axes {named} of 3"

    @pytest.mark.parametrize("shape", [(2, 6), (2, 6, 5), (2, 6, 3, 4), (2, 6, 2, 3, 4)])
    def test_group_norm(self, shape):
        gamma, beta = random("g", 6), random("b", 6)
        axes = list(range(2, len(shape)))
        arrays = const(gamma), const(beta)
        graph = read(lambda x: R.nn.group_norm(x, *arrays, 2, 1, axes, epsilon=0.25), shape)
        norm = one(graph, "group_norm")
        assert norm.name == "y"
        assert norm.shape == (2, *shape[2:], 6)
        assert norm.attrs == {"groups": 2, "eps": 0.25}
        per_channel = (6, *(1,) * len(axes))
        split = x0(*shape).reshape(2, 2, -1)
        want = normalised(split, (2,)).reshape(shape)
        assert_computes(graph, want * gamma.reshape(per_channel) + beta.reshape(per_channel))

    def test_instance_norm(self):
        shape, gamma, beta = (2, 6, 3, 4), random("g", 6), random("b", 6)
        arrays = const(gamma), const(beta)
        graph = read(lambda x: R.nn.instance_norm(x, *arrays, 1, [-1, 2], epsilon=0.25), shape)
        assert one(graph, "group_norm").attrs == {"groups": 6, "eps": 0.25}
        want = normalised(x0(*shape), (2, 3))
        assert_computes(graph, want * gamma[:, None, None] + beta[:, None, None])

    def test_a_batch_of_one_may_be_normalised_over(self):
        arrays = const(random("g", 6)), const(random("b", 6))
        graph = read(lambda x: R.nn.instance_norm(x, *arrays, -3, [0, 2, 3]), (1, 6, 3, 4))
        assert one(graph, "group_norm").attrs["groups"] == 6
        reason = refusal(lambda x: R.nn.instance_norm(x, *arrays, 1, [0, 2, 3]), (2, 6, 3, 4))
        assert reason == "relax.nn.instance_norm at y: normalisation over axes [0, 2, 3] of 4"

    @pytest.mark.parametrize(
        ("channel_axis", "axes", "shape"),
        [(1, [2], (1, 6, 3, 4)), (1, [3], (1, 6, 3, 4)), (0, [2, 3], (6, 5, 3, 4))],
    )
    def test_groups_over_other_axes_are_refused(self, channel_axis, axes, shape):
        arrays = const(np.ones(6)), const(np.ones(6))
        reason = refusal(lambda x: R.nn.group_norm(x, *arrays, 2, channel_axis, axes), shape)
        assert reason == f"relax.nn.group_norm at y: normalisation over axes {axes} of 4"


def normalised(x, axes, epsilon=0.25):
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
def test_softmax(axis):
    graph = read(lambda x: R.nn.softmax(x, axis), (2, 3, 4))
    assert [op for _, op, _ in nodes(graph) if op != "view"] == ["softmax"]
    assert "y" in graph
    e = np.exp(x0(2, 3, 4))
    assert_computes(graph, e / e.sum(axis, keepdims=True))


def test_softmax_over_the_last_axis_moves_nothing():
    graph = read(lambda x: R.nn.softmax(x, 2), (2, 3, 4))
    assert nodes(graph) == [("y", "softmax", ("x0",))]


@pytest.mark.parametrize(
    "write",
    [
        lambda x, w: R.nn.layer_norm(x, w, w, [-1]),
        lambda x, w: R.nn.group_norm(x, w, w, 2, 1, []),
        lambda x, w: R.nn.batch_norm(x, w, w, w, w, axis=1, training=False)[0],
    ],
)
def test_weights_are_constant(write):
    reason = refusal(write, (2, 4), (4,))
    assert reason.endswith(": weights that are not constant")


@pytest.mark.parametrize(("left_out", "gamma", "beta"), [("scale", 1, 3), ("center", 2, 0)])
def test_norms_that_leave_gamma_or_beta_out(left_out, gamma, beta):
    arrays, options = [const(np.full(4, value)) for value in (2.0, 3.0)], {left_out: False}
    for op, norm in (
        ("layer_norm", lambda x: R.nn.layer_norm(x, *arrays, [-1], **options)),
        ("group_norm", lambda x: R.nn.group_norm(x, *arrays, 2, 1, [2, 3], **options)),
        ("group_norm", lambda x: R.nn.instance_norm(x, *arrays, 1, [2, 3], **options)),
    ):
        params = one(read(norm, (2, 4, 3, 4)), op).params
        np.testing.assert_array_equal(params["gamma"], np.full(4, gamma, np.float32))
        np.testing.assert_array_equal(params["beta"], np.full(4, beta, np.float32))


def test_layer_norm_over_axes_in_another_order_is_refused():
    gamma, beta = (const(random(name, 4, 3)) for name in ("gamma", "beta"))
    reason = refusal(lambda x: R.nn.layer_norm(x, gamma, beta, [2, 1]), (2, 3, 4))
    assert reason.endswith("at y: normalisation over axes [2, 1] of 3")
