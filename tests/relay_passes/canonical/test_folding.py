"""Passes that fold constants into layers, norms, matmuls and paddings."""

from __future__ import annotations

import numpy as np
import pytest

from hyq_tvm.quantization.view import View
from relay_passes.canonical.collect_terms import collect_terms
from relay_passes.canonical.constants import before_view, compressed, per_channel
from relay_passes.canonical.fold_affine import fold_affine
from relay_passes.canonical.fold_matmul_scale import fold_matmul_scale
from relay_passes.canonical.fold_norm_affine import fold_norm_affine
from relay_passes.canonical.fold_padding import fold_padding
from relay_passes.canonical.merge_constants import merge_constants
from relay_passes.canonical.merge_parallel_layers import merge_parallel_layers
from tests.relay_passes.canonical.small_graphs import Sketch, apply, ops, random


class TestConstants:
    @pytest.mark.parametrize(
        ("array", "shape"),
        [
            (np.ones((2, 3, 4)), ()),
            (np.arange(4.0), (4,)),
            (np.broadcast_to(np.arange(4.0), (2, 3, 4)), (4,)),
            (np.broadcast_to(np.arange(3.0)[:, None], (2, 3, 4)), (3, 1)),
            (np.arange(24.0).reshape(2, 3, 4), (2, 3, 4)),
            (np.arange(2.0).reshape(2, 1, 1), (2, 1, 1)),
        ],
    )
    def test_compressed(self, array, shape):
        small = compressed(array)
        assert small.shape == shape
        np.testing.assert_array_equal(np.broadcast_to(small, array.shape), array)

    def test_per_channel(self):
        np.testing.assert_array_equal(per_channel(np.float32(2.0), 3), [2, 2, 2])
        np.testing.assert_array_equal(per_channel(np.arange(3.0), 3), [0, 1, 2])
        assert per_channel(np.arange(3.0)[:, None], 3) is None
        assert per_channel(np.arange(6.0).reshape(2, 3), 3) is None

    def test_before_view(self):
        view = View.permutation((2, 4, 4, 3), (0, 3, 1, 2))
        moved = before_view(np.arange(3.0).reshape(3, 1, 1), view, (2, 4, 4, 3))
        np.testing.assert_array_equal(moved, [0, 1, 2])


class TestMergeConstants:
    def test_neighbours_combine(self):
        s = Sketch()
        a = s.scale("a", s.input("x", 2, 5, 3), random("k", 3))
        s.offset("d", s.offset("c", s.scale("b", a, 2.0), 1.0), random("l", 5, 1))
        after = apply(s.graph(), merge_constants)
        assert [(n.op, n.params["const"].shape) for n in after if n.params] == [
            ("multiply", (3,)),
            ("add", (5, 1)),
        ]

    def test_what_others_read_stays(self):
        s = Sketch()
        a = s.scale("a", s.input("x", 2, 3), random("k", 3))
        s.pair("sum", "add", s.scale("b", a, 2.0), a)
        graph = s.graph()
        assert merge_constants(graph) is graph

    @pytest.mark.parametrize(("op", "idle"), [("scale", np.ones(3)), ("offset", 0.0)])
    def test_idle_ones_go(self, op, idle):
        s = Sketch()
        getattr(s, op)("a", s.unary("y", s.input("x", 2, 3), "relu"), idle)
        assert ops(apply(s.graph(), merge_constants)) == ["unary"]

    def test_constant_nodes_move_in(self):
        s = Sketch()
        s.add("k", "constant", (), (2, 3), {"value": np.float32([[1, 2, 3]] * 2)})
        s.pair("y", "add", "k", s.input("x", 2, 3))
        after = apply(s.graph(), merge_constants)
        np.testing.assert_array_equal(after["y"].params["const"], [1, 2, 3])
        assert after["y"].inputs == ("x",)

    def test_a_constant_that_widens_the_tensor_stays_a_node(self):
        s = Sketch()
        s.add("k", "constant", (), (2, 3), {"value": random("k", 2, 3)})
        s.pair("y", "add", "k", s.input("x", 1, 3))
        graph = s.graph()
        assert merge_constants(graph) is graph


