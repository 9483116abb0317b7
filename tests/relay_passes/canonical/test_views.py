"""Passes over views: fusing, sinking, dropping broadcasts, merging duplicates, naming."""

from __future__ import annotations

import numpy as np
import pytest

from hyq_tvm.quantization.view import View
from relay_passes.canonical.drop_broadcasts import drop_broadcasts
from relay_passes.canonical.fuse_views import fuse_views
from relay_passes.canonical.merge_duplicates import merge_duplicates
from relay_passes.canonical.name_views import name_views
from relay_passes.canonical.sink_views import sink_views
from tests.relay_passes.canonical.small_graphs import (
    CHANNELS_FIRST,
    CHANNELS_LAST,
    Sketch,
    apply,
    ops,
    random,
)


def first(s, name, source):
    return s.permute(name, source, *CHANNELS_FIRST)


def last(s, name, source):
    return s.permute(name, source, *CHANNELS_LAST)


class TestFuse:
    def test_a_chain_becomes_one_view(self):
        s = Sketch()
        a = s.permute("a", s.input("x", 2, 3, 4), 2, 0, 1)
        b = s.view("b", a, lambda v: v.slice((1, 0, 0), (3, 2, 3)))
        s.reshape("c", b, 2, 6)
        after = apply(s.graph(), fuse_views)
        assert [(n.name, n.inputs) for n in after if n.op == "view"] == [("c", ("x",))]

    def test_permutes_that_cancel_vanish(self):
        s = Sketch()
        s.unary("y", last(s, "b", first(s, "a", s.input("x", 1, 4, 4, 3))), "relu")
        assert ops(apply(s.graph(), fuse_views)) == ["unary"]

    def test_what_is_not_one_read_stays_two(self):
        s = Sketch()
        a = s.permute("a", s.input("x", 4, 6), 1, 0)
        s.permute("c", s.reshape("b", a, 8, 3), 1, 0)
        assert ops(apply(s.graph(), fuse_views)) == ["view", "view"]

    def test_views_of_constants_are_computed(self):
        s = Sketch()
        s.add("k", "constant", (), (2, 3), {"value": random("k", 2, 3)})
        s.pair("y", "add", s.input("x", 3, 2), s.permute("v", "k", 1, 0))
        after = apply(s.graph(), fuse_views)
        assert ops(after) == ["constant", "add"]
        np.testing.assert_array_equal(after["v"].params["value"], random("k", 2, 3).T)


class TestSink:
    def test_layout_permutes_cancel_across_elementwise_operators(self):
        s = Sketch()
        a = first(s, "a", s.conv2d("conv1", s.input("x", 2, 4, 4, 3), 6))
        c = s.offset("bias", s.scale("bn", a, random("s", 6, 1, 1)), random("o", 6, 1, 1))
        s.conv2d("conv2", last(s, "b", s.unary("act", c, "silu")), 5)
        after = apply(s.graph(), sink_views, fuse_views)
        assert ops(after) == ["conv2d", "multiply", "add", "unary", "conv2d"]
        assert after["bn"].params["const"].shape == (6,)

    def test_residual_adds_and_concats(self):
        s = Sketch()
        x = s.input("x", 2, 4, 4, 3)
        a, b = (first(s, f"{n}.p", s.conv2d(n, x, 6)) for n in ("conv1", "conv2"))
        both = s.add("cat", "concat", (s.pair("sum", "add", a, b), a), (2, 12, 4, 4), axis=1)
        s.conv2d("conv3", last(s, "back", both), 5)
        after = apply(s.graph(), sink_views, fuse_views)
        assert ops(after, "conv2d") == ["add", "concat"]
        assert after["cat"].attrs["axis"] == 3

    def test_channel_gates_broadcast_in_the_new_order(self):
        s = Sketch()
        a = first(s, "a", s.conv2d("conv1", s.input("x", 2, 4, 4, 3), 6))
        gate = s.unary("gate", s.reduce("mean", a, "mean", (2, 3), keepdims=True), "sigmoid")
        s.conv2d("conv2", last(s, "b", s.pair("se", "multiply", a, gate)), 5)
        after = apply(s.graph(), *(sink_views, fuse_views) * 2)
        assert not [n for n in after if n.op == "view" and not n.attrs["view"].is_identity]
        assert after["mean"].attrs["axes"] == (1, 2)
        assert after["se"].shape == (2, 4, 4, 6)

    def test_a_slice_of_channels_is_read_before_and_the_rest_sinks(self):
        s = Sketch()
        a = first(s, "a", s.conv2d("conv1", s.input("x", 2, 4, 4, 3), 6))
        half = s.view("half", a, lambda v: v.slice((0, 2, 0, 0), (2, 5, 4, 4)))
        s.conv2d("conv2", last(s, "b", s.unary("act", half, "relu")), 5)
        after = apply(s.graph(), fuse_views, sink_views, fuse_views)
        assert ops(after) == ["conv2d", "view", "unary", "conv2d"]
        assert after["act"].shape == (2, 4, 4, 3)

    def test_views_that_keep_rows_stay(self):
        s = Sketch()
        rows = s.reshape("rows", s.input("x", 2, 4, 4, 6), 2, 16, 6)
        s.unary("act", s.permute("swap", rows, 1, 0, 2), "relu")
        graph = s.graph()
        assert sink_views(fuse_views(graph))["act"].shape == (16, 2, 6)

    def test_merged_heads_stay_merged(self):
        """Behind the merge the last axis is the embedding's again."""
        s = Sketch()
        heads = s.permute("heads", s.input("x", 2, 3, 5, 4), 0, 2, 1, 3)
        s.unary("act", s.reshape("merged", heads, 2, 5, 12), "hardswish")
        assert sink_views(fuse_views(s.graph()))["act"].shape == (2, 5, 12)

    def test_scores_spread_over_heads_compute_before(self):
        s = Sketch()
        split = s.reshape("split", s.dense("q", s.input("x", 2, 5, 12), 12), 2, 5, 3, 4)
        s.scale("scaled", s.permute("heads", split, 0, 2, 1, 3), 0.5)
        assert ops(apply(s.graph(), fuse_views, sink_views)) == ["dense", "multiply", "view"]

    @pytest.mark.parametrize("axes", [(1,), (2,), (1, 2), (0, 2)])
    @pytest.mark.parametrize("keepdims", [False, True])
    def test_reductions_over_reshaped_axes(self, axes, keepdims):
        s = Sketch()
        a = first(s, "a", s.input("x", 2, 4, 5, 3))
        s.reduce("sum", s.reshape("flat", a, 2, 3, 20), "sum", axes, keepdims)
        after = apply(s.graph(), fuse_views, sink_views)
        assert not any(n.op == "view" and not n.attrs["view"].is_identity for n in after)

    def test_pads_move_with_their_axes(self):
        s = Sketch()
        a = first(s, "a", s.input("x", 2, 4, 5, 3))
        pads = ((0, 0), (0, 1), (2, 3), (4, 0))
        s.add("pad", "pad", (a,), (2, 4, 9, 9), pads=pads, value=0.5)
        after = apply(s.graph(), sink_views)
        assert after["pad"].attrs["pads"] == ((0, 0), (2, 3), (4, 0), (0, 1))

    def test_a_permutation_wins_over_an_unfolding(self):
        """The residual stream keeps the order that its layers compute in: one view, not two."""
        s = Sketch()
        image = s.conv2d("embed", s.input("x", 1, 4, 4, 8), 8)
        split = s.reshape("split", first(s, "p", image), 1, 8, 2, 2, 2, 2)
        patches = s.reshape("patches", s.permute("unfold", split, 0, 1, 3, 5, 2, 4), 1, 8, 4, 4)
        inner = first(s, "q", s.conv2d("mlp", last(s, "r", patches), 8))
        s.conv2d("next", last(s, "t", s.pair("sum", "add", patches, inner)), 8)
        after = apply(s.graph(), *(fuse_views, sink_views) * 3, merge_duplicates)
        assert ops(after) == ["conv2d", "view", "conv2d", "add", "conv2d"]


