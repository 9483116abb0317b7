"""Arithmetic of strided walks: what ``View`` is computed with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

Atom = tuple[int, int]
"""Length and stride of one loop, the stride in elements."""


class Digits:
    """Reads positions of a view's output as numbers whose digits are the view's own atoms.

    A position p of the flat output is sum(digit_j * place_j) with digit_j < length_j; its address
    in the source is offset + sum(digit_j * stride_j). A stride over positions is a stride over
    addresses exactly as long as digits never carry, which ``carry_free`` decides at the end.
    """

    def __init__(self, shape: Sequence[int], strides: Sequence[int]) -> None:
        self.shape, self.strides = tuple(shape), tuple(strides)
        self.places = row_major(shape)
        self.highest = [0] * len(shape)

    def add_offset(self, position: int) -> int:
        """The address of a position, from the address of the first; every digit counts once."""
        address = 0
        for j, (place, stride) in enumerate(zip(self.places, self.strides, strict=True)):
            digit, position = divmod(position, place)
            self.highest[j] += digit
            address += digit * stride
        return address

    def add_atom(self, length: int, stride: int) -> list[Atom] | None:
        """The atoms over addresses that walk ``length`` positions ``stride`` apart."""
        if stride == 0 or length == 1:
            return [(length, 0)]
        j = next(i for i, place in enumerate(self.places) if place <= stride)
        step, rest = divmod(stride, self.places[j])
        if rest:
            return None
        room = self.shape[j]
        if j == 0 or (length - 1) * step < room:
            self.highest[j] += (length - 1) * step
            return [(length, step * self.strides[j])]
        if room % step or length % (room // step):
            return None
        inner = room // step
        self.highest[j] += (inner - 1) * step
        outer = self.add_atom(length // inner, self.places[j - 1])
        return None if outer is None else [*outer, (inner, step * self.strides[j])]

    def carry_free(self) -> bool:
        """Whether all that was added can never sum up to a carry."""
        return all(h < n for h, n in zip(self.highest, self.shape, strict=True))


def overlapping(ordered: Sequence[tuple[int, int]]) -> bool:
    """Whether two walks of these (stride, length), longest stride first, meet at an element."""
    spans = [(length - 1) * stride for stride, length in ordered]
    return any(stride <= sum(spans[i + 1 :]) for i, (stride, _) in enumerate(ordered))


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides, in elements, of a contiguous tensor."""
    return tuple(prod(shape[i + 1 :]) for i in range(len(shape)))


def merged_atoms(atoms: Iterable[Atom]) -> list[Atom]:
    """The canonical atoms of the same walk; never empty."""
    merged: list[Atom] = []
    for length, stride in atoms:
        if length == 1:
            continue
        if merged and merged[-1][1] == length * stride:
            length *= merged.pop()[0]
        merged.append((length, stride))
    return merged or [(1, 1)]
