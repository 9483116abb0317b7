"""Activations on their way into products: copied to the operand type of the instruction set."""

from __future__ import annotations

from schedules.llvm import vector
from schedules.llvm.image import Window
from schedules.llvm.isa import Isa
from schedules.llvm.tile import BIAS
from schedules.llvm.vector import Buffer, Expr

_UNROLLED = 8


def copy(isa: Isa, target: Buffer, start: Expr, source: Buffer, offset: Expr, count: int) -> None:
    """``count`` int8 elements of ``source`` to ``target``, as the operand type."""

    def piece(position: Expr, lanes: int) -> None:
        value = vector.load(source, offset + position, lanes)
        vector.store(target, start + position, converted(isa, value, lanes), lanes)

    width = isa.bytes
    whole = count // width
    if whole > _UNROLLED:
        with vector.loop(whole) as i:
            piece(i * width, width)
    else:
        for i in range(whole):
            piece(i * width, width)
    rest = count % width
    if rest and whole:
        piece(count - width, width)  # overlaps what is there already with the same values
        return
    position = 0
    while position < rest:
        lanes = 1 << ((rest - position).bit_length() - 1)
        piece(position, lanes)
        position += lanes


def converted(isa: Isa, value: Expr, lanes: int) -> Expr:
    """int8 lanes as the operand type."""
    if isa.biased:
        return value ^ vector.constant(-BIAS, "int8", lanes)
    return value if isa.operand == "int8" else vector.cast(value, isa.operand, lanes)


def fill(isa: Isa, target: Buffer, start: Expr, value: int, count: int) -> None:
    """``count`` times the int8 ``value`` to ``target``, as the operand type."""
    stored = value + BIAS if isa.biased else value
    stored = stored - 256 if isa.biased and stored > 127 else stored
    width = isa.bytes
    whole = count // width

    def piece(position: Expr, lanes: int) -> None:
        constant = vector.constant(stored, isa.operand, lanes)
        vector.store(target, start + position, constant, lanes)

    if whole > _UNROLLED:
        with vector.loop(whole) as i:
            piece(i * width, width)
    else:
        for i in range(whole):
            piece(i * width, width)
    position = whole * width
    while position < count:
        lanes = 1 << ((count - position).bit_length() - 1)
        piece(position, lanes)
        position += lanes


def spread(length: int) -> int:
    """A distance between rows that does not put them all into the same sets of the cache."""
    return length + 64 if length % 1024 == 0 else length


def copy_window(
    isa: Isa,
    window: Window,
    target: Buffer,
    pitch: int,
    source: Buffer,
    place: tuple[Expr, Expr],
    rows: int,
    slack: int,
) -> None:
    """What ``rows`` output rows read, padded, to ``target``; its rows are ``pitch`` apart.

    place: number of the image and of the first output row. slack: elements behind a row that code
    may read though nothing depends on them: LLVM may do anything with undefined memory.
    """
    image, first = place
    channels, wanted, top = window.channels, window.width, window.padding[0]
    left = min(window.padding[1], wanted)
    inside = min(window.in_width, wanted - left)
    with vector.loop(window.span(rows)) as i:
        line = first * window.strides[0] + i - top
        start = i * pitch

        def padded_line() -> None:
            fill(isa, target, start, window.pad_value, wanted * channels + slack)

        def image_line() -> None:
            fill(isa, target, start, window.pad_value, left * channels)
            offset = (image * window.height + line) * window.in_width * channels
            copy(isa, target, start + left * channels, source, offset, inside * channels)
            right = (wanted - left - inside) * channels + slack
            fill(isa, target, start + (left + inside) * channels, window.pad_value, right)

        if top or window.padding[2]:
            vector.branch(vector.within(line, window.height), image_line, padded_line)
        else:
            image_line()
