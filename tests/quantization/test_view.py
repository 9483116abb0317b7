"""A view is checked against NumPy doing the same chain of operations one by one."""

from __future__ import annotations

import itertools
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyq_tvm.quantization.view import View


def source(shape):
    return np.arange(prod(shape), dtype=np.int64).reshape(shape)


@st.composite
def factorings(draw, size):
    """A shape of the given number of elements."""
    shape = []
    while size > 1:
        factor = draw(st.sampled_from([f for f in range(1, size + 1) if size % f == 0]))
        shape.append(factor)
        size //= factor
    return tuple(shape) or (1,)


@st.composite
def slices(draw, shape):
    begin = tuple(draw(st.integers(0, n - 1)) for n in shape)
    end = tuple(draw(st.integers(b + 1, n)) for b, n in zip(begin, shape, strict=True))
    return begin, end, tuple(draw(st.integers(1, 3)) for _ in shape)


@st.composite
def chains(draw, shape, array=None, most=3):
    """Up to ``most`` operations that are expressible as one view, from a tensor of ``shape``."""
    view, array = View.identity(shape), source(shape) if array is None else array
    for _ in range(draw(st.integers(0, most))):
        step, expected = draw(steps(view, array))
        if step is not None:
            view, array = step, expected
    return view, array


@st.composite
def steps(draw, view, array):
    """One random operation on a view and the same one on the array that it should read."""
    shape = array.shape
    kind = draw(st.sampled_from(["reshape", "permute", "slice", "broadcast"]))
    if kind == "reshape":
        new = draw(factorings(array.size))
        return view.reshape(new), array.reshape(new)
    if kind == "permute":
        axes = draw(st.permutations(range(len(shape))))
        return view.permute(axes), array.transpose(axes)
    if kind == "slice":
        begin, end, stride = draw(slices(shape))
        window = tuple(slice(*limits) for limits in zip(begin, end, stride, strict=True))
        return view.slice(begin, end, stride), array[window]
    new = tuple(n if n > 1 else draw(st.integers(1, 3)) for n in shape)
    new = (*draw(st.lists(st.integers(1, 2), max_size=1)), *new)
    return view.broadcast_to(new), np.broadcast_to(array, new)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_chain_reads_what_numpy_reads(data):
    shape = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple))
    view, array = data.draw(chains(shape, most=5))
    assert view.out_shape == array.shape
    np.testing.assert_array_equal(view.apply(source(shape)), array)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_composition_reads_what_the_two_views_read_in_turn(data):
    shape = data.draw(st.sampled_from([(2, 3, 4), (4, 6), (2, 2, 2, 3), (12,)]))
    first, middle = data.draw(chains(shape))
    second, end = data.draw(chains(middle.shape, middle))
    both = first.then(second)
    if both is not None:
        np.testing.assert_array_equal(both.apply(source(shape)), end)


def as_one_read(array, lengths, flat_size):
    """Brute force: is there any strided read over atoms of these lengths that gives the array?"""
    grid = array.reshape(lengths)
    origin = grid.reshape(-1)[0]
    steps_of = []
    for axis, length in enumerate(lengths):
        index = [0] * len(lengths)
        index[axis] = 1 if length > 1 else 0
        steps_of.append(grid[tuple(index)] - origin)
    if min(steps_of, default=0) < 0 or flat_size <= 0:
        return False
    walk = origin + sum(
        np.arange(n).reshape([-1 if a == i else 1 for a in range(len(lengths))]) * s
        for i, (n, s) in enumerate(zip(lengths, steps_of, strict=True))
    )
    return np.array_equal(np.broadcast_to(walk, lengths), grid)


def ordered_factorings(size):
    if size == 1:
        return [()]
    found = []
    for factor in range(2, size + 1):
        if size % factor == 0:
            found += [(factor, *rest) for rest in ordered_factorings(size // factor)]
    return found


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 4)])
def test_none_means_that_no_single_read_exists(shape):
    refused = 0
    for first in itertools.permutations(range(len(shape))):
        moved = View.identity(shape).permute(first)
        for middle in ordered_factorings(prod(shape)):
            for second in itertools.permutations(range(len(middle))):
                array = source(shape).transpose(first).reshape(middle).transpose(second)
                view = moved.reshape(middle).permute(second)
                if view is not None:
                    np.testing.assert_array_equal(view.apply(source(shape)), array)
                    continue
                refused += 1
                possible = ordered_factorings(array.size)
                assert not any(as_one_read(array, atoms, array.size) for atoms in possible)
    assert refused > 0


def test_atoms_are_canonical():
    view = View((2, 1, 3, 4), (12, 7, 4, 1), 0, (24,), 24)
    assert (view.shape, view.strides) == ((24,), (1,))
    assert View.identity((5, 1, 7)) == View((35,), (1,), 0, (5, 1, 7), 35)
    assert View.identity((1, 1)).shape == (1,)


def test_layout_permutes_cancel():
    to_nhwc = View.identity((2, 3, 4, 5)).permute((0, 2, 3, 1))
    there_and_back = to_nhwc.permute((0, 3, 1, 2))
    assert not to_nhwc.is_identity
    assert there_and_back == View.identity((2, 3, 4, 5))


