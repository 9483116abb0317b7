"""Chains of scores, softmax and values: which are one attention, and which near ones are not."""

from __future__ import annotations

import numpy as np
import pytest

from relay_passes.canonical.fuse_attention import fuse_attention
from relay_passes.canonical.fuse_views import fuse_views
from tests.relay_passes.canonical.small_graphs import Sketch, apply, ops, random


def chain(shape=(2, 3, 5), scores=None, softmax="softmax", scale=1.0):
    """``scores`` changes the product before the softmax."""
    s = Sketch()
    *lead, rows = shape
    q, k = s.input("q", *lead, rows, 4), s.input("k", *lead, rows, 4)
    v = s.input("v", *lead, 6, rows)
    made = s.matmul("product", q, k, 0.5)
    made = scores(s, made) if scores else made
    weights = s.add("w.softmax", softmax, (made,), fn="sigmoid", args=())
    s.matmul("out", weights, v, scale)
    return s


def fused(s):
    """The one attention that computes the same."""
    after = apply(s.graph(), fuse_attention, fuse_views)
    (node,) = [n for n in after if n.op == "attention"]
    return after, node


def assert_stays(s, *outputs):
    graph = s.graph(*outputs)
    assert fuse_attention(graph) is graph


def test_the_whole_chain():
    after, node = fused(chain())
    assert (node.name, node.shape) == ("w.attention", (2, 3, 5, 6))
    assert node.attrs == {"scale": 0.5}
    assert not node.params
    assert [n.name for n in after if n.op == "view"] == ["w.attention.value"]
    assert after.outputs == ("w.attention",)


@pytest.mark.parametrize(
    "scores",
    [
        lambda s, a: s.unary("changed", a, "sigmoid"),
        lambda s, a: s.scale("changed", a, random("k", 5)),
        lambda s, a: s.permute("changed", a, 0, 1, 3, 2),
        lambda s, a: s.permute("changed", a, 1, 0, 2, 3),
        lambda s, a: s.pair("changed", "add", a, s.input("mask", 5, 5)),
        lambda s, a: s.pair("changed", "add", s.input("mask", 5, 5), a),
        lambda s, a: s.unary("changed", s.input("other", 2, 2, 5, 5), "relu"),
    ],
)
def test_scores_that_are_more_than_scaled_and_shifted_stay(scores):
    assert_stays(chain((2, 2, 5), scores))


def test_a_constant_that_widens_the_scores_stays():
    def widened(s, a, op):
        return s.add("wide", op, (a,), (3, 2, 5, 5), {"const": random("c", 3, 1, 1, 1)})

    for op in ("add", "multiply"):
        s = Sketch()
        q, k, v = s.input("q", 2, 5, 4), s.input("k", 2, 5, 4), s.input("v", 3, 2, 6, 5)
        weights = s.add("softmax", "softmax", (widened(s, s.matmul("p", q, k), op),))
        s.matmul("out", weights, v)
        assert_stays(s)


def test_one_number_that_adds_an_axis_stays():
    s = Sketch()
    q, k, v = s.input("q", 2, 5, 4), s.input("k", 2, 5, 4), s.input("v", 1, 2, 6, 5)
    shape, number = (1, 2, 5, 5), {"const": np.full((1, 1, 1, 1), 0.5, np.float32)}
    scaled = s.add("scaled", "multiply", (s.matmul("p", q, k),), shape, number)
    s.matmul("out", s.add("softmax", "softmax", (scaled,)), v)
    assert_stays(s)


@pytest.mark.parametrize("number", [0.25, np.full((1, 1), 0.25)])
def test_factors_on_the_way_are_the_scale(number):
    s = chain(scores=lambda s, a: s.scale("b", s.scale("a", a, number), [3.0]))
    assert fused(s)[1].attrs == {"scale": 0.375}


def test_a_chain_with_another_function_stays():
    assert_stays(chain(softmax="unary"))


def test_a_product_with_a_scale_of_its_own_stays():
    assert_stays(chain(scale=0.5))


