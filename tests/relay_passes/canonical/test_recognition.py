"""Passes that recognise activations, norms, projections and attention."""

from __future__ import annotations

import numpy as np
import pytest

from relay_passes.canonical.fuse_attention import fuse_attention
from relay_passes.canonical.fuse_views import fuse_views
from relay_passes.canonical.recognise_activations import recognise_activations
from relay_passes.canonical.recognise_norms import recognise_norms
from relay_passes.canonical.simplify_algebra import simplify_algebra
from relay_passes.canonical.split_projections import split_projections
from relay_passes.canonical.sums_to_matmul import sums_to_matmul
from tests.relay_passes.canonical.small_graphs import Sketch, apply, ops, random


def silu(s, x):
    return s.pair("silu", "multiply", x, s.unary("gate", x, "sigmoid"))


def gelu(s, x):
    erf = s.unary("erf", s.scale("a", x, np.sqrt(0.5)), "erf")
    return s.scale("c", s.pair("b", "multiply", x, s.offset("one", erf, 1.0)), 0.5)


def gelu_halved_first(s, x):
    erf = s.unary("erf", s.scale("a", x, np.sqrt(0.5)), "erf")
    return s.pair("b", "multiply", s.scale("half", x, 0.5), s.offset("one", erf, 1.0))


def gelu_tanh(s, x):
    cubed = s.scale("k", s.pair("cubed", "multiply", x, s.unary("sq", x, "square")), 0.044715)
    tanh = s.unary("t", s.scale("r", s.pair("u", "add", x, cubed), np.sqrt(2 / np.pi)), "tanh")
    return s.pair("b", "multiply", s.scale("half", x, 0.5), s.offset("one", tanh, 1.0))


def hardswish(s, x):
    clipped = s.unary("clip", s.offset("plus", x, 3.0), "clip", 0.0, 6.0)
    return s.scale("b", s.pair("a", "multiply", x, clipped), 1 / 6)


def hardswish_by_hardsigmoid(s, x):
    line = s.offset("plus", s.scale("sixth", x, 1 / 6), 0.5)
    return s.pair("a", "multiply", x, s.unary("clip", line, "clip", 0.0, 1.0))


def hardsigmoid(s, x):
    return s.scale("b", s.unary("clip", s.offset("plus", x, 3.0), "clip", 0.0, 6.0), 1 / 6)


def relu6(s, x):
    return s.unary("clip", x, "clip", 0.0, 6.0)


def relu(s, x):
    return s.unary("max", x, "clip", 0.0, float("inf"))


SPELLINGS = [
    (silu, "silu"),
    (gelu, "gelu"),
    (gelu_halved_first, "gelu"),
    (gelu_tanh, "gelu_tanh"),
    (hardswish, "hardswish"),
    (hardswish_by_hardsigmoid, "hardswish"),
    (hardsigmoid, "hardsigmoid"),
    (relu6, "relu6"),
    (relu, "relu"),
]


@pytest.mark.parametrize(("spell", "fn"), SPELLINGS)
def test_every_spelling_is_recognised(spell, fn):
    s = Sketch()
    name = spell(s, s.dense("fc", s.input("x", 8, 6), 6))
    after = apply(s.graph(), recognise_activations)
    assert ops(after) == ["dense", "unary"]
    assert (after[name].attrs["fn"], after[name].inputs) == (fn, ("fc",))


def nearly_silu(s, x):
    return s.pair("silu", "multiply", x, s.unary("gate", s.scale("a", x, 1.702), "sigmoid"))


def gated(s, x):
    return s.pair("gated", "multiply", x, s.unary("gate", s.dense("other", x, 6), "sigmoid"))


def shifted(s, x):
    return s.pair("a", "multiply", x, s.unary("gate", s.offset("o", x, random("o", 6)), "sigmoid"))


@pytest.mark.parametrize("spell", [nearly_silu, gated, shifted])
def test_what_only_looks_like_one_stays(spell):
    s = Sketch()
    spell(s, s.input("x", 8, 6))
    graph = s.graph()
    assert recognise_activations(graph) is graph


def test_an_activation_whose_inside_is_read_elsewhere_is_still_one():
    s = Sketch()
    x = s.input("x", 8, 6)
    silu(s, x)
    after = apply(s.graph("silu", "gate"), recognise_activations)
    assert sorted(n.attrs["fn"] for n in after if n.op == "unary") == ["sigmoid", "silu"]


