"""What the folding passes leave alone: one near miss for every condition."""

from __future__ import annotations

import numpy as np
import pytest

from relay_passes.canonical.builder import rewrite
from relay_passes.canonical.fold_affine import fold_affine
from relay_passes.canonical.fold_into_tables import fold_into_tables
from relay_passes.canonical.fold_matmul_scale import fold_matmul_scale
from relay_passes.canonical.fold_norm_affine import fold_norm_affine
from relay_passes.canonical.fold_padding import fold_padding
from tests.relay_passes.canonical.small_graphs import (
    Sketch,
    apply,
    assert_stays,
    ops,
    random,
    widened,
)


def test_a_replaced_node_counts_as_a_change():
    s = Sketch()
    s.unary("y", s.unary("x1", s.input("x", 2), "relu"), "tanh")

    def rule(new, node):
        if node.name == "y":
            new.replace("x1", new["x1"].with_(attrs={"fn": "exp", "args": ()}))

    after = rewrite(s.graph(), rule)
    assert [n.attrs["fn"] for n in after if n.op == "unary"] == ["exp", "tanh"]


class TestFoldAffineBehindViews:
    def test_that_others_read(self):
        s = Sketch()
        a = s.permute("swap", s.dense("fc", s.input("x", 2, 5, 6), 8), 1, 0, 2)
        s.scale("ls", a, random("k", 8))
        assert ops(apply(s.graph(), fold_affine)) == ["dense", "view"]
        assert_stays(fold_affine, s, "ls", "swap")

    def test_whose_layer_others_read(self):
        s = Sketch()
        a = s.permute("swap", s.dense("fc", s.input("x", 2, 5, 6), 8), 1, 0, 2)
        s.scale("ls", a, random("k", 8))
        assert_stays(fold_affine, s, "ls", "fc")

    def test_that_move_channels(self):
        s = Sketch()
        a = s.permute("swap", s.dense("fc", s.input("x", 2, 8, 6), 8), 0, 2, 1)
        s.scale("ls", a, random("k", 8))
        assert_stays(fold_affine, s)

    def test_of_what_is_no_layer(self):
        s = Sketch()
        a = s.permute("swap", s.unary("act", s.input("x", 2, 5, 6), "relu"), 1, 0, 2)
        s.scale("ls", a, random("k", 6))
        assert_stays(fold_affine, s)

    @pytest.mark.parametrize("op", ["add", "multiply"])
    def test_that_the_constant_widens(self, op):
        s = Sketch()
        a = s.dense("fc", s.input("x", 1, 6), 8)
        widened(s, "ls", op, a, (1, 1, 8), random("k", 1, 1, 8)[..., :])
        assert_stays(fold_affine, s)


