"""What the merging and collecting passes leave alone: one near miss for every condition."""

from __future__ import annotations

import numpy as np
import pytest

from relay_passes.canonical.collect_terms import collect_terms
from relay_passes.canonical.merge_constants import merge_constants
from relay_passes.canonical.merge_duplicates import merge_duplicates
from relay_passes.canonical.merge_parallel_layers import merge_parallel_layers
from tests.relay_passes.canonical.small_graphs import (
    Sketch,
    apply,
    assert_stays,
    ops,
    random,
    widened,
)


class TestMergeConstants:
    def test_different_operators_stay_apart(self):
        s = Sketch()
        s.offset("b", s.scale("a", s.input("x", 2, 3), 2.0), 3.0)
        assert_stays(merge_constants, s)

    @pytest.mark.parametrize(("op", "idle"), [("add", 0.0), ("multiply", 1.0)])
    def test_idle_ones_that_widen_stay(self, op, idle):
        s = Sketch()
        widened(s, "y", op, s.input("x", 1, 3), (2, 3), np.full((2, 1), idle, np.float32))
        after = merge_constants(s.graph())
        assert [n.op for n in after] == ["input", op]

    @pytest.mark.parametrize(("op", "other"), [("add", 1.0), ("multiply", 0.0)])
    def test_the_others_idle_number_is_none(self, op, other):
        s = Sketch()
        s.add("y", op, (s.input("x", 2, 3),), None, {"const": np.float32(other)})
        assert_stays(merge_constants, s)

    def test_one_that_widens_stays_behind(self):
        s = Sketch()
        a = s.offset("a", s.input("x", 1, 3), random("l", 3))
        widened(s, "b", "add", a, (2, 3), random("k", 2, 1))
        assert_stays(merge_constants, s)

    def test_constants_are_made_small(self):
        s = Sketch()
        s.scale("y", s.input("x", 2, 3), np.full((2, 3), 2.0))
        after = apply(s.graph(), merge_constants)
        assert after["y"].params["const"].shape == ()

    @pytest.mark.parametrize("first", [False, True])
    def test_constant_nodes_move_in_from_either_side(self, first):
        s = Sketch()
        s.add("k", "constant", (), (2, 3), {"value": random("k", 2, 3)})
        x = s.input("x", 2, 3)
        s.pair("y", "add", *(("k", x) if first else (x, "k")))
        after = apply(s.graph(), merge_constants)
        assert after["y"].inputs == ("x",)
        np.testing.assert_array_equal(after["y"].params["const"], random("k", 2, 3))


class TestMergeDuplicates:
    @pytest.mark.parametrize(("size", "count"), [(4096, 1), (4097, 2)])
    def test_constants_up_to_4096_bytes_are_compared(self, size, count):
        s = Sketch()
        x = s.input("x", 1, size)
        for name in ("a", "b"):
            s.add(name, "add", (x,), None, {"const": np.ones(size, np.int8)})
        after = merge_duplicates(s.graph("a", "b"))
        assert len([n for n in after if n.op == "add"]) == count

    def test_of_other_shapes_or_arguments_stay(self):
        s = Sketch()
        x = s.input("x", 2, 3)
        s.unary("a", x, "clip", 0.0, 1.0)
        s.unary("b", x, "clip", 0.0, 2.0)
        s.scale("c", x, np.ones((1, 3)) * 2)
        s.scale("d", x, np.ones(3) * 2)
        assert_stays(merge_duplicates, s, *"abcd")

    def test_inputs_stay(self):
        s = Sketch()
        a, b = s.input("a", 2, 3), s.input("b", 2, 3)
        s.pair("c", "add", a, b)
        assert_stays(merge_duplicates, s)