def test_squares_and_roots():
    s = Sketch()
    x = s.input("x", 4, 5)
    square = s.pair("square", "multiply", x, x)
    root = s.unary("root", s.offset("eps", square, 1.0), "sqrt")
    s.unary("inverse", root, "reciprocal")
    after = apply(s.graph(), simplify_algebra)
    assert [n.attrs["fn"] for n in after if n.op == "unary"] == ["square", "rsqrt"]


def decomposed_norm(s, x, axes, first="a"):
    def mean(name, source):
        kept = [1 if i in axes else n for i, n in enumerate(s.nodes[x].shape)]
        return s.reshape(f"{name}.kept", s.reduce(name, source, "mean", axes), *kept)

    centred = s.pair("centred", "add", x, s.scale("minus", mean("mean", x), -1.0))
    variance = mean("variance", s.unary("square", centred, "square"))
    root = s.unary("root", s.offset("eps", variance, 1e-5), "rsqrt")
    pair = (centred, root) if first == "a" else (root, centred)
    return s.pair("norm", "multiply", *pair)


@pytest.mark.parametrize("first", ["a", "b"])
def test_layer_norm(first):
    s = Sketch()
    decomposed_norm(s, s.input("x", 2, 5, 6), (2,), first)
    after = apply(s.graph(), recognise_norms)
    assert ops(after) == ["layer_norm"]
    assert after["norm"].attrs["eps"] == pytest.approx(1e-5)


def test_group_norm_of_one_group():
    s = Sketch()
    decomposed_norm(s, s.input("x", 2, 3, 4, 6), (1, 2, 3))
    after = apply(s.graph(), recognise_norms)
    assert ops(after) == ["group_norm"]
    assert after["norm"].attrs["groups"] == 1


def test_group_norm_as_exporters_reshape_it():
    s = Sketch()
    x = s.permute("first", s.input("x", 2, 3, 4, 6), 0, 3, 1, 2)
    decomposed_norm(s, s.reshape("groups", x, 2, 2, 36), (2,))
    after = apply(s.graph(), fuse_views, recognise_norms)
    assert ops(after, "view") == ["group_norm"]
    assert after["norm"].attrs["groups"] == 2


@pytest.mark.parametrize("axes", [(1,), (2, 3), (0, 3)])
def test_norms_over_other_axes_stay(axes):
    s = Sketch()
    decomposed_norm(s, s.input("x", 2, 3, 4, 6), axes)
    graph = s.graph()
    assert recognise_norms(graph) is graph


def test_a_variance_of_another_tensor_is_no_norm():
    s = Sketch()
    x, y = s.input("x", 2, 5, 6), s.input("y", 2, 5, 6)
    mean = s.reduce("mean", x, "mean", (2,), keepdims=True)
    centred = s.pair("centred", "add", x, s.scale("minus", mean, -1.0))
    variance = s.reduce("variance", s.unary("square", y, "square"), "mean", (2,), keepdims=True)
    s.pair("norm", "multiply", centred, s.unary("r", s.offset("e", variance, 1e-5), "rsqrt"))
    graph = s.graph()
    assert recognise_norms(graph) is graph