def test_a_prefix_is_not_the_identity():
    """It would be contiguous, but a reshape cannot drop elements."""
    first_token = View.identity((1, 5, 8)).slice((0, 0, 0), (1, 1, 8)).reshape((1, 8))
    assert first_token.strides == (1,)
    assert not first_token.is_identity
    assert View.identity((1, 5, 8)).reshape((5, 8)).is_identity


@pytest.mark.parametrize(
    ("view", "channels", "kept"),
    [
        (View.identity((2, 4, 4, 6)), 6, True),
        (View.identity((2, 4, 4, 6)).permute((0, 2, 1, 3)), 6, True),
        (View.identity((2, 4, 4, 6)).reshape((2, 16, 6)), 6, True),
        (View.identity((2, 4, 6)).slice((0, 1, 0), (2, 3, 6)), 6, True),
        (View.identity((1, 1, 6)).broadcast_to((3, 2, 6)), 6, True),
        (View.identity((2, 4, 6)).permute((0, 2, 1)), 6, False),
        (View.identity((2, 6, 6)).permute((0, 2, 1)), 6, False),
        (View.identity((2, 4, 6)).slice((0, 0, 1), (2, 4, 6)), 6, False),
        (View.identity((2, 4, 6)).reshape((2, 24)), 6, False),
        (View.identity((2, 4, 6)).reshape((2, 2, 12)).slice((0, 0, 3), (2, 2, 9)), 6, False),
        (View.identity((2, 4, 6)).reshape((2, 4, 2, 3)).permute((0, 2, 1, 3)), 6, False),
        (View.identity((2, 4, 1)).permute((1, 0, 2)), 1, True),
    ],
)
def test_keeps_last_axis(view, channels, kept):
    assert view.keeps_last_axis(channels) is kept


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_keeps_last_axis_means_every_row_is_the_channels(data):
    shape = data.draw(st.sampled_from([(2, 3, 4), (4, 4), (2, 2, 2, 2)]))
    view, array = data.draw(chains(shape))
    channels = shape[-1]
    rows = array.reshape(-1, array.shape[-1]) % channels
    in_order = array.shape[-1] == channels and bool(np.all(rows == np.arange(channels)))
    starts = array.reshape(-1, array.shape[-1])
    contiguous = in_order and bool(np.all(np.diff(starts, axis=1) == 1))
    assert view.keeps_last_axis(channels) is contiguous


@pytest.mark.parametrize(
    "make",
    [
        lambda: View((2, 3), (3,), 0, (6,), 6),
        lambda: View((2, 3), (3, 1), 0, (5,), 6),
        lambda: View((2, 3), (3, 1), 1, (6,), 6),
        lambda: View((2, 3), (-3, 1), 3, (6,), 6),
        lambda: View((0,), (1,), 0, (0,), 6),
        lambda: View.identity((2, 3)).permute((0, 0)),
        lambda: View.identity((2, 3)).slice((0, 0), (2, 4)),
        lambda: View.identity((2, 3)).slice((0, 0), (2, 3), (1, 0)),
        lambda: View.identity((2, 3)).broadcast_to((3, 3)),
        lambda: View.identity((2, 3)).broadcast_to((3,)),
        lambda: View.identity((2, 3)).then(View.identity((2, 4))),
        lambda: View.identity((2, 3)).apply(np.zeros(7)),
    ],
)
def test_impossible_views_are_refused(make):
    with pytest.raises(ValueError, match=r".+"):
        make()


def test_apply_reads_non_contiguous_sources_and_owns_its_result():
    array = source((3, 4)).T
    out = View.identity((4, 3)).apply(array)
    np.testing.assert_array_equal(out, array)
    assert out.flags.owndata
    assert not np.shares_memory(out, array)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_keeps_rows_means_rows_stay_together(data):
    shape = data.draw(st.sampled_from([(2, 3, 4), (4, 4), (2, 2, 2, 2)]))
    view, array = data.draw(chains(shape))
    channels = shape[-1]
    whole = array.shape[-1] % channels == 0
    rows = array.reshape(-1, channels) if whole else None
    expected = whole and bool(np.all(rows - rows[:, :1] == np.arange(channels)))
    expected = expected and bool(np.all(rows[:, 0] % channels == 0))
    assert view.keeps_rows(channels) is expected


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_bijection_has_an_inverse(data):
    shape = data.draw(st.sampled_from([(2, 3, 4), (4, 6), (2, 2, 2, 3), (3, 1, 4)]))
    view, array = data.draw(chains(shape))
    everything_once = array.size == prod(shape) and len(np.unique(array)) == array.size
    assert view.is_bijection is everything_once
    if everything_once:
        np.testing.assert_array_equal(view.inverse(shape).apply(array), source(shape))
        assert view.then(view.inverse(shape)) in (None, View.identity(shape))
    else:
        with pytest.raises(ValueError, match="no bijection"):
            view.inverse(shape)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_permutations_are_recognised_and_nothing_else(data):
    shape = data.draw(st.sampled_from([(2, 3, 4), (2, 2, 3), (1, 3, 1, 2), (4, 1, 4)]))
    view, array = data.draw(chains(shape, most=2))
    axes = view.as_permutation(shape)
    if axes is not None:
        np.testing.assert_array_equal(array, source(shape).transpose(axes))
        return
    every = itertools.permutations(range(len(shape)))
    assert not any(np.array_equal(array, source(shape).transpose(axes)) for axes in every)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_restrict_reads_the_same_from_fewer_channels(data):
    shape = data.draw(st.sampled_from([(3, 8), (2, 2, 6), (2, 12), (3, 1)]))
    view, array = data.draw(chains(shape))
    restricted = view.restrict(shape[-1])
    if restricted is None:
        return
    channels, narrow = restricted
    assert list(channels) == sorted(set((array % shape[-1]).reshape(-1).tolist()))
    np.testing.assert_array_equal(narrow.apply(source(shape)[..., list(channels)]), array)


