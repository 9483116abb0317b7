"""Who lies where: constants, tensors that die, and rings of on-chip buffers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.vta.codegen.memory import ALIGNMENT, Arena, ConstantPool, Residency


def test_equal_constants_lie_once():
    pool = ConstantPool(128)
    first = pool.add(np.arange(5, dtype=np.int8))
    assert pool.add(np.arange(5, dtype=np.uint8)) == first == 128
    second = pool.add(np.arange(6, dtype=np.int8))
    assert second == 128 + ALIGNMENT
    image = pool.image
    np.testing.assert_array_equal(image[:5], np.arange(5))
    np.testing.assert_array_equal(image[second - 128 :][:6], np.arange(6))
    assert ConstantPool(0).image.size == 0


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 5)), max_size=40))
def test_live_tensors_never_overlap(requests):
    arena, live = Arena(), []
    for size, victim in requests:
        address = arena.allocate(size)
        assert all(address + size <= a or a + n <= address for a, n in live if n and size)
        live.append((address, size))
        if victim < len(live) - 1:
            arena.release(live.pop(victim)[0])
    assert all(address + size <= arena.top for address, size in live)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 40)), max_size=80))
def test_what_recent_tiles_use_stays(requests):
    """Contents are replaced two tiles after their last use and no sooner."""
    buffer, used = Residency("test", 100), {}
    for tile, (key, size) in enumerate(requests):
        start = buffer.find(key, tile)
        if start is None:
            start = buffer.place(key, size, tile)
        else:
            size = used[key][1]
            assert start == used[key][0]
        if start is None:
            recent = [n for _, n, last in used.values() if last > tile - Residency.LAG]
            assert sum(recent) + size > 100 - sum(recent)
            continue
        assert 0 <= start <= 100 - size
        for other, (place, length, last) in used.items():
            if other != key and last > tile - Residency.LAG:
                assert start + size <= place or place + length <= start
        used[key] = (start, size, tile)


def test_dropped_contents_are_forgotten():
    buffer = Residency("test", 10)
    assert buffer.place("a", 10, 0) == 0
    assert buffer.place("b", 1, 1) is None
    buffer.drop("a")
    buffer.drop("never there")
    assert buffer.find("a", 1) is None
    assert buffer.place("b", 1, 1) is not None


def test_what_never_fits_is_an_error():
    with pytest.raises(UnsupportedModelError, match="11 entries of the test buffer"):
        Residency("test", 10).place("a", 11, 0)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 40), st.integers(0, 6)), max_size=80))
def test_what_is_loaded_early_replaces_nothing_that_is_in_use_then(requests):
    """Also not what was itself replaced in the meantime."""
    buffer, history = Residency("test", 100), []
    for tile, (key, size, ahead) in enumerate(requests):
        known = buffer.find(key, tile)
        if known is not None:
            for entry in history:
                if entry["key"] == key and entry["live"]:
                    entry["last"] = tile
            continue
        when = max(0, tile - ahead)
        start = buffer.place(key, size, when, tile)
        if start is None:
            continue
        for entry in history:
            overlaps = start < entry["end"] and entry["start"] < start + size
            if overlaps:
                assert entry["last"] <= when - Residency.LAG
                entry["live"] = False
        live = {"key": key, "start": start, "end": start + size, "last": tile, "live": True}
        history.append(live)
