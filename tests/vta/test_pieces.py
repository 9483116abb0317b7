"""Transfers cut to pieces, and the port that they share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyq_tvm.vta.pieces import Pieces, load_pieces, store_pieces
from hyq_tvm.vta.port import NO_BANK, Load, Port, Store, Writes, bank
from hyq_tvm.vta.transfer import Transfer

FAR = 1 << 40


def move(dram, y, x, length, strides, memory="INP", pads=(0, 0, 0, 0)):
    return Transfer(memory, 0, dram, y, x, length, pads, *strides)


@pytest.mark.parametrize(
    ("dram", "y", "x", "length", "strides", "pieces", "beats"),
    [
        (0, 1, 1, 16, (0, 0), 1, 1),
        (1, 1, 1, 16, (0, 0), 2, 2),
        (15, 1, 1, 1, (0, 0), 1, 1),
        (0, 1, 4, 8, (0, 8), 4, 2),
        (0, 1, 4, 8, (0, 24), 4, 4),
        (0, 3, 2, 8, (16, 8), 6, 3),
        (8, 2, 1, 16, (32, 0), 4, 4),
        (8, 1, 1, 32, (0, 0), 4, 3),
        (3, 1, 4, 9, (0, 6), 6, 4),
    ],
)
def test_pieces_by_hand(dram, y, x, length, strides, pieces, beats):
    made = move(dram, y, x, length, strides)
    found = load_pieces(made, 16, 16)
    assert (len(found), found.beats.sum()) == (pieces, beats)
    assert store_pieces(made, 16, 16) == pieces


def test_every_element_of_a_table_is_a_piece():
    assert len(load_pieces(move(0, 1, 1, 256, (0, 0), "TBL"), 16, 16)) == 256
    assert load_pieces(move(0, 1, 1, 256, (0, 0), "TBL"), 16, 16).beats.sum() == 32


def test_padding_is_pieces_without_words():
    found = load_pieces(move(0, 2, 3, 16, (64, 16), pads=(1, 0, 1, 2)), 16, 16)
    row = [False, True, True, True, False, False]
    np.testing.assert_array_equal(found.beats, [False] * 6 + row * 2)
    assert found.done.all()


def by_bytes(made, block, bus, entry):
    """Pieces by looking at each byte: (word, entry) of runs of bytes in order."""
    found, seen = [], None
    for y in range(made.y):
        for x in range(made.x):
            start = made.dram + y * made.y_stride + x * made.x_stride
            places = [((start + i) // bus, i // entry) for i in range(made.run_bytes)]
            kept = [p for i, p in enumerate(places) if i == 0 or p != places[i - 1]]
            for i, (word, cell) in enumerate(kept):
                done = i + 1 == len(kept) or kept[i + 1][1] != cell
                found.append((word != seen, done))
                seen = word
    return found


@given(
    st.integers(0, 63),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 40),
    st.tuples(st.integers(0, 80), st.integers(0, 80)),
    st.sampled_from([("INP", 1), ("ACC16", 2), ("ACC", 4)]),
    st.sampled_from([4, 16, 64]),
)
def test_pieces_are_those_of_the_bytes(dram, y, x, length, strides, memory, bus):
    made = move(dram, y, x, length, strides, memory[0])
    found = load_pieces(made, 4, bus)
    expected = by_bytes(made, 4, bus, 4 * memory[1])
    assert list(zip(found.beats.tolist(), found.done.tolist(), strict=True)) == expected


def plain(count):
    return Pieces(np.ones(count, np.bool_), np.ones(count, np.bool_))


@pytest.mark.parametrize(
    ("begin", "count", "ends"),
    [
        (200, 10, (100, 210)),
        (0, 100, (199, 200)),
        (50, 20, (120, 89)),
        (50, 80, (150, 180)),
        (100, 5, (100, 105)),
    ],
)
def test_turns_where_both_want_the_port(begin, count, ends):
    load, store = Load(plain(100), 0), Store(count, begin, 0)
    port = Port(load=load, store=store)
    while port.busy:
        port.advance(FAR)
    assert (load.end, store.end) == ends


def cycle_by_cycle(load, store, writes):
    """The port without short cuts."""
    now, at, left, was_read = 0, 0, store.left, False
    ends = [None, None]
    while None in ends:
        wants_load = at < len(load.pieces) and now >= load.begin
        wants_store = left > 0 and now >= store.begin
        code = writes.banks[now - writes.begin] if writes.begin <= now < writes.end else NO_BANK
        moves = wants_load and (
            writes.memory != load.memory or code == NO_BANK or code != load.banks[at]
        )
        reads = moves and load.beats[at] and not (wants_store and was_read)
        if moves and (reads or not load.beats[at]):
            at += 1
        if reads:
            was_read = True
        elif wants_store:
            left, was_read = left - 1, False
        now += 1
        if at == len(load.pieces) and ends[0] is None:
            ends[0] = now
        if left == 0 and ends[1] is None:
            ends[1] = now + store.after
    return tuple(ends)


@given(st.data())
def test_short_cuts_change_nothing(data):
    size = data.draw(st.integers(1, 40))
    flags = st.lists(st.booleans(), min_size=size, max_size=size)
    beats = np.array([True, *data.draw(flags)[1:]])
    pieces = Pieces(beats, np.array([*data.draw(flags)[1:], True]))
    begins = st.integers(0, 30)
    memory = data.draw(st.sampled_from(["", "acc", "inp"]))
    made = (lambda: Load(pieces, begin, memory, 5)), (lambda: Store(left, other, 3))
    begin, other, left = data.draw(begins), data.draw(begins), data.draw(st.integers(1, 40))
    codes = data.draw(st.lists(st.sampled_from([0, 1, 2, 3, NO_BANK]), min_size=1, max_size=60))
    first = data.draw(begins)
    array = np.array(codes, np.uint8)
    writes = Writes(
        data.draw(st.sampled_from(["acc", "inp"])), first, first + len(codes), array.copy
    )
    load, store = made[0](), made[1]()
    port = Port(load=load, store=store)
    port.computes(writes)
    step = data.draw(st.integers(1, 50))
    while port.busy:
        port.advance(port.now + step)
    assert (load.end, store.end) == cycle_by_cycle(made[0](), made[1](), writes)


def test_banks_are_those_of_the_hardware():
    np.testing.assert_array_equal(
        bank(np.array([0, 1, 2, 3, 4, 5, 16, 17, 21, 1023])), [0, 1, 2, 3, 1, 0, 1, 0, 1, 3]
    )