def test_heads_of_a_fused_projection_are_restricted_to_their_own_channels():
    """Heads of (query 2, key 2, value 4) channels each: the query's are 0, 1, 8, 9."""
    fused = View.identity((1, 5, 16)).reshape((1, 5, 2, 8)).permute((0, 2, 1, 3))
    query = fused.slice((0, 0, 0, 0), (1, 2, 5, 2))
    channels, narrow = query.restrict(16)
    assert channels == (0, 1, 8, 9)
    assert narrow == View.identity((1, 5, 4)).reshape((1, 5, 2, 2)).permute((0, 2, 1, 3))


def test_restrict_refuses_reads_that_run_from_row_to_row():
    window = View.identity((2, 6)).slice((0, 3), (2, 6))
    assert window.restrict(6) == ((3, 4, 5), View.identity((2, 3)))
    assert View((4,), (1,), 4, (4,), 12).restrict(6) is None
    assert View((2, 2), (7, 1), 0, (2, 2), 12).restrict(6) is None


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_factors_read_then_move(data):
    shape = data.draw(st.sampled_from([(3, 8), (2, 2, 6), (2, 3, 4), (3, 1)]))
    view, array = data.draw(chains(shape))
    first, second = view.factored(shape)
    read = first.apply(source(shape))
    assert len(np.unique(read)) == read.size
    assert np.all(np.diff(read.reshape(-1)) > 0)
    np.testing.assert_array_equal(second.apply(read), array)
    if read.size == prod(shape):
        assert first == View.identity(shape)


def test_factors_of_overlapping_windows_are_the_identity_and_the_view():
    windows = View((3, 3), (1, 1), 0, (3, 3), 5)
    assert windows.factored((5,)) == (View.identity((5,)), windows)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_permuted_axes_are_a_reshape_and_a_permutation(data):
    shape = data.draw(st.sampled_from([(2, 3, 4), (4, 6), (2, 2, 2, 3), (3, 1, 4)]))
    view, array = data.draw(chains(shape))
    split = view.as_permuted_axes()
    if split is not None:
        new_shape, axes = split
        np.testing.assert_array_equal(source(shape).reshape(new_shape).transpose(axes), array)


def test_permuted_axes_of_flattened_images():
    view = View.permutation((2, 4, 5, 3), (0, 3, 1, 2)).reshape((2, 3, 20))
    assert view.as_permuted_axes() == ((2, 20, 3), (0, 2, 1))
    assert View.permutation((4, 6), (1, 0)).reshape((8, 3)).as_permuted_axes() is None


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_groups_multiply_to_the_axes_and_refine_the_atoms(data):
    view, array = data.draw(chains((2, 3, 4)))
    groups = view.grouped()
    if groups is None:
        return
    assert tuple(prod(group) for group in groups) == array.shape
    refined = view.reshape([n for group in groups for n in group] or [1])
    for axis, length in enumerate(refined.out_shape):
        ends = [n if a == axis else 1 for a, n in enumerate(refined.out_shape)]
        along = refined.slice([0] * len(ends), ends)
        assert along is not None
        assert length == 1 or len(along.strides) == 1


def test_an_atom_across_the_boundary_of_axes_has_no_groups():
    assert View.permutation((4, 6), (1, 0)).reshape((8, 3)).grouped() is None
    assert View.permutation((4, 6), (1, 0)).reshape((3, 2, 4)).grouped() == ((3,), (2,), (4,))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_narrowing_only_drops_repetition(data):
    view, array = data.draw(chains((2, 1, 3)))
    narrow = view.narrowed()
    read = narrow.apply(source((2, 1, 3)))
    np.testing.assert_array_equal(np.broadcast_to(read, array.shape), array)


def test_narrowing_leaves_repetition_inside_an_axis():
    tiled = View.identity((3,)).reshape((1, 3)).broadcast_to((2, 3))
    assert tiled.narrowed() == View.identity((1, 3))
    assert tiled.reshape((6,)).narrowed() == tiled.reshape((6,))
