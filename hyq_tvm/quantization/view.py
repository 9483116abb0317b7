"""One strided read: the closed form of any chain of reshape, permute, slice and broadcast.

Layout changes are where hybrids lose time, so the graph keeps each maximal chain of them as a
single ``View``. Reading is defined on the flat, contiguous source::

    out = as_strided(source.flat, shape, strides, offset).reshape(out_shape)

``shape`` and ``strides`` (in elements) are the *atoms*: canonical, that is, no atom of length 1 and
no two neighbours that one longer atom could replace. Two views of one source read the same
elements in the same order only if they are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.quantization.strides import Atom, Digits, merged_atoms, overlapping, row_major


@dataclass(frozen=True)
class View:
    """A strided read of ``source_size`` flat elements that makes a tensor of ``out_shape``.

    Build one with ``View.identity(shape)`` and the methods below; the constructor makes any
    equivalent set of atoms canonical and raises ``ValueError`` when the atoms do not make
    ``out_shape`` or read outside the source.

    Methods that return ``None`` do so when no single strided read gives the result (for instance a
    permutation of axes that a reshape laid across the boundaries of earlier ones).
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    out_shape: tuple[int, ...]
    source_size: int

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.strides):
            raise ValueError(f"{len(self.shape)} lengths but {len(self.strides)} strides")
        if min((*self.shape, *self.out_shape, 1)) < 1 or min((*self.strides, self.offset)) < 0:
            raise ValueError(f"lengths must be positive and strides not negative: {self!r}")
        if prod(self.shape) != prod(self.out_shape):
            raise ValueError(f"{self.shape} does not reshape to {self.out_shape}")
        atoms = merged_atoms(zip(self.shape, self.strides, strict=True))
        last = self.offset + sum((length - 1) * stride for length, stride in atoms)
        if last >= self.source_size:
            raise ValueError(f"reads element {last} of a source of {self.source_size}")
        object.__setattr__(self, "shape", tuple(length for length, _ in atoms))
        object.__setattr__(self, "strides", tuple(stride for _, stride in atoms))

    @classmethod
    def identity(cls, shape: Sequence[int]) -> View:
        """The view that gives a tensor of ``shape`` back as it is."""
        return _plain(shape, range(len(shape)), shape)

    @classmethod
    def permutation(cls, shape: Sequence[int], axes: Sequence[int]) -> View:
        """The view that permutes the axes of a tensor of ``shape``."""
        return _plain(shape, axes, [shape[a] for a in axes])

    @property
    def size(self) -> int:
        """Number of elements of the output."""
        return prod(self.out_shape)

    @property
    def is_identity(self) -> bool:
        """Whether no data moves: the output is the whole source in its own order, reshaped."""
        contiguous = self.shape == (self.size,) and self.strides == (1,) and self.offset == 0
        return contiguous and self.size == self.source_size

    def keeps_last_axis(self, channels: int) -> bool:
        """Whether the output's last axis is the source's last axis, whole and in order.

        ``channels`` is the length of the source's last axis. Then anything per channel of the
        source is per channel of the output.
        """
        if not self.out_shape or self.out_shape[-1] != channels:
            return False
        if channels == 1:
            return True
        whole = self.strides[-1] == 1 and self.shape[-1] % channels == 0
        return whole and all(s % channels == 0 for s in (*self.strides[:-1], self.offset))

    def keeps_rows(self, channels: int) -> bool:
        """Whether the output is made of whole rows of ``channels``, the source's last axis.

        Wider than ``keeps_last_axis``: several rows may make one row of the output, as where the
        heads of an attention are merged.
        """
        if not self.out_shape or self.out_shape[-1] % channels:
            return False
        return self.reshape((self.size // channels, channels)).keeps_last_axis(channels)

    @property
    def is_bijection(self) -> bool:
        """Whether the output holds every element of the source exactly once."""
        place = 1
        for length, stride in sorted(self._atoms(), key=lambda atom: atom[1]):
            if length > 1 and stride != place:
                return False
            place *= length
        return self.size == self.source_size

    def inverse(self, source_shape: Sequence[int]) -> View:
        """The view that gives the source, of ``source_shape``, back; of bijections only."""
        if not self.is_bijection:
            raise ValueError(f"{self!r} is no bijection")
        places = row_major(self.shape)
        atoms = sorted(zip(self.strides, self.shape, places, strict=True), reverse=True)
        lengths, strides = tuple(n for _, n, _ in atoms), tuple(p for _, _, p in atoms)
        return View(lengths, strides, 0, tuple(source_shape), self.size)

    def as_permutation(self, source_shape: Sequence[int]) -> tuple[int, ...] | None:
        """The axes with ``identity(source_shape).permute(axes) == self``, if there are such."""
        if len(source_shape) != len(self.out_shape) or not self.is_bijection:
            return None
        free = dict(enumerate(zip(source_shape, row_major(source_shape), strict=True)))
        axes = []
        for length, place in zip(self.out_shape, row_major(self.out_shape), strict=True):
            stride = self._address(place) - self.offset if length > 1 else 0
            matches = (a for a, (n, s) in free.items() if n == length and (n == 1 or s == stride))
            axis = next(matches, None)
            if axis is None:
                return None
            axes.append(axis)
            del free[axis]
        same = View.permutation(source_shape, axes) == self
        return tuple(axes) if same else None

    def as_permuted_axes(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """A shape of the source, and the permutation of it that makes the output; if there is one.

        The shape has one axis for each of the output's, so that what runs over an axis of the
        output runs over an axis of the source under that shape.
        """
        strides = [self._uniform_stride(axis) for axis in range(len(self.out_shape))]
        if not self.is_bijection or None in strides:
            return None
        axes = range(len(strides))
        order = sorted(axes, key=lambda a: (-(strides[a] or 0), self.out_shape[a], a))
        shape = tuple(self.out_shape[a] for a in order)
        permutation = tuple(order.index(a) for a in axes)
        same = View.permutation(shape, permutation) == self
        return (shape, permutation) if same else None

    def grouped(self) -> tuple[tuple[int, ...], ...] | None:
        """For every axis of the output the lengths of the atoms that make it up.

        ``None`` where an atom lies across the boundary of two axes.
        """
        atoms = [n for n in self.shape if n > 1]
        groups: list[tuple[int, ...]] = []
        for length in reversed(self.out_shape):
            group: list[int] = []
            while length > 1:
                atom = atoms.pop()
                step = min(atom, length)
                if atom % step or length % step:
                    return None
                group.insert(0, step)
                length //= step
                if atom > step:
                    atoms.append(atom // step)
            groups.insert(0, tuple(group))
        return tuple(groups)

    def narrowed(self) -> View:
        """The same read with axes of length 1 where the output merely repeats itself."""
        ends = tuple(
            1 if n > 1 and self._uniform_stride(axis) == 0 else n
            for axis, n in enumerate(self.out_shape)
        )
        return self.slice((0,) * len(ends), ends) or self

    def _uniform_stride(self, axis: int) -> int | None:
        """The distance in the source of neighbours along an axis, if it is the same for all."""
        ends = tuple(n if a == axis else 1 for a, n in enumerate(self.out_shape))
        along = self.slice((0,) * len(ends), ends)
        return along.strides[0] if along is not None and len(along.strides) == 1 else None

    def restrict(self, channels: int) -> tuple[tuple[int, ...], View] | None:
        """The channels that are read, and the same read from a source that holds only these.

        ``channels`` is the length of the source's last axis. The new source has the chosen
        channels, in ascending order, as its last axis. ``None`` where an atom runs over from one
        row into the next, or where the same channels are not read in every row.
        """
        atoms = self._atoms_within(channels)
        inner = sorted((s, n) for n, s in atoms if s % channels)
        first, rows_before = self.offset % channels, self.offset // channels
        chosen, places = [first], {}
        for stride, length in inner:
            if chosen[-1] >= first + stride or chosen[-1] + (length - 1) * stride >= channels:
                return None
            places[stride] = len(chosen)
            chosen = [c + i * stride for i in range(length) for c in chosen]
        width = len(chosen)
        strides = tuple(places[s] if s % channels else s // channels * width for _, s in atoms)
        lengths, size = tuple(n for n, _ in atoms), self.source_size // channels * width
        return tuple(chosen), View(lengths, strides, rows_before * width, self.out_shape, size)

    def factored(self, source_shape: Sequence[int]) -> tuple[View, View]:
        """``first, second`` with ``first.then(second) == self``: what is read, then in which order.

        ``first`` reads the elements once and in the source's order, keeping the last axis last;
        ``second`` moves and repeats them. Where all is read, or where windows overlap, ``first``
        is the identity.
        """
        channels = source_shape[-1]
        atoms = self._atoms_within(channels)
        ordered = sorted(((s, n) for n, s in atoms if s and n > 1), reverse=True)
        if overlapping(ordered):
            return View.identity(source_shape), self
        rows = tuple(n for s, n in ordered if s % channels == 0)
        width = prod(n for s, n in ordered if s % channels)
        lead = tuple(source_shape[:-1])
        shape = (*(lead if prod(rows) == prod(lead) else rows), width)
        if prod(shape) == self.source_size:
            shape = tuple(source_shape)
        lengths, strides = tuple(n for _, n in ordered), tuple(s for s, _ in ordered)
        first = View(lengths, strides, self.offset, shape, self.source_size)
        places = {s: p for (s, _), p in zip(ordered, row_major(lengths), strict=True)}
        moved = tuple(places[s] if n > 1 and s else 0 for n, s in atoms)
        return first, View(tuple(n for n, _ in atoms), moved, 0, self.out_shape, first.size)

    def _atoms(self) -> tuple[Atom, ...]:
        return tuple(zip(self.shape, self.strides, strict=True))

    def _atoms_within(self, channels: int) -> list[Atom]:
        """The atoms, split where one walks through whole rows of ``channels``."""
        atoms: list[Atom] = []
        for length, stride in self._atoms():
            inside = channels // stride if 0 < stride < channels and not channels % stride else 0
            if inside > 1 and length > inside and length % inside == 0:
                atoms += [(length // inside, channels), (inside, stride)]
            else:
                atoms.append((length, stride))
        return atoms

    def _address(self, position: int) -> int:
        return self.offset + Digits(self.shape, self.strides).add_offset(position)

    def permute(self, axes: Sequence[int]) -> View | None:
        """Output axis ``i`` becomes what axis ``axes[i]`` was."""
        if sorted(axes) != list(range(len(self.out_shape))):
            raise ValueError(f"{tuple(axes)} is no permutation of {len(self.out_shape)} axes")
        return self.then(View.permutation(self.out_shape, axes))

    def reshape(self, shape: Sequence[int]) -> View:
        """The same elements in the same order under another shape; always expressible."""
        return View(self.shape, self.strides, self.offset, tuple(shape), self.source_size)

    def slice(
        self, begin: Sequence[int], end: Sequence[int], stride: Sequence[int] | None = None
    ) -> View | None:
        """``out[begin:end:stride]`` on every axis; 0 <= begin < end <= length, stride >= 1."""
        steps = tuple(stride) if stride is not None else (1,) * len(self.out_shape)
        limits = tuple(zip(begin, end, steps, self.out_shape, strict=True))
        if not all(0 <= b < e <= length and step >= 1 for b, e, step, length in limits):
            raise ValueError(f"slice {tuple(begin)}:{tuple(end)}:{steps} of {self.out_shape}")
        lengths = tuple(-(-(e - b) // step) for b, e, step, _ in limits)
        places = row_major(self.out_shape)
        offset = sum(b * place for b, place in zip(begin, places, strict=True))
        strides = tuple(step * place for step, place in zip(steps, places, strict=True))
        return self.then(View(lengths, strides, offset, lengths, self.size))

    def broadcast_to(self, shape: Sequence[int]) -> View | None:
        """NumPy broadcasting of the output to ``shape``."""
        padded = (1,) * (len(shape) - len(self.out_shape)) + self.out_shape
        if len(padded) != len(shape) or any(
            a not in (1, b) for a, b in zip(padded, shape, strict=True)
        ):
            raise ValueError(f"{self.out_shape} does not broadcast to {tuple(shape)}")
        places = row_major(padded)
        strides = tuple(p if a == b else 0 for a, b, p in zip(padded, shape, places, strict=True))
        return self.then(View(tuple(shape), strides, 0, tuple(shape), self.size))

    def then(self, other: View) -> View | None:
        """The view that reads ``other`` out of this view's output."""
        if other.source_size != self.size:
            raise ValueError(f"a view of {other.source_size} elements after one of {self.size}")
        digits = Digits(self.shape, self.strides)
        offset = self.offset + digits.add_offset(other.offset)
        atoms: list[Atom] = []
        for length, stride in zip(other.shape, other.strides, strict=True):
            pieces = digits.add_atom(length, stride)
            if pieces is None:
                return None
            atoms += pieces
        if not digits.carry_free():
            return None
        shape, strides = tuple(n for n, _ in atoms), tuple(s for _, s in atoms)
        return View(shape, strides, offset, other.out_shape, self.source_size)

    def apply(self, source: NDArray[Any]) -> NDArray[Any]:
        """Read ``source`` (any shape, ``source_size`` elements); the result owns its data."""
        flat = np.ascontiguousarray(source).reshape(-1)
        if flat.size != self.source_size:
            raise ValueError(f"a view of {self.source_size} elements got {flat.size}")
        strides = tuple(s * flat.itemsize for s in self.strides)
        window = np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, strides)
        return window.reshape(self.out_shape).copy()


def _plain(shape: Sequence[int], axes: Iterable[int], out_shape: Sequence[int]) -> View:
    """A contiguous tensor of ``shape`` read with its axes in the given order."""
    places, order = row_major(shape), tuple(axes)
    lengths, strides = tuple(shape[a] for a in order), tuple(places[a] for a in order)
    return View(lengths, strides, 0, tuple(out_shape), prod(shape))
