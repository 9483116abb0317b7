"""Operators that move data: each gives what NumPy gives, in one view wherever one will do."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from tvm import relax

from tests.relay_passes.reading.small_modules import (
    assert_computes,
    const,
    nodes,
    random,
    read,
    refusal,
    x0,
)

R = relax.op
SHAPE = (2, 3, 4, 5)


def assert_one_view(graph, expected):
    """One view, of these numbers."""
    assert [(name, op) for name, op, _ in nodes(graph)] == [("y.view", "view")]
    assert_computes(graph, expected, rtol=0)


@pytest.mark.parametrize(
    ("write", "before", "after"),
    [
        (lambda x: R.reshape(x, (4, 3)), (2, 6), (4, 3)),
        (R.flatten, (2, 3, 4), (24,)),
        (R.nn.batch_flatten, (2, 3, 4), (2, 12)),
        (lambda x: R.squeeze(x, [1]), (2, 1, 4), (2, 4)),
        (lambda x: R.expand_dims(x, [1]), (2, 4), (2, 1, 4)),
    ],
)
def test_the_same_elements_in_the_same_order(write, before, after):
    assert_one_view(read(write, before), x0(*before).reshape(after))


@pytest.mark.parametrize("axes", [None, (2, 0, 1), (-1, 0, -2)])
def test_permutations(axes):
    graph = read(lambda x: R.permute_dims(x, axes), (2, 3, 4))
    assert_one_view(graph, x0(2, 3, 4).transpose(axes))


def test_broadcasts():
    graph = read(lambda x: R.broadcast_to(x, (2, 3, 4)), (3, 1))
    assert_one_view(graph, np.broadcast_to(x0(3, 1), (2, 3, 4)))


def test_moves_that_do_nothing_leave_nothing():
    assert nodes(read(lambda x: R.reshape(x, (2, 6)), (2, 6))) == []
    assert nodes(read(lambda x: R.nn.pad(x, [0, 0, 0, 0]), (2, 6))) == []
    assert nodes(read(lambda x: R.nn.dropout(x)[0], (2, 6))) == []
    assert nodes(read(R.builtin.stop_lift_params, (2, 6))) == []


class TestSlices:
    def test_without_steps(self):
        graph = read(lambda x: R.strided_slice(x, [1], [1], [3]), (2, 4))
        assert_one_view(graph, x0(2, 4)[:, 1:3])

    def test_from_behind_and_beyond(self):
        graph = read(lambda x: R.strided_slice(x, [-1], [-5], [99], [2]), (2, 6))
        assert_one_view(graph, x0(2, 6)[:, -5::2])

    def test_several_axes(self):
        graph = read(lambda x: R.strided_slice(x, [0, 2], [1, 1], [3, 8], [1, 3]), (4, 2, 9))
        assert_computes(graph, x0(4, 2, 9)[1:3, :, 1:8:3], rtol=0)

    def test_a_single_position(self):
        graph = read(lambda x: R.strided_slice(x, [0], [2], [3]), (4, 5))
        assert_one_view(graph, x0(4, 5)[2:3])

    def test_backwards_is_refused(self):
        reason = refusal(lambda x: R.strided_slice(x, [0], [3], [0], [-1]), (7, 4))
        assert reason == "relax.strided_slice at y: a slice with step -1"

    @pytest.mark.parametrize(("begin", "end"), [(3, 3), (4, 2)])
    def test_empty_ones_are_refused(self, begin, end):
        reason = refusal(lambda x: R.strided_slice(x, [0], [begin], [end]), (7, 4))
        assert reason == "relax.strided_slice at y: an empty slice"


class TestSplits:
    @pytest.mark.parametrize("axis", [1, -1])
    @pytest.mark.parametrize(
        ("sections", "edges"), [(3, (0, 3, 6, 7)), ([2, 3], (0, 2, 3, 7)), (7, range(8))]
    )
    def test_parts_are_named_and_in_order(self, sections, edges, axis):
        graph = read(lambda x: R.split(x, sections, axis), (2, 7))
        spans = [slice(*span) for span in pairwise(edges)]
        assert [name for name, _, _ in nodes(graph)] == [f"y.{i}.view" for i in range(len(spans))]
        assert_computes(graph, *(x0(2, 7)[:, span] for span in spans), rtol=0)

    def test_along_the_first_axis(self):
        graph = read(lambda x: R.split(x, 2, 0), (4, 3))
        assert_computes(graph, x0(4, 3)[:2], x0(4, 3)[2:], rtol=0)


def indices(*numbers):
    return relax.const(np.array(numbers))


class TestGathers:
    @pytest.mark.parametrize(
        ("axis", "chosen"),
        [
            (0, (2, 3)),
            (1, (1, 2, 3, 0)),
            (2, (5, 2, 3, 4, 5, 0)),
            (-1, (-1, 0, 1)),
            (1, (3, 3, 1)),
        ],
    )
    def test_runs_of_positions_become_slices(self, axis, chosen):
        graph = read(lambda x: R.take(x, indices(*chosen), axis), (4, 4, 6))
        assert_computes(graph, np.take(x0(4, 4, 6), chosen, axis), rtol=0)
        breaks = np.count_nonzero(np.diff(np.array(chosen) % x0(4, 4, 6).shape[axis]) != 1)
        assert [op for _, op, _ in nodes(graph)].count("view") == breaks + 1

    def test_of_one_position_the_axis_goes(self):
        graph = read(lambda x: R.take(x, relax.const(np.array(2)), 1), (2, 4, 3))
        assert_computes(graph, x0(2, 4, 3)[:, 2], rtol=0)

    def test_a_table_of_positions_gives_its_axes(self):
        chosen = np.array([[0, 1, 2], [1, 2, 3]])
        graph = read(lambda x: R.take(x, relax.const(chosen), 1), (2, 4))
        assert_computes(graph, np.take(x0(2, 4), chosen, 1), rtol=0)

    def test_of_vectors(self):
        graph = read(lambda x: R.take(x, indices(1, 2)), (7,))
        assert_computes(graph, x0(7)[1:3], rtol=0)

    @pytest.mark.parametrize("axis", [0, 1, None])
    def test_of_constants(self, axis):
        k = random("k", 5) if axis is None else random("k", 3, 5)
        taken = np.take(k, [2, -1, 0], axis)

        def write(x):
            return R.add(x, R.take(const(k), indices(2, -1, 0), axis))

        graph = read(write, taken.shape)
        np.testing.assert_array_equal(graph["y"].params["const"], taken)

    def test_eight_runs_and_no_more(self):
        odd = range(0, 18, 2)
        graph = read(lambda x: R.take(x, indices(*odd[:8]), 1), (2, 20))
        assert_computes(graph, x0(2, 20)[:, list(odd[:8])], rtol=0)
        reason = refusal(lambda x: R.take(x, indices(*odd), 1), (2, 20))
        assert reason == "relax.take at y: a gather of 9 scattered positions"

    def test_by_data_is_refused(self):
        reason = refusal(lambda x, y: R.take(x, y, 1), (2, 4), (2,), dtypes=("float32", "int64"))
        assert reason == "relax.take at y: indices that are not constant"


class TestConcats:
    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_side_by_side(self, axis):
        shapes = [[2, 3, 4], [2, 3, 4]]
        shapes[1][axis] = 5
        graph = read(lambda a, b: R.concat([a, b], axis), *map(tuple, shapes))
        assert nodes(graph) == [("y", "concat", ("x0", "x1"))]
        assert graph["y"].attrs == {"axis": axis % 3}
        a, b = random("x0", *shapes[0]), random("x1", *shapes[1])
        assert_computes(graph, np.concatenate([a, b], axis), rtol=0)

    def test_of_vectors(self):
        graph = read(lambda a, b: R.concat([a, b], None), (2,), (3,))
        assert_computes(graph, np.concatenate([x0(2), random("x1", 3)]), rtol=0)

    def test_of_one_is_itself(self):
        assert nodes(read(lambda a: R.concat([a], 1), (2, 3))) == []

    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_stacks(self, axis):
        graph = read(lambda a, b: R.stack([a, b], axis), (3, 4), (3, 4))
        assert_computes(graph, np.stack([x0(3, 4), random("x1", 3, 4)], axis), rtol=0)

    def test_with_a_constant(self):
        k = random("k", 2, 1)
        graph = read(lambda a: R.concat([a, const(k)], 1), (2, 3))
        assert nodes(graph) == [
            ("y.constant", "constant", ()),
            ("y", "concat", ("x0", "y.constant")),
        ]
        assert_computes(graph, np.concatenate([x0(2, 3), k], 1), rtol=0)


class TestRepetitions:
    @pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
    def test_of_every_element(self, axis):
        graph = read(lambda x: R.repeat(x, 3, axis), (2, 4, 5))
        assert_one_view(graph, np.repeat(x0(2, 4, 5), 3, axis))

    @pytest.mark.parametrize("times", [(3,), (2, 3), (3, 1, 2), (2, 1, 3, 2)])
    def test_of_the_whole(self, times):
        graph = read(lambda x: R.tile(x, times), (2, 4, 5))
        assert_one_view(graph, np.tile(x0(2, 4, 5), times))


class TestResizing:
    @pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
    def test_to_the_nearest_by_whole_factors(self, layout):
        factors = (1, 1, 2, 3) if layout == "NCHW" else (1, 2, 3, 1)
        first = SHAPE.index(3) + 1 if layout == "NCHW" else 1
        size = [SHAPE[first] * 2, SHAPE[first + 1] * 3]
        graph = read(
            lambda x: R.image.resize2d(x, size, layout=layout, method="nearest_neighbor"), SHAPE
        )
        want = x0(*SHAPE)
        for axis, factor in enumerate(factors):
            want = np.repeat(want, factor, axis)
        assert_computes(graph, want, rtol=0)

    @pytest.mark.parametrize(
        ("size", "options", "why"),
        [
            ((8, 10), {"method": "linear"}, "resizing by linear in NCHW"),
            ((6, 9), {"layout": "HWCN"}, "resizing by nearest_neighbor in HWCN"),
            (
                (8, 10),
                {"coordinate_transformation_mode": "align_corners"},
                "resizing with aligned corners",
            ),
            (
                (8, 7),
                {},
                "resizing (2, 3, 4, 5) to (2, 3, 8, 7), which is no whole factor",
            ),
        ],
    )
    def test_other_ways_are_refused(self, size, options, why):
        options = {"method": "nearest_neighbor", **options}
        reason = refusal(lambda x: R.image.resize2d(x, size, **options), SHAPE)
        assert reason == f"relax.image.resize2d at y: {why}"


class TestPads:
    def test_with_a_constant(self):
        graph = read(lambda x: R.nn.pad(x, [0, 0, 1, 2], pad_value=1.5), (2, 3))
        assert nodes(graph) == [("y", "pad", ("x0",))]
        assert graph["y"].attrs == {"pads": ((0, 0), (1, 2)), "value": 1.5}
        want = np.pad(x0(2, 3), ((0, 0), (1, 2)), constant_values=1.5)
        assert_computes(graph, want, rtol=0)

    @pytest.mark.parametrize(
        ("widths", "mode"), [([0, 0, 1, 2], "reflect"), ([0, 0, -1, 2], "constant")]
    )
    def test_other_pads_are_refused(self, widths, mode):
        reason = refusal(lambda x: R.nn.pad(x, widths, mode), (2, 3))
        assert reason == f"relax.nn.pad at y: padding {mode} by {widths}"


def test_of_constants_nothing_is_left_but_numbers():
    k = random("k", 2, 3)

    def write(x):
        moved = R.permute_dims(R.concat([const(k), R.reshape(const(k), (2, 3))], 0), (1, 0))
        return R.add(x, R.nn.pad(moved, [1, 0, 0, 0]))

    graph = read(write, (4, 4))
    assert nodes(graph) == [("y", "add", ("x0",))]
    want = np.pad(np.concatenate([k, k]).T, ((1, 0), (0, 0)))
    np.testing.assert_array_equal(graph["y"].params["const"], want)