class TestSplitProjections:
    @staticmethod
    def heads(s, fused, begin, end):
        """Heads whose channels lie side by side in each head's own block."""
        batch, rows, width = s.nodes[fused].shape

        def make(view):
            split = view.reshape((batch, rows, 2, width // 2)).permute((0, 2, 1, 3))
            return split.slice((0, 0, 0, begin), (batch, 2, rows, end))

        return s.view(f"heads.{begin}", fused, make)

    @staticmethod
    def thirds(s, fused, i):
        batch, rows, width = s.nodes[fused].shape

        def make(view):
            split = view.reshape((batch, rows, 3, 2, width // 6)).permute((2, 0, 3, 1, 4))
            one = split.slice((i, 0, 0, 0, 0), (i + 1, batch, 2, rows, width // 6))
            return one.reshape((batch, 2, rows, width // 6))

        return s.view(f"third.{i}", fused, make)

    def test_thirds(self):
        s = Sketch()
        fused = s.dense("qkv", s.input("x", 2, 5, 8), 24)
        s.add("attn", "attention", [self.thirds(s, fused, i) for i in range(3)],
              (2, 2, 5, 4), scale=0.5)  # fmt: skip
        after = apply(s.graph(), split_projections)
        names = [n.name for n in after if n.op == "dense"]
        assert names == ["qkv.0", "qkv.1", "qkv.2"]
        assert all(after[name].shape == (2, 5, 8) for name in names)

    def test_channels_of_each_head_side_by_side(self):
        s = Sketch()
        fused = s.dense("qkv", s.input("x", 2, 5, 8), 16)
        q, k, v = (self.heads(s, fused, *span) for span in ((0, 2), (2, 4), (4, 8)))
        s.add("attn", "attention", (q, k, v), (2, 2, 5, 4), scale=0.5)
        after = apply(s.graph(), split_projections)
        assert [n.channels for n in after if n.op == "dense"] == [4, 4, 8]

    def test_two_readers_of_one_slice_share_a_layer(self):
        s = Sketch()
        fused = s.dense("qkv", s.input("x", 2, 5, 8), 16)
        q, k = self.heads(s, fused, 0, 4), self.heads(s, fused, 4, 8)
        again = s.view(
            "again", fused, lambda v: v.reshape((2, 5, 2, 8)).slice((0,) * 4, (2, 5, 2, 4))
        )
        s.add("attn", "attention", (q, k, q), (2, 2, 5, 4), scale=0.5)
        after = apply(s.graph("attn", again), split_projections)
        assert ops(after).count("dense") == 2

    def test_convolutions(self):
        s = Sketch()
        fused = s.conv2d("qkv", s.input("x", 1, 4, 4, 6), 9, 3, 1)
        parts = [
            s.view(f"p{i}", fused, lambda v, i=i: v.slice((0, 0, 0, 3 * i), (1, 4, 4, 3 * i + 3)))
            for i in range(3)
        ]
        s.pair("y", "add", s.pair("z", "multiply", *parts[:2]), parts[2])
        after = apply(s.graph(), split_projections)
        assert ops(after) == ["conv2d", "conv2d", "conv2d", "multiply", "add"]

    def test_overlapping_or_whole_readers_stay(self):
        s = Sketch()
        fused = s.dense("qkv", s.input("x", 2, 5, 8), 16)
        q, k = self.heads(s, fused, 0, 5), self.heads(s, fused, 3, 8)
        graph = s.graph(q, k)
        assert split_projections(graph) is graph
        s.unary("act", fused, "relu")
        graph = s.graph(q, "act")
        assert split_projections(graph) is graph


class TestSumsToMatmul:
    def test_separable_attention(self):
        s = Sketch()
        values, weights = s.input("v", 2, 4, 5, 6), s.input("w", 2, 4, 5, 1)
        product = s.pair("product", "multiply", values, weights)
        s.reduce("context", product, "sum", (2,), keepdims=True)
        assert ops(apply(s.graph(), sums_to_matmul), "view") == ["matmul"]

    @pytest.mark.parametrize("kind", ["mean", "sum"])
    def test_other_sums_stay(self, kind):
        s = Sketch()
        a, b = s.input("a", 2, 5, 6), s.input("b", 2, 5, 6 if kind == "sum" else 1)
        s.reduce("y", s.pair("product", "multiply", a, b), kind, (1,))
        graph = s.graph()
        assert sums_to_matmul(graph) is graph


class TestFuseAttention:
    @staticmethod
    def attention(s, *, mask=None, regroup=False, heads=3):
        q, k, v = (s.input(n, 2, heads, 5, 4) for n in "qkv")
        scores = s.scale("scaled", s.matmul("scores", q, k), 0.5)
        if mask is not None:
            scores = s.offset("masked", scores, mask)
        weights = s.add("attn.softmax", "softmax", (scores,))
        transposed = s.permute("v.t", v, 0, 1, 3, 2)
        if regroup:
            weights = s.reshape("w.flat", weights, 2 * heads, 5, 5)
            transposed = s.reshape("v.flat", transposed, 2 * heads, 4, 5)
        return s.matmul("out", weights, transposed)

    @pytest.mark.parametrize("regroup", [False, True])
    @pytest.mark.parametrize("mask", [None, random("m", 3, 5, 5), random("r", 5)])
    def test_the_chain_is_one_operator(self, mask, regroup):
        s = Sketch()
        self.attention(s, mask=mask, regroup=regroup)
        after = apply(s.graph(), fuse_attention, fuse_views)
        (fused,) = [n for n in after if n.op == "attention"]
        assert ops(after, "view") == ["attention"]
        assert fused.name == "attn.attention"
        assert fused.attrs["scale"] == pytest.approx(0.5)
        assert ("bias" in fused.params) is (mask is not None)

    def test_bias_before_scaling_is_scaled(self):
        s = Sketch()
        q, k, v = (s.input(n, 2, 5, 4) for n in "qkv")
        biased = s.offset("biased", s.matmul("scores", q, k), random("m", 5, 5))
        weights = s.add("softmax", "softmax", (s.scale("scaled", biased, 0.25),))
        s.matmul("out", weights, s.permute("v.t", v, 0, 2, 1))
        after = apply(s.graph(), fuse_attention, fuse_views)
        np.testing.assert_allclose(after["attention"].params["bias"], random("m", 5, 5) * 0.25)

    def test_scores_that_are_read_elsewhere_stay(self):
        s = Sketch()
        self.attention(s)
        for extra in ("scores", "scaled", "attn.softmax"):
            graph = s.graph("out", extra)
            assert fuse_attention(graph) is graph

    def test_a_softmax_of_something_else_stays(self):
        s = Sketch()
        weights = s.add("softmax", "softmax", (s.input("x", 2, 5, 5),))
        s.matmul("out", weights, s.input("v", 2, 4, 5))
        graph = s.graph()
        assert fuse_attention(graph) is graph

    def test_windows_and_heads_keep_their_own_axes(self):
        """Biases per head and masks per window, as window attention adds them between reshapes."""
        s = Sketch()
        q, k, v = (s.input(n, 6, 5, 4) for n in "qkv")
        scores = s.reshape("heads", s.matmul("scores", q, k), 2, 3, 5, 5)
        biased = s.reshape("w", s.offset("biased", scores, random("b", 3, 5, 5)), 1, 2, 3, 5, 5)
        masked = s.reshape("m", s.offset("mask", biased, random("k", 2, 1, 5, 5)), 2, 3, 5, 5)
        weights = s.reshape("flat", s.add("a.softmax", "softmax", (masked,)), 6, 5, 5)
        s.matmul("out", weights, s.permute("v.t", v, 0, 2, 1))
        after = apply(s.graph(), fuse_attention, fuse_views)
        (fused,) = [n for n in after if n.op == "attention"]
        assert fused.shape == (2, 3, 5, 4)
        assert fused.params["bias"].shape == (2, 3, 5, 5)

    @pytest.mark.parametrize("mask", [None, random("m", 3, 5, 5)])
    def test_a_softmax_over_rows_without_their_axes(self, mask):
        """As ONNX's before opset 13, which flattens everything but the last axis."""
        s = Sketch()
        q, k, v = (s.input(n, 2, 3, 5, 4) for n in "qkv")
        scores = s.matmul("scores", q, k)
        if mask is not None:
            scores = s.offset("masked", scores, mask)
        weights = s.add("a.softmax", "softmax", (s.reshape("rows", scores, 30, 5),))
        square = s.reshape("square", weights, 2, 3, 5, 5)
        s.matmul("out", square, s.permute("v.t", v, 0, 1, 3, 2))
        after = apply(s.graph(), fuse_attention, fuse_views)
        (fused,) = [n for n in after if n.op == "attention"]
        assert fused.shape == (2, 3, 5, 4)
        assert not after.nodes.keys() & {"rows", "square", "scores"}
        if mask is not None:
            np.testing.assert_allclose(fused.params["bias"], mask)

    def test_rows_that_come_back_in_other_matrices_stay(self):
        s = Sketch()
        q, k, v = s.input("q", 2, 6, 4), s.input("k", 2, 3, 4), s.input("v", 4, 4, 3)
        rows = s.reshape("rows", s.matmul("scores", q, k), 12, 3)
        weights = s.reshape("other", s.add("softmax", "softmax", (rows,)), 4, 3, 3)
        s.matmul("out", weights, v)
        graph = s.graph()
        assert fuse_attention(graph) is graph

    def test_a_bias_per_head_is_not_repeated_for_windows(self):
        s = Sketch()
        q, k, v = (s.input(n, 6, 5, 4) for n in "qkv")
        scores = s.reshape("heads", s.matmul("scores", q, k), 2, 3, 5, 5)
        weights = s.add("softmax", "softmax", (s.offset("b", scores, random("b", 3, 5, 5)),))
        flat = s.reshape("flat", weights, 6, 5, 5)
        s.matmul("out", flat, s.permute("v.t", v, 0, 2, 1))
        after = apply(s.graph(), fuse_attention, fuse_views)
        assert after["attention"].params["bias"].shape == (3, 5, 5)
