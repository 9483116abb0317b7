"""Files in which weights of 4 and 6 bits take 4 and 6 bits, and the files they were made from.

A compiled library holds weights as int8, in the order in which its kernels read them. Runs of bytes
that are all small, as int8, are what 4- and 6-bit weights look like in any such order; they are
stored in as many bits, and everything else as it is. Unpacking gives the same bytes back.

======================  ===========================================================================
``magic``               8 bytes, ``HYQPACK1``
``length``, ``runs``    two uint64: bytes of the unpacked file, number of runs
a run                   three uint64: first byte, number of bytes (a multiple of 4), 4 or 6 bits
the rest                all bytes outside of runs, in order
values of a run         two's complement, the first in the lowest bits; whole bytes, run after run
======================  ===========================================================================

All numbers are little-endian.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"HYQPACK1"
LEAST_RUN = 256
"""Shorter runs of small bytes are chance; a run's entry in the table takes 24 bytes."""

_WIDTHS = (4, 6)
_HEAD = 8 + 2 * 8
_ENTRY = 3 * 8

Bytes = NDArray[np.uint8]
Run = tuple[int, int, int]


def pack(data: bytes) -> bytes:
    """``data`` with its runs of small bytes in 4 or 6 bits; ``unpack`` gives it back."""
    array = np.frombuffer(data, np.uint8)
    runs = list(_runs(array))
    table = np.array([len(array), len(runs), *(n for run in runs for n in run)], "<u8")
    outside = np.ones(len(array), bool)
    for start, length, _ in runs:
        outside[start : start + length] = False
    packed = [_narrow(array[start : start + length], bits) for start, length, bits in runs]
    return (
        MAGIC + table.tobytes() + array[outside].tobytes() + b"".join(p.tobytes() for p in packed)
    )


def unpack(data: bytes) -> bytes:
    """The inverse of ``pack``; raises ``ValueError`` saying what is wrong with ``data``."""
    array = np.frombuffer(data, np.uint8)
    length, runs, start = _read_table(data)
    outside = np.ones(length, bool)
    for first, count, _ in runs:
        outside[first : first + count] = False
    rest = length - sum(count for _, count, _ in runs)
    found = np.empty(length, np.uint8)
    found[outside] = array[start : start + rest]
    start += rest
    for first, count, bits in runs:
        stored = count * bits // 8
        found[first : first + count] = _widen(array[start : start + stored], bits)
        start += stored
    return found.tobytes()


def unpacked_size(head: bytes) -> int:
    """Bytes of the unpacked file, from the first 24 bytes of a packed one.

    Raises ``ValueError`` where these are not of a packed file.
    """
    if len(head) < _HEAD or not head.startswith(MAGIC):
        raise ValueError("it is not a packed file")
    return int(np.frombuffer(head, "<u8", 1, len(MAGIC))[0])


def _runs(array: Bytes) -> Iterator[Run]:
    """Runs to pack, in order: of 4 bits where these are enough, else of 6."""
    free = np.ones(len(array), bool)
    found: list[Run] = []
    for bits in _WIDTHS:
        half = np.uint8(1 << (bits - 1))
        small = free & ((array + half) < np.uint8(2 * half))
        edges = np.flatnonzero(np.diff(np.concatenate([[False], small, [False]]).view(np.int8)))
        for start, end in edges.reshape(-1, 2).tolist():
            length = (end - start) // 4 * 4
            if length >= LEAST_RUN:
                found.append((start, length, bits))
                free[start : start + length] = False
    return iter(sorted(found))


def _narrow(values: Bytes, bits: int) -> Bytes:
    """[n] bytes to [n * bits / 8]."""
    if bits == 4:
        low, high = values.reshape(-1, 2).T & 15
        return np.asarray(low | high << 4)
    a, b, c, d = values.reshape(-1, 4).T & 63
    return np.stack([a | b << 6, b >> 2 | c << 4, c >> 4 | d << 2], axis=1)


def _widen(stored: Bytes, bits: int) -> Bytes:
    """The inverse of ``_narrow``, signs extended."""
    if bits == 4:
        values = np.stack([stored & 15, stored >> 4], axis=1)
    else:
        x, y, z = stored.reshape(-1, 3).T
        values = np.stack([x & 63, x >> 6 | (y & 15) << 2, y >> 4 | (z & 3) << 4, z >> 2], axis=1)
    sign = np.uint8(1 << (bits - 1))
    return np.asarray((values.reshape(-1) ^ sign) - sign)


def _read_table(data: bytes) -> tuple[int, list[Run], int]:
    """Length, runs, and where the table ends; every run is inside and behind the one before."""
    length = unpacked_size(data[:_HEAD])
    count = int(np.frombuffer(data, "<u8", 1, len(MAGIC) + 8)[0])
    end = _HEAD + count * _ENTRY
    if end > len(data):
        raise ValueError("its table is cut off")
    entries: Any = np.frombuffer(data, "<u8", 3 * count, _HEAD).reshape(-1, 3).tolist()
    runs, place, stored = [], 0, length
    for start, many, bits in entries:
        if start < place or many % 4 or bits not in _WIDTHS or start + many > length:
            raise ValueError("a run in its table lies where it cannot be")
        place = start + many
        stored += many * bits // 8 - many
        runs.append((start, many, bits))
    if end + stored != len(data):
        raise ValueError("its length differs from what its table says")
    return length, runs, end