class TestFoldAffine:
    @pytest.mark.parametrize("groups", [1, 3, 6])
    def test_behind_a_convolution(self, groups):
        s = Sketch()
        a = s.conv2d("conv", s.input("x", 2, 4, 4, 6), 12, 3, 1, groups)
        s.offset("bn", s.scale("bn.scale", a, random("k", 12)), random("o", 12))
        assert ops(apply(s.graph(), fold_affine)) == ["conv2d"]

    @pytest.mark.parametrize("groups", [1, 3, 6])
    def test_before_a_convolution_without_padding(self, groups):
        s = Sketch()
        a = s.scale("bn.scale", s.input("x", 2, 4, 4, 6), random("k", 6))
        s.conv2d("conv", s.offset("bn", a, random("o", 6)), 12, 3, 0, groups)
        assert ops(apply(s.graph(), fold_affine, fold_affine)) == ["conv2d"]

    def test_an_offset_before_padding_stays(self):
        """At the border the padding's zeros would need the offset too."""
        s = Sketch()
        a = s.scale("scale", s.input("x", 2, 4, 4, 6), random("k", 6))
        s.conv2d("conv", s.offset("offset", a, random("o", 6)), 4, 3, 1)
        graph = s.graph()
        assert fold_affine(graph) is graph

    def test_a_factor_before_padding_folds(self):
        s = Sketch()
        s.conv2d("conv", s.scale("scale", s.input("x", 2, 4, 4, 6), random("k", 6)), 4, 3, 1)
        assert ops(apply(s.graph(), fold_affine)) == ["conv2d"]

    def test_around_dense_layers_and_views_that_keep_channels(self):
        s = Sketch()
        a = s.dense("fc1", s.input("x", 2, 4, 4, 6), 8)
        b = s.permute("swap", s.reshape("rows", a, 2, 16, 8), 1, 0, 2)
        s.dense("fc2", s.unary("act", s.scale("ls", b, random("k", 8)), "relu"), 3)
        graph = s.graph()
        assert fold_affine(graph) is graph  # two views lie between: they are merged first
        s = Sketch()
        a = s.dense("fc1", s.input("x", 2, 16, 6), 8)
        s.scale("ls", s.permute("swap", a, 1, 0, 2), random("k", 8))
        assert ops(apply(s.graph(), fold_affine)) == ["dense", "view"]

    def test_constants_along_other_axes_stay(self):
        s = Sketch()
        s.offset("pos", s.dense("fc", s.input("x", 2, 16, 6), 8), random("p", 16, 8))
        graph = s.graph()
        assert fold_affine(graph) is graph

    def test_a_layer_with_other_readers_stays(self):
        s = Sketch()
        a = s.dense("fc", s.input("x", 2, 6), 8)
        s.pair("sum", "add", s.scale("ls", a, random("k", 8)), a)
        graph = s.graph()
        assert fold_affine(graph) is graph

    def test_all_readers_of_an_affine_fold_or_none(self):
        s = Sketch()
        a = s.scale("ls", s.input("x", 2, 6), random("k", 6))
        s.dense("fc1", a, 8)
        s.dense("fc2", a, 8)
        assert ops(apply(s.graph("fc1", "fc2"), fold_affine)) == ["dense", "dense"]
        s.unary("act", a, "relu")
        graph = s.graph("fc1", "fc2", "act")
        assert fold_affine(graph) is graph


@pytest.mark.parametrize("op", ["layer_norm", "group_norm"])
def test_norms_take_factors_and_offsets(op):
    s = Sketch()
    params = {"gamma": random("g", 6), "beta": random("b", 6)}
    attrs = {"groups": 3} if op == "group_norm" else {}
    a = s.add("norm", op, (s.input("x", 2, 5, 6),), None, params, eps=1e-5, **attrs)
    s.offset("offset", s.scale("scale", a, random("k", 6)), 0.5)
    assert ops(apply(s.graph(), fold_norm_affine)) == [op]


def test_a_norm_with_other_readers_stays():
    s = Sketch()
    params = {"gamma": random("g", 6), "beta": random("b", 6)}
    a = s.add("norm", "layer_norm", (s.input("x", 2, 5, 6),), None, params, eps=1e-5)
    s.pair("sum", "add", s.scale("scale", a, random("k", 6)), a)
    graph = s.graph()
    assert fold_norm_affine(graph) is graph


def test_matmul_takes_numbers_on_all_sides():
    s = Sketch()
    q = s.scale("q.scaled", s.input("q", 2, 5, 4), 0.5)
    k = s.scale("k.scaled", s.input("k", 2, 7, 4), 3.0)
    s.scale("scaled", s.matmul("scores", q, k, 2.0), 0.25)
    after = apply(s.graph(), fold_matmul_scale)
    assert ops(after) == ["matmul"]
    assert after["scores"].attrs["scale"] == pytest.approx(0.75)


