"""Views that must not sink, or only one way; broadcasts that must stay."""

from __future__ import annotations

import numpy as np
import pytest

from relay_passes.canonical.drop_broadcasts import drop_broadcasts
from relay_passes.canonical.fuse_views import fuse_views
from relay_passes.canonical.name_views import name_views
from relay_passes.canonical.sink_views import sink_views
from tests.relay_passes.canonical.small_graphs import (
    CHANNELS_FIRST,
    Sketch,
    apply,
    assert_stays,
    ops,
    random,
)


def first(s, name, source):
    return s.permute(name, source, *CHANNELS_FIRST)


def unfolded(s, name, source):
    """Patches of 2 x 2 pixels of an image, each a row: a bijection that is no permutation."""
    n, h, w, c = s.nodes[source].shape

    def make(view):
        split = view.reshape((n, h // 2, 2, w // 2, 2, c)).permute((0, 5, 1, 3, 2, 4))
        return split.reshape((n, c, h // 2 * w // 2, 4))

    return s.view(name, source, make)


class TestPairs:
    def test_an_image_in_each_order_stays(self):
        """Bringing one into the other's order would move data that nobody has moved yet."""
        s = Sketch()
        a = first(s, "a", s.input("x", 2, 4, 4, 3))
        s.pair("sum", "add", a, s.input("y", 2, 3, 4, 4))
        assert_stays(sink_views, s)

    def test_two_different_unfoldings_stay(self):
        s = Sketch()
        a = unfolded(s, "a", s.input("x", 2, 4, 4, 3))
        b = s.view(
            "b",
            s.input("y", 2, 16, 3),
            lambda v: v.permute((0, 2, 1)).reshape((2, 3, 4, 4)),
        )
        s.pair("sum", "add", a, b)
        after = apply(s.graph(), sink_views)
        assert after["sum"].inputs == ("a", "b")

    @pytest.mark.parametrize("turned", [False, True])
    def test_equal_unfoldings_sink(self, turned):
        s = Sketch()
        a, b = (unfolded(s, f"{n}.rows", s.input(n, 2, 4, 4, 3)) for n in "xy")
        s.pair("sum", "add", *((b, a) if turned else (a, b)))
        after = apply(s.graph(), sink_views)
        assert ops(after) == ["add", "view"]
        assert after["sum"].shape == (2, 4, 4, 3)

    @pytest.mark.parametrize("turned", [False, True])
    def test_the_permutation_decides_the_shape(self, turned):
        s = Sketch()
        flat = s.input("x", 2, 20, 3)
        a = s.view("a", flat, lambda v: v.reshape((2, 4, 5, 3)).permute(CHANNELS_FIRST))
        b = first(s, "b", s.input("y", 2, 4, 5, 3))
        s.pair("sum", "add", *((b, a) if turned else (a, b)))
        assert apply(s.graph(), sink_views)["sum"].shape == (2, 4, 5, 3)

    def test_one_number_broadcasts(self):
        s = Sketch()
        a = first(s, "a", s.input("x", 2, 4, 4, 3))
        s.pair("product", "multiply", a, s.input("y", 1, 1, 1, 1))
        after = apply(s.graph(), sink_views)
        assert after["product"].shape == (2, 4, 4, 3)
        assert after["product"].inputs[0] == "x"

    def test_an_operand_that_is_widened_does_not_sink_alone(self):
        """The view's tensor is the smaller operand: its own order is not the result's."""
        s = Sketch()
        gate = first(s, "a", s.input("x", 2, 1, 1, 3))
        s.pair("product", "multiply", s.input("y", 2, 3, 4, 4), gate)
        after = sink_views(s.graph())
        assert after["product"].shape == (2, 3, 4, 4)


class TestConcats:
    @staticmethod
    def parts(*orders):
        s = Sketch()
        names = []
        for i, order in enumerate(orders):
            x = s.input(f"x{i}", 4, 4, 4, 4)
            names.append(s.permute(f"p{i}", x, *order) if order else x)
        s.add("cat", "concat", names, (4, 4 * len(orders), 4, 4), axis=1)
        return s

    def test_of_one_order_sink(self):
        after = apply(self.parts(CHANNELS_FIRST, CHANNELS_FIRST).graph(), sink_views)
        assert ops(after) == ["concat", "view"]
        assert after["cat"].attrs == {"axis": 3}
        assert after["cat"].shape == (4, 4, 4, 8)

    @pytest.mark.parametrize(
        "orders",
        [
            (CHANNELS_FIRST, (0, 3, 2, 1)),
            (CHANNELS_FIRST, None),
            (None, CHANNELS_FIRST),
            (CHANNELS_FIRST, CHANNELS_FIRST, None),
        ],
    )
    def test_of_several_orders_stay(self, orders):
        assert_stays(sink_views, self.parts(*orders))

    def test_of_unfoldings_stay(self):
        s = Sketch()
        parts = [unfolded(s, f"{n}.rows", s.input(n, 2, 4, 4, 3)) for n in "xy"]
        s.add("cat", "concat", parts, (2, 6, 4, 4), axis=1)
        assert_stays(sink_views, s)


def test_pads_behind_unfoldings_stay():
    s = Sketch()
    a = unfolded(s, "a", s.input("x", 2, 4, 4, 3))
    pads = ((0, 0), (0, 0), (1, 0), (0, 2))
    s.add("pad", "pad", (a,), (2, 3, 5, 6), pads=pads, value=0.0)
    assert_stays(sink_views, s)


def test_pads_without_views_stay():
    s = Sketch()
    pads = ((0, 0), (1, 0), (0, 2))
    s.add("pad", "pad", (s.input("x", 2, 4, 4),), (2, 5, 6), pads=pads, value=0.0)
    assert_stays(sink_views, s)


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (3,), (1, 3), (2, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("kind", ["sum", "mean"])
def test_reductions_of_permuted_images(axes, keepdims, kind):
    s = Sketch()
    a = first(s, "a", s.input("x", 2, 4, 5, 3))
    s.reduce("r", a, kind, axes, keepdims)
    after = apply(s.graph(), sink_views)
    assert after["r"].inputs == ("x",)
    assert after["r"].attrs == {
        "kind": kind,
        "axes": tuple(sorted(CHANNELS_FIRST[a] for a in axes)),
        "keepdims": False,
    }


@pytest.mark.parametrize("axes", [(2,), (3,), (2, 3), (1, 3)])
def test_reductions_of_unfoldings(axes):
    s = Sketch()
    s.reduce("r", unfolded(s, "a", s.input("x", 2, 4, 6, 3)), "sum", axes)
    after = apply(s.graph(), fuse_views, sink_views)
    assert "a" not in after
    assert ops(after).count("reduce") == 1


def test_a_sum_over_axes_of_length_one_is_a_view():
    s = Sketch()
    turned = first(s, "a", s.input("x", 2, 4, 5, 3))
    s.reduce("r", s.reshape("flat", turned, 2, 3, 1, 20), "sum", (2,))
    assert set(ops(apply(s.graph(), fuse_views, sink_views))) == {"view"}


def test_repeated_reads_stay():
    """A view that repeats its source is no bijection: before it there is less to compute."""
    s = Sketch()
    wide = s.view("wide", s.input("x", 2, 3, 1), lambda v: v.broadcast_to((2, 3, 4)))
    s.unary("act", wide, "relu")
    assert_stays(sink_views, s)


class TestBroadcasts:
    @pytest.mark.parametrize("position", [0, 1])
    def test_an_axis_of_two_is_read_once(self, position):
        s = Sketch()
        x = s.input("x", 2, 5, 6)
        wide = s.view("wide", s.input("y", 1, 5, 6), lambda v: v.broadcast_to((2, 5, 6)))
        s.pair("sum", "add", *((wide, x) if position == 0 else (x, wide)))
        after = apply(s.graph(), drop_broadcasts)
        assert ops(after) == ["add"]
        assert after["sum"].inputs[position] == "y"

    def test_an_axis_that_the_other_operand_lacks_stays(self):
        s = Sketch()
        wide = s.view("wide", s.input("y", 5, 6), lambda v: v.broadcast_to((2, 5, 6)))
        s.pair("sum", "add", wide, s.input("x", 5, 6))
        assert_stays(drop_broadcasts, s)

    def test_an_axis_that_the_other_operand_repeats_too_stays(self):
        s = Sketch()
        wide = s.view("wide", s.input("y", 2, 1, 6), lambda v: v.broadcast_to((2, 5, 6)))
        s.pair("sum", "add", wide, s.input("x", 2, 1, 6))
        assert_stays(drop_broadcasts, s)

    def test_operands_with_fewer_axes(self):
        s = Sketch()
        wide = s.view("wide", s.input("y", 1, 6), lambda v: v.broadcast_to((5, 6)))
        s.pair("sum", "add", s.input("x", 2, 5, 6), wide)
        assert ops(apply(s.graph(), drop_broadcasts)) == ["add"]

    def test_other_operators_stay(self):
        s = Sketch()
        wide = s.view("wide", s.input("y", 1, 6), lambda v: v.broadcast_to((5, 6)))
        s.add("cat", "concat", (wide, s.input("x", 5, 6)), (5, 12), axis=1)
        s.scale("y2", wide, random("k", 6))
        assert_stays(drop_broadcasts, s, "cat", "y2")

    def test_numbers_stay(self):
        s = Sketch()
        one = s.view("one", s.input("y", 1), lambda v: v.reshape(()))
        s.pair("sum", "add", one, s.input("x", 5, 6))
        assert_stays(drop_broadcasts, s)


class TestNames:
    def test_of_views_with_several_readers(self):
        s = Sketch()
        q, k = (s.dense(n, s.input("x", 2, 5, 8) if n == "q" else "x", 8) for n in "qk")
        shared = s.view("any", q, lambda v: v.reshape((2, 5, 2, 4)).permute((0, 2, 1, 3)))
        other = s.view("other", k, lambda v: v.reshape((2, 5, 2, 4)).permute((0, 2, 1, 3)))
        s.add("attn", "attention", (shared, other, shared), (2, 2, 5, 4), scale=0.5)
        after = apply(s.graph("attn"), name_views)
        assert after["attn"].inputs == ("attn.query", "attn.key", "attn.query")
        s.unary("reader", shared, "relu")
        after = apply(s.graph("attn", "reader"), name_views)
        assert after["attn"].inputs == ("q.view", "attn.key", "q.view")

    def test_that_are_right_already_stay(self):
        s = Sketch()
        s.unary("act", s.permute("x.view", s.input("x", 2, 3), 1, 0), "relu")
        assert_stays(name_views, s)


def test_views_of_views_of_constants():
    s = Sketch()
    s.add("k", "constant", (), (2, 3), {"value": random("k", 2, 3)})
    turned = s.permute("b", s.reshape("a", "k", 3, 2), 1, 0)
    s.pair("y", "add", s.input("x", 2, 3), turned)
    after = apply(s.graph(), fuse_views)
    assert ops(after) == ["constant", "add"]
    np.testing.assert_array_equal(after["b"].params["value"], random("k", 2, 3).reshape(3, 2).T)
