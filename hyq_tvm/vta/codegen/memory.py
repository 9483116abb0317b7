"""Who lies where: constants and tensors in DRAM, constants and input tiles on chip."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import UnsupportedModelError

ALIGNMENT = 64


def aligned(address: int) -> int:
    """The next multiple of a DRAM burst."""
    return -(-address // ALIGNMENT) * ALIGNMENT


class ConstantPool:
    """Constants of a program, equal ones once, from DRAM address ``base`` on."""

    def __init__(self, base: int) -> None:
        self.base = base
        self._known: dict[bytes, int] = {}
        self._parts: list[NDArray[np.uint8]] = []
        self._size = 0

    def add(self, array: NDArray[Any]) -> int:
        """The DRAM address of an array's bytes."""
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        key = hashlib.sha256(raw.tobytes()).digest() + raw.size.to_bytes(8, "little")
        if key not in self._known:
            self._known[key] = self.base + self._size
            padding = np.zeros(aligned(raw.size) - raw.size, np.uint8)
            self._parts += [raw, padding]
            self._size += aligned(raw.size)
        return self._known[key]

    @property
    def image(self) -> NDArray[np.uint8]:
        """All constants, as they lie in DRAM."""
        return np.concatenate(self._parts) if self._parts else np.zeros(0, np.uint8)


@dataclass
class Arena:
    """DRAM from address 0 on for tensors that live for a while."""

    top: int = 0
    _live: dict[int, int] = field(default_factory=dict)

    def allocate(self, nbytes: int) -> int:
        """The lowest address where so many bytes are free."""
        size, address = aligned(max(nbytes, 1)), 0
        for start, length in sorted(self._live.items()):
            if start - address >= size:
                break
            address = max(address, start + length)
        self._live[address] = size
        self.top = max(self.top, address + size)
        return address

    def release(self, address: int) -> None:
        """Give a tensor's bytes back."""
        del self._live[address]


@dataclass
class Region:
    """Entries of an on-chip buffer that hold ``key`` and were last used by tile ``last``.

    loaded: the tile that loads it. Without a key it is the rest of something replaced.
    """

    key: object
    start: int
    size: int
    last: int
    loaded: int = 0

    @property
    def end(self) -> int:
        """The entry after the last."""
        return self.start + self.size


class Residency:
    """What an on-chip buffer holds: a ring in which new contents replace the oldest.

    A region may be replaced two tiles after its last use. What it leaves behind is remembered,
    since something new may be loaded with an earlier tile than what came before it.
    """

    LAG = 2

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self.capacity = capacity
        self._by_key: dict[object, Region] = {}
        self._regions: list[Region] = []
        self._cursor = 0

    def find(self, key: object, tile: int) -> int | None:
        """Where ``key`` lies, marked as used by ``tile``; None if it is not there."""
        region = self._by_key.get(key)
        if region is None:
            return None
        region.last = tile
        return region.start

    def place(self, key: object, size: int, tile: int, user: int | None = None) -> int | None:
        """Room for ``key`` when ``tile`` loads; None while too much of the buffer is in use.

        user: the tile that uses it, if that is a later one.

        Raises ``UnsupportedModelError`` when the buffer is too small for it at any time.
        """
        if size > self.capacity:
            raise UnsupportedModelError(
                f"a tile needs {size} entries of the {self.name} buffer, which has {self.capacity}"
            )
        for start in (self._cursor, 0):
            while start + size <= self.capacity:
                first, last = self._overlapping(start, start + size)
                busy = [r for r in self._regions[first:last] if r.last > tile - self.LAG]
                if not busy:
                    used = tile if user is None else user
                    self._replace(first, last, Region(key, start, size, used, tile))
                    return start
                start = busy[-1].end
        return None

    def drop(self, key: object) -> None:
        """Forget what was placed but will not be loaded; its room may be taken as before."""
        region = self._by_key.pop(key, None)
        if region is not None:
            region.key, region.last = None, region.loaded - self.LAG

    def _overlapping(self, start: int, end: int) -> tuple[int, int]:
        """The slice of regions that share an entry with ``start .. end - 1``."""
        first = bisect_right(self._regions, start, key=lambda region: region.end)
        return first, bisect_left(self._regions, end, lo=first, key=lambda region: region.start)

    def _replace(self, first: int, last: int, region: Region) -> None:
        kept = []
        for old in self._regions[first:last]:
            if old.key is not None:
                del self._by_key[old.key]
            for start, end in ((old.start, region.start), (region.end, old.end)):
                if start < end:
                    kept.append(Region(None, start, end - start, old.last, old.loaded))
        made = sorted([*kept, region], key=lambda r: r.start)
        self._regions[first:last] = made
        self._by_key[region.key] = region
        self._cursor = region.end
