"""What the recognising and splitting passes leave alone: one near miss for every condition."""

from __future__ import annotations

import numpy as np
import pytest

from relay_passes.canonical.recognise_activations import recognise_activations
from relay_passes.canonical.simplify_algebra import simplify_algebra
from relay_passes.canonical.split_projections import split_projections
from relay_passes.canonical.sums_to_matmul import sums_to_matmul
from tests.relay_passes.canonical.small_graphs import (
    Sketch,
    apply,
    assert_stays,
    ops,
    random,
    widened,
)


@pytest.mark.parametrize(("factors", "source"), [(11, "x"), (12, "back")])
def test_activations_of_twelve_nodes_and_no_more(factors, source):
    s = Sketch()
    x = s.input("x", 2, 3)
    name = x
    for i in range(factors - 1):
        name = s.scale(f"f{i}", name, 2.0)
    name = s.scale("back", name, 0.5 ** (factors - 1))
    s.unary("y", name, "clip", 0.0, float("inf"))
    after = apply(s.graph(), recognise_activations)
    assert (after["y"].attrs["fn"], after["y"].inputs) == ("relu", (source,))


def test_an_activation_that_adds_an_axis_stays():
    s = Sketch()
    plus = widened(s, "plus", "add", s.input("x", 3), (1, 3), np.full((1, 1), 3.0, np.float32))
    s.scale("y", s.unary("clip", plus, "clip", 0.0, 6.0), 1 / 6)
    after = apply(s.graph(), recognise_activations)
    assert [(n.name, n.op) for n in after][1:] == [
        ("plus", "add"),
        ("clip", "unary"),
        ("y", "multiply"),
    ]


@pytest.mark.parametrize(
    ("fn", "limits", "back"),
    [("relu", (float("-inf"), -30.0), 30.0), ("tanh", (30.0, float("inf")), -30.0)],
)
def test_what_differs_far_outside_alone_stays(fn, limits, back):
    s = Sketch()
    x = s.input("x", 2, 3)
    far = s.offset("far", s.unary("clip", x, "clip", *limits), back)
    s.pair("y", "add", s.unary("act", x, fn), far)
    assert_stays(recognise_activations, s)


class TestSimplifyAlgebra:
    def test_of_two_tensors_stays(self):
        s = Sketch()
        x, y = s.input("x", 2, 3), s.input("y", 2, 3)
        s.pair("a", "multiply", x, y)
        s.pair("b", "add", x, x)
        s.scale("c", x, 2.0)
        assert_stays(simplify_algebra, s, *"abc")

    def test_reciprocals_of_others_than_roots_stay(self):
        s = Sketch()
        x = s.input("x", 2, 3)
        s.unary("a", x, "reciprocal")
        s.unary("b", s.unary("e", x, "exp"), "reciprocal")
        s.unary("c", s.unary("root", x, "sqrt"), "exp")
        assert_stays(simplify_algebra, s, *"abc")


def halves(s, source, *shape):
    lead = tuple(n for n in shape[:-1])
    width = shape[-1] // 2
    zeros = (0,) * len(lead)
    return [
        s.view(
            f"h{i}", source, lambda v, i=i: v.slice((*zeros, i * width), (*lead, (i + 1) * width))
        )
        for i in (0, 1)
    ]


class TestSplitProjections:
    def test_grouped_convolutions_stay(self):
        s = Sketch()
        fused = s.conv2d("qk", s.input("x", 1, 4, 4, 6), 4, 1, 0, 2)
        s.pair("y", "multiply", *halves(s, fused, 1, 4, 4, 4))
        assert_stays(split_projections, s)

    def test_layers_that_are_outputs_stay(self):
        s = Sketch()
        fused = s.dense("qk", s.input("x", 2, 6), 4)
        s.pair("y", "multiply", *halves(s, fused, 2, 4))
        assert ops(apply(s.graph(), split_projections)) == ["dense", "dense", "multiply"]
        assert_stays(split_projections, s, "y", "qk")

    def test_others_than_layers_stay(self):
        s = Sketch()
        fused = s.unary("qk", s.input("x", 2, 4), "relu")
        s.pair("y", "multiply", *halves(s, fused, 2, 4))
        assert_stays(split_projections, s)

    def test_one_slice_narrows_the_layer(self):
        s = Sketch()
        first, _ = halves(s, s.dense("qk", s.input("x", 2, 6), 4), 2, 4)
        s.unary("y", first, "relu")
        after = apply(s.graph(), split_projections)
        assert [(n.name, n.shape) for n in after][1:] == [("qk.0", (2, 2)), ("y", (2, 2))]

    def test_a_layer_that_is_read_whole_stays(self):
        s = Sketch()
        fused = s.dense("qk", s.input("x", 2, 6), 4)
        s.unary("y", s.reshape("split", fused, 2, 2, 2), "relu")
        assert_stays(split_projections, s)

    def test_names_follow_the_channels(self):
        s = Sketch()
        first, second = halves(s, s.dense("qk", s.input("x", 2, 6), 4), 2, 4)
        s.pair("y", "add", s.unary("b", second, "exp"), s.unary("a", first, "relu"))
        after = apply(s.graph(), split_projections)
        assert after["a"].inputs == ("qk.0",)
        assert after["b"].inputs == ("qk.1",)
        np.testing.assert_array_equal(after["qk.1"].params["bias"], random("qk.bias", 4)[2:])
        np.testing.assert_array_equal(after["qk.1"].params["weight"], random("qk.weight", 4, 6)[2:])


class TestSumsToMatmul:
    @staticmethod
    def written(values=(2, 4, 5, 6), weights=(2, 4, 5, 1), axes=(2,), kind="sum", op="multiply"):
        s = Sketch()
        s.reduce("y", s.pair("p", op, s.input("v", *values), s.input("w", *weights)), kind, axes)
        return s

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_over_every_axis_but_the_last(self, axis):
        after = apply(self.written(axes=(axis,)).graph(), sums_to_matmul)
        assert ops(after, "view") == ["matmul"]
        (product,) = [n for n in after if n.op == "matmul"]
        assert product.attrs == {"scale": 1.0}

    def test_weights_may_come_first(self):
        s = self.written((2, 4, 5, 1), (2, 4, 5, 6))
        after = apply(s.graph(), sums_to_matmul)
        assert ops(after, "view") == ["matmul"]

    @pytest.mark.parametrize(
        "changes",
        [
            {"axes": (3,)},
            {"axes": (1, 2)},
            {"kind": "mean"},
            {"op": "add"},
            {"weights": (2, 4, 5, 6)},
            {"weights": (2, 4, 1, 1)},
            {"weights": (4, 5, 1)},
        ],
    )
    def test_other_sums_stay(self, changes):
        assert_stays(sums_to_matmul, self.written(**changes))

    def test_sums_of_one_tensor_stay(self):
        s = Sketch()
        s.reduce("y", s.scale("p", s.input("v", 2, 4, 5), random("k", 5)), "sum", (1,))
        assert_stays(sums_to_matmul, s)

    def test_products_that_others_read_stay(self):
        assert_stays(sums_to_matmul, self.written(), "y", "p")
