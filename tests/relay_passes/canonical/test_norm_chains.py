"""Normalisation written out: which chains are one norm, and which near ones are none."""

from __future__ import annotations

import numpy as np
import pytest

from relay_passes.canonical.fuse_views import fuse_views
from relay_passes.canonical.recognise_norms import recognise_norms
from tests.relay_passes.canonical.small_graphs import Sketch, apply, ops, random


class Chain:
    """Mean, difference, square, mean, root, product of ``x``; every step can be replaced."""

    def __init__(self, s, x, axes, split=None, kept=None):
        self.s, self.x, self.axes, self.kept = s, x, axes, kept
        self.split = split or s.nodes[x].shape

    def mean(self, name, source, kind="mean"):
        """Over ``axes`` of the shape ``split``, with as many axes as ``x`` has."""
        s, shape = self.s, self.s.nodes[self.x].shape
        same = self.split == s.nodes[source].shape
        inside = source if same else s.reshape(f"{name}.split", source, *self.split)
        made = s.reduce(name, inside, kind, self.axes)
        kept = self.kept or [1 if a in self.axes else n for a, n in enumerate(shape)]
        return s.reshape(f"{name}.kept", made, *kept)

    def negated(self, mean):
        return self.s.scale("minus", mean, -1.0)

    def centred(self):
        return self.s.pair("centred", "add", self.x, self.negated(self.mean("mean", self.x)))

    def variance(self, centred):
        return self.mean("variance", self.s.unary("square", centred, "square"))

    def total(self, variance):
        return self.s.offset("eps", variance, 0.25)

    def root(self, total):
        return self.s.unary("root", total, "rsqrt")

    def write(self):
        centred = self.centred()
        root = self.root(self.total(self.variance(centred)))
        return self.s.pair("norm", "multiply", centred, root)


def chain(shape, axes, kind=Chain, **options):
    s = Sketch()
    one = kind(s, s.input("x", *shape), axes, **options)
    one.write()
    return s


def found(s):
    """The graph after the pass, which computes the same; and the norm in it."""
    after = apply(s.graph(), recognise_norms)
    (norm,) = [n for n in after if n.op in ("layer_norm", "group_norm")]
    return after, norm


def assert_stays(s):
    graph = s.graph()
    assert recognise_norms(graph) is graph


def test_a_layer_norm_is_exactly_this():
    after, norm = found(chain((2, 5, 6), (2,)))
    assert [n.name for n in after] == ["x", "norm"]
    assert norm.op == "layer_norm"
    assert norm.attrs == {"eps": 0.25}
    np.testing.assert_array_equal(norm.params["gamma"], np.ones(6, np.float32), strict=True)
    np.testing.assert_array_equal(norm.params["beta"], np.zeros(6, np.float32), strict=True)


def test_a_group_norm_of_one_group_is_exactly_this():
    after, norm = found(chain((2, 5, 6), (1, 2)))
    assert [n.name for n in after] == ["x", "norm"]
    assert norm.attrs == {"eps": 0.25, "groups": 1}


@pytest.mark.parametrize(
    ("shape", "axes", "split", "kept"),
    [
        ((2, 5, 6), (2, 3), (2, 5, 2, 3), (2, 5, 1)),
        ((2, 4, 6), (3,), (2, 2, 2, 6), (2, 4, 1)),
        ((2, 5, 6), (1,), (10, 6), (2, 5, 1)),
        ((3, 2, 7), (3,), (3, 1, 2, 7), (3, 2, 1)),
        ((12, 5), (3,), (2, 3, 2, 5), (12, 1)),
    ],
)
def test_means_may_be_taken_under_another_shape(shape, axes, split, kept):
    s = Sketch()
    Chain(s, s.input("x", *shape), axes, split, kept).write()
    after, norm = found(s)
    assert (norm.op, norm.inputs, norm.shape) == ("layer_norm", ("x",), shape)
    assert len(after) == 2