class TestFoldAffineAhead:
    def test_offsets_fold_into_all_readers_without_padding(self):
        s = Sketch()
        a = s.offset("o", s.input("x", 2, 5, 5, 4), random("k", 4))
        s.conv2d("a", a, 3, 3)
        s.conv2d("b", a, 3, 1)
        assert ops(apply(s.graph("a", "b"), fold_affine)) == ["conv2d", "conv2d"]

    @pytest.mark.parametrize("first", [0, 1])
    def test_one_reader_with_padding_keeps_the_offset(self, first):
        s = Sketch()
        a = s.offset("o", s.input("x", 2, 5, 5, 4), random("k", 4))
        s.conv2d("a", a, 3, 3, first)
        s.conv2d("b", a, 3, 3, 1 - first)
        assert_stays(fold_affine, s, "a", "b")

    def test_factors_fold_into_readers_with_padding(self):
        s = Sketch()
        a = s.scale("o", s.input("x", 2, 5, 5, 4), random("k", 4))
        s.conv2d("a", a, 3, 3)
        s.conv2d("b", a, 3, 3, 1)
        assert ops(apply(s.graph("a", "b"), fold_affine)) == ["conv2d", "conv2d"]

    def test_offsets_fold_into_dense_readers(self):
        s = Sketch()
        a = s.offset("o", s.input("x", 2, 4), random("k", 4))
        s.dense("a", a, 3)
        s.dense("b", a, 5)
        assert ops(apply(s.graph("a", "b"), fold_affine)) == ["dense", "dense"]

    def test_an_affine_that_is_an_output_stays(self):
        s = Sketch()
        s.dense("a", s.scale("o", s.input("x", 2, 4), random("k", 4)), 3)
        assert_stays(fold_affine, s, "a", "o")

    @pytest.mark.parametrize("const", [random("k", 2, 1), random("k", 2, 4)])
    def test_constants_along_other_axes_stay(self, const):
        s = Sketch()
        s.dense("a", s.scale("o", s.input("x", 2, 4), const), 3)
        assert_stays(fold_affine, s)

    def test_a_constant_that_widens_stays(self):
        s = Sketch()
        s.dense("a", widened(s, "o", "multiply", s.input("x", 3, 1), (3, 4), random("k", 4)), 3)
        assert_stays(fold_affine, s)

    @pytest.mark.parametrize("op", ["add", "multiply"])
    def test_sums_and_products_of_two_tensors_stay(self, op):
        s = Sketch()
        s.dense("a", s.pair("o", op, s.input("x", 2, 4), s.input("y", 2, 4)), 3)
        assert_stays(fold_affine, s)


def norm(s, *shape):
    params = {"gamma": random("g", shape[-1]), "beta": random("b", shape[-1])}
    return s.add("norm", "layer_norm", (s.input("x", *shape),), None, params, eps=1e-5)


@pytest.mark.parametrize("op", ["add", "multiply"])
class TestFoldNormAffine:
    def test_constants_along_other_axes_stay(self, op):
        s = Sketch()
        s.add("y", op, (norm(s, 2, 5, 6),), (2, 5, 6), {"const": random("k", 5, 6)})
        assert_stays(fold_norm_affine, s)

    def test_a_constant_that_widens_stays(self, op):
        s = Sketch()
        widened(s, "y", op, norm(s, 5, 6), (1, 5, 6), random("k", 1, 1, 6))
        assert_stays(fold_norm_affine, s)

    def test_two_tensors_stay(self, op):
        s = Sketch()
        s.pair("y", op, norm(s, 5, 6), s.input("z", 5, 6))
        assert_stays(fold_norm_affine, s)

    def test_others_than_norms_stay(self, op):
        s = Sketch()
        s.add("y", op, (s.unary("a", s.input("x", 5, 6), "relu"),), None, {"const": random("k", 6)})
        assert_stays(fold_norm_affine, s)


class TestFoldMatmulScale:
    def test_a_product_that_others_read_stays(self):
        s = Sketch()
        s.scale("y", s.matmul("p", s.input("a", 2, 4), s.input("b", 3, 4)), 0.5)
        assert_stays(fold_matmul_scale, s, "y", "p")

    def test_a_number_that_adds_an_axis_stays(self):
        s = Sketch()
        product = s.matmul("p", s.input("a", 2, 4), s.input("b", 3, 4))
        widened(s, "y", "multiply", product, (1, 2, 3), np.full((1, 1, 1), 0.5, np.float32))
        assert_stays(fold_matmul_scale, s)
        s = Sketch()
        one = np.full((1, 1, 1), 0.5, np.float32)
        a = widened(s, "wide", "multiply", s.input("a", 2, 4), (1, 2, 4), one)
        s.matmul("p", a, s.input("b", 1, 3, 4))
        assert_stays(fold_matmul_scale, s)

    def test_numbers_of_any_shape_are_numbers(self):
        s = Sketch()
        a = s.scale("a.scaled", s.input("a", 2, 4), [[0.5]])
        s.scale("y", s.matmul("p", a, s.input("b", 3, 4)), [3.0])
        after = apply(s.graph(), fold_matmul_scale)
        assert [(n.op, n.attrs) for n in after][2:] == [("matmul", {"scale": 1.5})]

    def test_others_stay(self):
        s = Sketch()
        s.scale("y", s.unary("p", s.input("a", 2, 4), "relu"), 0.5)
        s.matmul("z", s.offset("o", "p", 0.5), s.input("b", 3, 4))
        assert_stays(fold_matmul_scale, s, "y", "z")

    def test_a_product_of_two_tensors_stays(self):
        s = Sketch()
        product = s.matmul("p", s.input("a", 2, 4), s.input("b", 3, 4))
        s.pair("y", "multiply", product, s.input("c", 2, 3))
        s.matmul("z", "y", s.input("d", 2, 3))
        assert_stays(fold_matmul_scale, s)