def test_attention_takes_numbers_of_query_and_key_but_not_of_value():
    s = Sketch()
    parts = [s.scale(f"{n}.scaled", s.input(n, 2, 5, 4), 3.0) for n in "qkv"]
    s.add("attn", "attention", parts, (2, 5, 4), scale=0.5)
    after = apply(s.graph(), fold_matmul_scale)
    assert ops(after) == ["multiply", "attention"]
    assert after["attn"].attrs["scale"] == pytest.approx(4.5)


def test_matmul_leaves_vectors_alone():
    s = Sketch()
    q = s.scale("q.scaled", s.input("q", 2, 5, 4), random("k", 4))
    s.scale("scaled", s.matmul("scores", q, s.input("k", 2, 7, 4)), random("l", 7))
    graph = s.graph()
    assert fold_matmul_scale(graph) is graph


def test_zero_padding_becomes_the_convolutions_own():
    s = Sketch()
    pads = ((0, 0), (1, 2), (0, 3), (0, 0))
    a = s.add("pad", "pad", (s.input("x", 2, 4, 4, 6),), (2, 7, 7, 6), pads=pads, value=0.0)
    s.conv2d("conv", a, 4, 3, 1)
    after = apply(s.graph(), fold_padding)
    assert ops(after) == ["conv2d"]
    assert after["conv"].attrs["padding"] == (2, 1, 3, 4)


@pytest.mark.parametrize(
    ("pads", "value"),
    [(((0, 0), (1, 1), (1, 1), (0, 0)), 1.0), (((0, 0), (1, 1), (1, 1), (0, 2)), 0.0)],
)
def test_other_padding_stays(pads, value):
    s = Sketch()
    shape = tuple(n + a + b for n, (a, b) in zip((2, 4, 4, 6), pads, strict=True))
    a = s.add("pad", "pad", (s.input("x", 2, 4, 4, 6),), shape, pads=pads, value=value)
    s.conv2d("conv", a, 4, 3)
    graph = s.graph()
    assert fold_padding(graph) is graph


class TestParallelLayers:
    def test_two_heads_are_one(self):
        s = Sketch()
        x = s.input("x", 2, 6)
        s.pair("sum", "add", s.dense("head", x, 5), s.dense("head_dist", x, 5))
        after = apply(s.graph(), merge_parallel_layers)
        assert [(n.name, n.op) for n in after][1:] == [("sum", "dense")]

    def test_convolutions_that_differ_stay(self):
        s = Sketch()
        x = s.input("x", 2, 4, 4, 6)
        s.pair("sum", "add", s.conv2d("a", x, 6, 3, 1), s.conv2d("b", x, 6, 1))
        graph = s.graph()
        assert merge_parallel_layers(graph) is graph

    def test_layers_of_different_tensors_stay(self):
        s = Sketch()
        x, y = s.input("x", 2, 6), s.input("y", 2, 6)
        s.pair("sum", "add", s.dense("a", x, 6), s.dense("b", y, 6))
        graph = s.graph()
        assert merge_parallel_layers(graph) is graph


class TestCollectTerms:
    def test_pooling_without_the_identity(self):
        s = Sketch()
        x = s.input("x", 2, 6, 6, 3)
        pool = s.unary("pool", x, "square")
        mixed = s.pair("sub", "add", pool, s.scale("negated", x, -1.0))
        s.pair("sum", "add", x, s.scale("ls", mixed, random("k", 3)))
        after = apply(s.graph(), collect_terms)
        assert ops(after) == ["unary", "multiply", "multiply", "add"]
        assert after.outputs == ("sum",)

    def test_three_terms(self):
        s = Sketch()
        x, y, z = (s.input(n, 2, 3) for n in "xyz")
        inner = s.pair("b", "add", s.pair("a", "add", x, y), z)
        s.pair("c", "add", inner, s.scale("minus", y, -3.0))
        assert ops(apply(s.graph(), collect_terms)).count("multiply") == 1

    def test_sums_without_repetition_stay(self):
        s = Sketch()
        x, y = s.input("x", 2, 3), s.input("y", 2, 3)
        s.pair("sum", "add", s.scale("a", x, 2.0), y)
        graph = s.graph()
        assert collect_terms(graph) is graph

    def test_shared_inner_sums_stay(self):
        s = Sketch()
        x, y = s.input("x", 2, 3), s.input("y", 2, 3)
        inner = s.pair("inner", "add", x, y)
        s.pair("sum", "add", inner, x)
        graph = s.graph("sum", "inner")
        assert collect_terms(graph) is graph