class TestBroadcasts:
    def test_an_operand_is_not_repeated_in_memory(self):
        s = Sketch()
        x, y = s.input("x", 2, 5, 6), s.input("y", 2, 1, 6)
        s.pair("sum", "add", x, s.view("wide", y, lambda v: v.broadcast_to((2, 5, 6))))
        assert ops(apply(s.graph(), drop_broadcasts)) == ["add"]

    def test_both_operands_repeated_keep_one_repetition(self):
        s = Sketch()
        wide = [
            s.view(f"{n}.wide", s.input(n, 2, 1, 6), lambda v: v.broadcast_to((2, 5, 6)))
            for n in ("x", "y")
        ]
        s.pair("sum", "multiply", *wide)
        after = apply(s.graph(), drop_broadcasts, drop_broadcasts)
        assert after["sum"].shape == (2, 5, 6)
        assert ops(after).count("view") == 1

    def test_repetition_along_part_of_an_axis_stays(self):
        s = Sketch()
        x = s.input("x", 2, 6)
        twice = s.view("twice", s.input("y", 2, 3), lambda v: tiled(v))
        s.pair("sum", "add", x, twice)
        graph = s.graph()
        assert drop_broadcasts(graph) is graph


def tiled(view):
    return view.reshape((2, 1, 3)).broadcast_to((2, 2, 3)).reshape((2, 6))


def test_duplicates_are_computed_once():
    s = Sketch()
    x = s.input("x", 3, 4)
    a, b = (s.unary(n, x, "relu") for n in ("a", "b"))
    c, d = s.scale("c", a, [2.0]), s.scale("d", b, [2.0])
    e = s.scale("e", b, [3.0])
    s.pair("f", "add", s.pair("g", "add", c, d), e)
    after = apply(s.graph(), merge_duplicates)
    assert [n.name for n in after] == ["x", "a", "c", "e", "g", "f"]


def test_large_constants_are_not_compared():
    s = Sketch()
    x = s.input("x", 2, 2048)
    s.pair("c", "add", s.scale("a", x, random("k", 2048)), s.scale("b", x, random("k", 2048)))
    graph = s.graph()
    assert merge_duplicates(graph) is graph


def test_views_are_named_after_what_they_read_or_make():
    s = Sketch()
    x = s.input("x", 2, 5, 8)
    q, k, v = (
        s.view(
            f"view.{i}",
            s.dense(f"proj.{i}", x, 8),
            lambda v: v.reshape((2, 5, 2, 4)).permute((0, 2, 1, 3)),
        )
        for i in range(3)
    )
    out = s.add("attn", "attention", (q, k, v), (2, 2, 5, 4), scale=0.5)
    s.permute("anything", out, 0, 2, 1, 3)
    after = apply(s.graph(), name_views)
    named = {n.name: n.attrs["view"] for n in after if n.op == "view"}
    assert list(named) == ["attn.query", "attn.key", "attn.value", "attn.view"]
    assert named["attn.query"] == View.identity((2, 5, 2, 4)).permute((0, 2, 1, 3))