def test_over_several_axes_as_one():
    s = Sketch()
    Chain(s, s.input("x", 2, 5, 6), (1,), (2, 30), (2, 1, 1)).write()
    assert found(s)[1].attrs == {"eps": 0.25, "groups": 1}


def test_parts_of_an_axis_are_no_norm_of_it():
    """Half of the rows' numbers at a time: the shape in which they are rows is normalised."""
    s = Sketch()
    halves = s.reshape("halves", s.input("x", 2, 6), 2, 2, 3)
    Chain(s, halves, (2,)).write()
    _, norm = found(s)
    assert (norm.op, norm.inputs, norm.shape) == ("layer_norm", ("halves",), (2, 2, 3))


@pytest.mark.parametrize("shape", [(1,), (2, 5, 1), (5, 1), (2, 3, 4, 1)])
def test_over_an_axis_of_length_one(shape):
    _, norm = found(chain(shape, (len(shape) - 1,)))
    assert (norm.op, norm.inputs) == ("layer_norm", ("x",))


def test_over_all_but_an_axis_of_length_one():
    """The last axis has one number: it belongs to the means before it as well."""
    _, norm = found(chain((2, 5, 1), (1,)))
    assert norm.attrs == {"eps": 0.25, "groups": 1}


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((2, 5, 6), (1,)),
        ((2, 5, 6), (0,)),
        ((1, 5, 6), (0,)),
        ((4, 5), (0,)),
        ((2, 5, 6), (0, 2)),
    ],
)
def test_over_other_axes_they_stay(shape, axes):
    assert_stays(chain(shape, axes))


class Summed(Chain):
    def mean(self, name, source, kind="mean"):
        return super().mean(name, source, "sum" if name == "mean" else kind)


class SummedSquares(Chain):
    def mean(self, name, source, kind="mean"):
        return super().mean(name, source, "sum" if name == "variance" else kind)


class Doubled(Chain):
    def negated(self, mean):
        return self.s.scale("minus", mean, -2.0)


class MinusOneAdded(Chain):
    def negated(self, mean):
        return self.s.offset("minus", mean, -1.0)


class MinusOneEach(Chain):
    def negated(self, mean):
        return self.s.scale("minus", mean, -np.ones((5, 1)))


class MeanOfAnother(Chain):
    def centred(self):
        other = self.s.input("other", *self.s.nodes[self.x].shape)
        mean = self.mean("mean", other)
        return self.s.pair("centred", "add", self.x, self.negated(mean))


class NoMean(Chain):
    def centred(self):
        other = self.s.input("other", *self.s.nodes[self.x].shape)
        return self.s.pair("centred", "add", self.x, self.negated(other))


class Plain(Chain):
    """Divided by its own root mean square, without a mean taken away."""

    def centred(self):
        return self.x


class Offset(Chain):
    def centred(self):
        return self.s.offset("centred", self.x, 1.0)


class Scaled(Chain):
    def total(self, variance):
        return self.s.scale("eps", variance, 0.25)


class EpsilonEach(Chain):
    def total(self, variance):
        return self.s.offset("eps", variance, 0.25 * np.ones((5, 1)))


class EpsilonGiven(Chain):
    def total(self, variance):
        given = self.s.input("given", *self.s.nodes[variance].shape)
        square = self.s.unary("positive", given, "square")
        return self.s.pair("eps", "add", variance, square)


class NoRoot(Chain):
    def root(self, total):
        return self.s.unary("root", total, "sigmoid")


class RootOfAnother(Chain):
    def variance(self, centred):
        return self.mean("variance", self.s.unary("square", self.x, "square"))


class AbsoluteValues(Chain):
    def variance(self, centred):
        return self.mean("variance", self.s.unary("square", centred, "abs"))


class NotSquared(Chain):
    def variance(self, centred):
        return self.s.unary("square", self.mean("variance", centred), "square")


class OtherAxes(Chain):
    def variance(self, centred):
        self.axes = (1, 2)
        return self.mean("variance", self.s.unary("square", centred, "square"))