class TestMergeParallelLayers:
    def test_layers_that_others_read_stay(self):
        for extra in "ab":
            s = Sketch()
            x = s.input("x", 2, 6)
            s.pair("sum", "add", s.dense("a", x, 5), s.dense("b", x, 5))
            assert_stays(merge_parallel_layers, s, "sum", extra)

    def test_others_than_layers_stay(self):
        s = Sketch()
        x = s.input("x", 2, 6)
        s.pair("sum", "add", s.scale("a", x, random("k", 6)), s.scale("b", x, random("l", 6)))
        assert_stays(merge_parallel_layers, s)

    def test_one_layer_twice_stays(self):
        s = Sketch()
        a = s.dense("a", s.input("x", 2, 6), 5)
        s.pair("sum", "add", a, a)
        assert_stays(merge_parallel_layers, s)

    def test_products_stay(self):
        s = Sketch()
        x = s.input("x", 2, 6)
        s.pair("product", "multiply", s.dense("a", x, 5), s.dense("b", x, 5))
        assert_stays(merge_parallel_layers, s)

    def test_a_layer_and_a_constant_stay(self):
        s = Sketch()
        s.offset("sum", s.dense("a", s.input("x", 2, 6), 5), random("k", 5))
        assert_stays(merge_parallel_layers, s)

    def test_layers_that_broadcast_stay(self):
        s = Sketch()
        x = s.input("x", 2, 6)
        s.pair("sum", "add", s.dense("a", x, 5), s.dense("b", x, 1))
        assert_stays(merge_parallel_layers, s)

    def test_convolutions_merge(self):
        s = Sketch()
        x = s.input("x", 2, 4, 4, 6)
        s.pair("sum", "add", s.conv2d("a", x, 5, 3, 1), s.conv2d("b", x, 5, 3, 1))
        assert ops(apply(s.graph(), merge_parallel_layers)) == ["conv2d"]


class TestCollectTerms:
    def test_products_stay(self):
        s = Sketch()
        x, y = s.input("x", 2, 3), s.input("y", 2, 3)
        s.pair("product", "multiply", x, s.pair("sum", "add", x, y))
        assert_stays(collect_terms, s)

    def test_a_tensor_twice_alone_stays(self):
        s = Sketch()
        x = s.input("x", 2, 3)
        s.pair("sum", "add", x, s.scale("a", x, 2.0))
        assert_stays(collect_terms, s)

    def test_factors_are_collected(self):
        s = Sketch()
        x, y = s.input("x", 2, 3), s.input("y", 2, 3)
        inner = s.scale("half", s.pair("inner", "add", s.scale("a", x, 3.0), y), 0.5)
        s.pair("sum", "add", inner, s.scale("b", x, -2.0))
        after = apply(s.graph(), collect_terms)
        assert [(n.name, n.inputs) for n in after][2:] == [
            ("sum.term", ("x",)),
            ("sum.term.1", ("y",)),
            ("sum", ("sum.term", "sum.term.1")),
        ]
        assert after["sum.term"].params["const"] == np.float32(-0.5)
        assert after["sum.term.1"].params["const"] == np.float32(0.5)

    def test_a_factor_of_one_is_none(self):
        s = Sketch()
        x, y, z = (s.input(n, 2, 3) for n in "xyz")
        inner = s.pair("b", "add", s.pair("a", "add", x, y), z)
        s.pair("c", "add", inner, s.scale("minus", y, -3.0))
        after = apply(s.graph(), collect_terms)
        assert [(n.name, n.op, n.inputs) for n in after][3:] == [
            ("c.term", "multiply", ("y",)),
            ("c.partial", "add", ("x", "c.term")),
            ("c", "add", ("c.partial", "z")),
        ]

    @pytest.mark.parametrize("wide", ["scaled", "summed"])
    def test_inner_nodes_of_another_shape_are_terms(self, wide):
        s = Sketch()
        x, row = s.input("x", 2, 3), s.input("row", 3)
        if wide == "scaled":
            inner = widened(s, "inner", "multiply", row, (2, 3), random("k", 2, 1))
        else:
            inner = s.pair("inner", "add", row, s.unary("act", row, "relu"))
        s.pair("sum", "add", s.pair("first", "add", x, inner), row)
        assert_stays(collect_terms, s)
