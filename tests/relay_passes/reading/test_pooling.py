"""Pooling and reductions: exact attributes, numbers against NumPy, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from relay_passes.reading.geometry import sides
from tests.relay_passes.reading.small_modules import (
    assert_computes,
    nodes,
    one,
    read,
    refusal,
    x0,
)

R = relax.op
SHAPE = (2, 3, 8, 11)
OPTIONS = {"pool_size": (3, 5), "strides": (2, 3), "padding": (1, 0, 1, 1)}


def channels_last(shape):
    return (shape[0], *shape[2:], shape[1])


def first_layout(array, layout):
    return array if layout == "NCHW" else array.transpose(0, 3, 1, 2)


def given_layout(array, layout):
    return array if layout == "NCHW" else array.transpose(0, 2, 3, 1)


def windows(x, take, ceil=False):
    """``take`` of every window of ``OPTIONS``, as far as it lies on the image [N, C, 8, 11]."""
    rows, columns = [(0, 2), (1, 4), (3, 6), (5, 8)], [(0, 5), (3, 8), (6, 11)]
    if ceil:
        rows, columns = [*rows, (7, 8)], [*columns, (9, 11)]
    lines = [[take(x[:, :, a:b, c:d]) for c, d in columns] for a, b in rows]
    return np.stack([np.stack(line, -1) for line in lines], -2)


TAKE = {"max": lambda w: w.max((2, 3)), "avg": lambda w: w.mean((2, 3))}
CALLS = {"max": R.nn.max_pool2d, "avg": R.nn.avg_pool2d}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("op", ["max", "avg"])
@pytest.mark.parametrize(("ceil", "reach"), [(False, (1, 0, 1, 1)), (True, (1, 0, 2, 3))])
def test_windows(op, layout, ceil, reach):
    """In ceil mode the last windows reach beyond the padding that was given."""
    shape = SHAPE if layout == "NCHW" else channels_last(SHAPE)
    graph = read(lambda x: CALLS[op](x, **OPTIONS, ceil_mode=ceil, layout=layout), shape)
    pool = one(graph, f"{op}_pool2d")
    assert pool.name == "y"
    counting = {} if op == "max" else {"count_include_pad": False}
    assert pool.attrs == {"kernel": (3, 5), "strides": (2, 3), "padding": reach, **counting}
    want = windows(first_layout(x0(*shape), layout), TAKE[op], ceil)
    assert_computes(graph, given_layout(want, layout))


def test_padding_may_count():
    graph = read(lambda x: R.nn.avg_pool2d(x, **OPTIONS, count_include_pad=True), SHAPE)
    pool = one(graph, "avg_pool2d")
    assert pool.attrs["count_include_pad"] is True
    assert pool.attrs["padding"] == (1, 0, 1, 1)
    assert_computes(graph, windows(x0(*SHAPE), lambda w: w.sum((2, 3)) / 15))


def test_what_lies_beyond_the_padding_never_counts():
    options = {**OPTIONS, "ceil_mode": True, "count_include_pad": True}
    reason = refusal(lambda x: R.nn.avg_pool2d(x, **options), SHAPE)
    assert reason == "relax.nn.avg_pool2d at y: ceil mode that counts padding"
    graph = read(lambda x: R.nn.avg_pool2d(x, **{**options, "padding": 0}), SHAPE)
    pool = one(graph, "avg_pool2d")
    assert pool.attrs["count_include_pad"] is False
    assert pool.attrs["padding"] == (0, 0, 1, 0)
    graph = read(lambda x: R.nn.max_pool2d(x, **options), SHAPE)
    assert one(graph, "max_pool2d").attrs["padding"] == (1, 0, 2, 3)


@pytest.mark.parametrize("op", ["max", "avg"])
def test_other_pools_are_refused(op):
    name = f"relax.nn.{op}_pool2d at y"
    dilated = refusal(lambda x: CALLS[op](x, **OPTIONS, dilation=(1, 2)), SHAPE)
    assert dilated == f"{name}: dilation"
    reason = refusal(lambda x: CALLS[op](x, (2, 2), layout="HWCN"), (8, 8, 2, 3))
    assert reason == f"{name}: layout HWCN"


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
class TestAdaptivePools:
    def test_to_one_pixel_is_a_mean(self, layout):
        shape = SHAPE if layout == "NCHW" else channels_last(SHAPE)
        graph = read(lambda x: R.nn.adaptive_avg_pool2d(x, 1, layout=layout), shape)
        assert one(graph, "reduce").attrs == {"kind": "mean", "axes": (1, 2), "keepdims": True}
        assert one(graph, "reduce").name == "y"
        want = first_layout(x0(*shape), layout).mean((2, 3), keepdims=True)
        assert_computes(graph, given_layout(want, layout))

    @pytest.mark.parametrize("size", [(2, 3), (1, 3), (4, 1)])
    def test_to_whole_windows(self, layout, size):
        full = (2, 3, 8, 9)
        shape = full if layout == "NCHW" else channels_last(full)
        graph = read(lambda x: R.nn.adaptive_avg_pool2d(x, size, layout=layout), shape)
        kernel = (8 // size[0], 9 // size[1])
        assert one(graph, "avg_pool2d").attrs == {
            "kernel": kernel,
            "strides": kernel,
            "padding": (0, 0, 0, 0),
            "count_include_pad": True,
        }
        split = first_layout(x0(*shape), layout).reshape(2, 3, size[0], kernel[0], size[1], -1)
        assert_computes(graph, given_layout(split.mean((3, 5)), layout))

    def test_to_windows_of_unequal_size_is_refused(self, layout):
        shape = SHAPE if layout == "NCHW" else channels_last(SHAPE)
        reason = refusal(lambda x: R.nn.adaptive_avg_pool2d(x, (4, 3), layout=layout), shape)
        why = "pooling (8, 11) to (4, 3): windows of unequal size"
        assert reason == f"relax.nn.adaptive_avg_pool2d at y: {why}"


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("axes", [None, [1], [-1, 0], [2, 0]])
class TestReductions:
    @pytest.mark.parametrize("kind", ["mean", "sum"])
    def test_sums_and_means(self, kind, axes, keep):
        graph = read(lambda x: getattr(R, kind)(x, axes, keep), (2, 3, 4))
        assert nodes(graph) == [("y", "reduce", ("x0",))]
        ordered = (0, 1, 2) if axes is None else tuple(sorted(a % 3 for a in axes))
        assert graph["y"].attrs == {"kind": kind, "axes": ordered, "keepdims": keep}
        assert_computes(graph, getattr(np, kind)(x0(2, 3, 4), ordered, keepdims=keep))

    def test_variances(self, axes, keep):
        graph = read(lambda x: R.variance(x, axes, keep), (2, 3, 4))
        assert nodes(graph) == [
            ("y.mean", "reduce", ("x0",)),
            ("y.negated", "multiply", ("y.mean",)),
            ("y.centred", "add", ("x0", "y.negated")),
            ("y.square", "unary", ("y.centred",)),
            ("y", "reduce", ("y.square",)),
        ]
        ordered = (0, 1, 2) if axes is None else tuple(sorted(a % 3 for a in axes))
        narrow = tuple(1 if a in ordered else n for a, n in enumerate((2, 3, 4)))
        assert (graph["y.mean"].shape, graph["y.negated"].shape) == (narrow, narrow)
        assert graph["y.mean"].attrs == {"kind": "mean", "axes": ordered, "keepdims": True}
        assert graph["y"].attrs == {"kind": "mean", "axes": ordered, "keepdims": keep}
        assert_computes(graph, np.var(x0(2, 3, 4), ordered, keepdims=keep))


@pytest.mark.parametrize(
    ("given", "full"), [([3], (3, 3, 3, 3)), ([1, 2], (1, 2, 1, 2)), ([1, 2, 3, 4], (1, 2, 3, 4))]
)
def test_padding_of_every_side(given, full):
    """Top, left, bottom, right; one number for all, or two for both of a kind."""
    assert sides(given) == full