NEAR = [Summed, SummedSquares, Doubled, MinusOneAdded, MinusOneEach, MeanOfAnother, NoMean]
NEAR += [Plain, Offset, Scaled, EpsilonEach, EpsilonGiven, NoRoot, RootOfAnother]
NEAR += [AbsoluteValues, NotSquared, OtherAxes]


@pytest.mark.parametrize("kind", NEAR)
def test_what_differs_in_one_step_stays(kind):
    assert_stays(chain((2, 5, 6), (2,), kind))


class MeanFirst(Chain):
    def centred(self):
        return self.s.pair("centred", "add", self.negated(self.mean("mean", self.x)), self.x)


def test_the_mean_may_come_first():
    assert found(chain((2, 5, 6), (2,), MeanFirst))[1].op == "layer_norm"


def test_a_product_that_widens_is_no_norm():
    """The root of one batch multiplies another's: ``centred`` has fewer rows than the product."""
    s = Sketch()
    one = Chain(s, s.input("x", 1, 5, 6), (2,))
    centred = one.centred()
    root = one.root(one.total(one.variance(centred)))
    wide = s.view("wide", root, lambda view: view.broadcast_to((3, 5, 1)))
    s.pair("norm", "multiply", centred, wide)
    assert_stays(s)


def groups_of(shape, split):
    """Rows of ``split``, normalised, of an image of ``shape`` with its channels first."""
    s = Sketch()
    rank = len(shape)
    first = s.permute("first", s.input("x", *shape), 0, rank - 1, *range(1, rank - 1))
    Chain(s, s.reshape("groups", first, *split), (2,)).write()
    return apply(s.graph(), fuse_views)


@pytest.mark.parametrize(("shape", "split"), [((2, 5, 6), (2, 3, 10)), ((2, 3, 4, 6), (2, 2, 36))])
def test_groups_as_exporters_reshape_them(shape, split):
    graph = groups_of(shape, split)
    after = apply(graph, recognise_norms)
    (norm,) = [n for n in after if n.op == "group_norm"]
    assert (norm.inputs, norm.shape) == (("x",), shape)
    assert norm.attrs == {"eps": 0.25, "groups": split[1]}
    assert [(n.name, n.inputs) for n in after if n.op == "view"] == [("norm.view", ("norm",))]
    assert after["norm.view"].attrs == graph["groups"].attrs


@pytest.mark.parametrize(
    ("shape", "split"),
    [((2, 3, 4, 6), (1, 6, 24)), ((2, 3, 4, 6), (2, 4, 18)), ((2, 5, 6), (4, 3, 5))],
)
def test_rows_across_batches_or_channels_are_no_groups(shape, split):
    after = apply(groups_of(shape, split), recognise_norms)
    assert ops(after) == ["view", "layer_norm"]
    assert after.outputs == ("norm",)


def test_rows_in_another_order_are_no_groups():
    s = Sketch()
    turned = s.permute("turned", s.input("x", 2, 5, 6), 0, 2, 1)
    Chain(s, s.reshape("rows", s.unary("act", turned, "relu"), 2, 3, 10), (2,)).write()
    assert ops(apply(s.graph(), recognise_norms)) == ["view", "unary", "view", "layer_norm"]
    s = Sketch()
    turned = s.permute("turned", s.input("x", 2, 3, 4, 6), 0, 3, 2, 1)
    Chain(s, s.reshape("rows", turned, 2, 2, 36), (2,)).write()
    after = apply(s.graph(), fuse_views, recognise_norms)
    assert ops(after) == ["view", "layer_norm"]


def test_groups_of_a_matrix_are_rows():
    """Two axes: there is nothing but channels, and the reshape moves no data."""
    s = Sketch()
    Chain(s, s.reshape("rows", s.input("x", 2, 6), 2, 3, 2), (2,)).write()
    assert ops(apply(s.graph(), recognise_norms)) == ["view", "layer_norm"]


def test_a_random_product_is_no_norm():
    s = Sketch()
    x = s.input("x", 2, 5, 6)
    s.pair("norm", "multiply", s.offset("a", x, random("k", 6)), s.unary("b", x, "rsqrt"))
    assert_stays(s)