class TestViewsBehindTheSoftmax:
    @staticmethod
    def regrouped(softmax="softmax", view=None, reader=None):
        s = Sketch()
        q, k, v = s.input("q", 2, 3, 5, 4), s.input("k", 2, 3, 5, 4), s.input("v", 6, 7, 5)
        attrs = {"fn": "sigmoid", "args": ()} if softmax == "unary" else {}
        weights = s.add("w", softmax, (s.matmul("product", q, k),), **attrs)
        flat = view(s, weights) if view else s.reshape("flat", weights, 6, 5, 5)
        s.matmul("out", flat, v)
        if reader:
            s.unary("reader", reader, "relu")
        return s

    def test_may_regroup(self):
        _, node = fused(self.regrouped())
        assert (node.name, node.shape) == ("attention", (2, 3, 5, 7))

    def test_of_another_function_stay(self):
        assert_stays(self.regrouped("unary"))

    @pytest.mark.parametrize("reader", ["w", "flat", "product"])
    def test_whose_tensors_are_read_elsewhere_stay(self, reader):
        assert_stays(self.regrouped(reader=reader), "out", "reader")

    @pytest.mark.parametrize("axes", [(1, 0, 2, 3), (0, 1, 3, 2)])
    def test_that_move_data_stay(self, axes):
        def view(s, weights):
            return s.view("moved", weights, lambda v: v.permute(axes).reshape((6, 5, 5)))

        assert_stays(self.regrouped(view=view))


def test_rows_that_a_view_cuts_stay():
    """The view moves no data, but what was one row of five is five rows of one behind it."""
    s = Sketch()
    q, k, v = s.input("q", 2, 5, 4), s.input("k", 2, 4, 4), s.input("v", 2, 6, 2)
    rows = s.reshape("cut", s.matmul("product", q, k), 2, 10, 2)
    s.matmul("out", s.add("softmax", "softmax", (rows,)), v)
    assert_stays(s)


def test_axes_before_the_matrices_are_the_softmaxs():
    s = Sketch()
    q, k, v = (s.input(n, 6, 5, 4) for n in "qkv")
    scores = s.reshape("heads", s.matmul("product", q, k), 1, 2, 3, 5, 5)
    weights = s.reshape("flat", s.add("softmax", "softmax", (scores,)), 6, 5, 5)
    s.matmul("out", weights, s.permute("v.t", v, 0, 2, 1))
    _, node = fused(s)
    assert node.shape == (1, 2, 3, 5, 4)


def test_matrices_of_two_axes():
    s = Sketch()
    q, k, v = s.input("q", 5, 4), s.input("k", 7, 4), s.input("v", 6, 7)
    scores = s.offset("masked", s.matmul("product", q, k), random("m", 5, 7))
    s.matmul("out", s.add("softmax", "softmax", (scores,)), v)
    _, node = fused(s)
    assert node.shape == (5, 6)
    np.testing.assert_array_equal(node.params["bias"], random("m", 5, 7))


def test_biases_are_added_up_and_have_whole_matrices():
    def scores(s, a):
        b = s.offset("b", s.scale("a", a, 2.0), random("row", 5))
        return s.offset("d", s.scale("c", b, 0.25), random("head", 3, 1, 1))

    _, node = fused(chain(scores=scores))
    want = np.broadcast_to(random("row", 5) * 0.25 + random("head", 3, 1, 1), (3, 5, 5))
    np.testing.assert_allclose(node.params["bias"], want, rtol=1e-6)
    assert node.params["bias"].dtype == np.float32
    assert node.attrs == {"scale": 0.25}


@pytest.mark.parametrize("shape", [(5, 1), (1, 1), (5,)])
def test_a_constant_bias_is_a_matrix(shape):
    _, node = fused(chain(scores=lambda s, a: s.offset("b", a, random("b", *shape))))
    want = np.broadcast_to(random("b", *shape), (5, 5))
    np.testing.assert_array_equal(node.params["bias"], want)


def test_values_of_the_same_softmax_in_two_products():
    s = chain()
    s.matmul("again", "w.softmax", "v")
    assert_stays(s, "out", "again")
    assert ops(s.graph("out", "again")).count("matmul") == 3