class TestFoldPadding:
    @pytest.mark.parametrize(
        "pads",
        [
            ((1, 0), (1, 1), (1, 1), (0, 0)),
            ((0, 1), (1, 1), (1, 1), (0, 0)),
            ((0, 0), (1, 1), (1, 1), (1, 0)),
            ((0, 0), (1, 1), (1, 1), (0, 1)),
        ],
    )
    def test_of_batches_or_channels_stays(self, pads):
        s = Sketch()
        shape = tuple(n + sum(pad) for n, pad in zip((2, 4, 4, 6), pads, strict=True))
        s.conv2d(
            "conv", s.add("pad", "pad", (s.input("x", 2, 4, 4, 6),), shape, pads=pads, value=0.0), 4
        )
        assert_stays(fold_padding, s)

    def test_before_other_layers_stays(self):
        s = Sketch()
        pads = ((0, 0), (1, 1), (1, 1), (0, 0))
        a = s.add("pad", "pad", (s.input("x", 2, 4, 4, 6),), (2, 6, 6, 6), pads=pads, value=0.0)
        s.dense("fc", a, 3)
        assert_stays(fold_padding, s)

    def test_no_padding_is_nothing_to_fold(self):
        s = Sketch()
        s.conv2d("conv", s.unary("act", s.input("x", 2, 4, 4, 6), "relu"), 3)
        assert_stays(fold_padding, s)


class TestFoldIntoTables:
    @staticmethod
    def table(s, fn="silu"):
        return s.unary("t", s.input("x", 2, 3), fn)

    def test_numbers_fold_and_their_shape_does_not_matter(self):
        s = Sketch()
        s.offset("o", s.scale("y", self.table(s), [[2.0]]), [0.5])
        after = apply(s.graph(), fold_into_tables)
        found = [(n.name, n.attrs) for n in after if n.op == "unary"]
        assert found == [("o", {"fn": "silu_affine", "args": (2.0, 0.5)})]

    def test_vectors_stay(self):
        s = Sketch()
        s.scale("y", self.table(s), random("k", 3))
        assert_stays(fold_into_tables, s)

    def test_a_number_that_adds_an_axis_stays(self):
        s = Sketch()
        number = np.ones((1, 1, 1), np.float32)
        widened(s, "y", "add", self.table(s), (1, 2, 3), number)
        assert_stays(fold_into_tables, s)

    @pytest.mark.parametrize("op", ["add", "multiply"])
    def test_two_tensors_stay(self, op):
        s = Sketch()
        s.pair("y", op, self.table(s), s.input("z", 2, 3))
        assert_stays(fold_into_tables, s)

    def test_others_than_tables_stay(self):
        s = Sketch()
        s.scale("y", self.table(s, "relu"), 2.0)
        s.scale("z", s.dense("fc", "x", 4), 2.0)
        assert_stays(fold_into_tables, s, "y", "z")

    def test_tables_that_others_read_stay(self):
        s = Sketch()
        s.scale("y", self.table(s), 2.0)
        assert_stays(fold_into_tables, s, "y", "t")
