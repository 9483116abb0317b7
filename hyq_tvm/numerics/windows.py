"""Sizes of sliding windows, for the golden model and its TE twin alike."""

from __future__ import annotations

from collections.abc import Sequence


def output_size(size: int, low: int, high: int, kernel: int, stride: int, dilation: int = 1) -> int:
    """How many windows fit an axis of ``size`` padded by ``low`` and ``high``.

    Raises ``ValueError`` when the window is larger than the padded axis.
    """
    span = dilation * (kernel - 1) + 1
    if span > size + low + high:
        raise ValueError(f"a window of {span} does not fit an axis of {size}+{low}+{high}")
    return (size + low + high - span) // stride + 1


def output_plane(
    shape: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] = (1, 1),
) -> tuple[int, int]:
    """Height and width that windows over ``shape`` [B,H,W,C] make; ``padding`` is (t, l, b, r)."""
    top, left, bottom, right = padding
    return (
        output_size(int(shape[1]), top, bottom, kernel[0], strides[0], dilation[0]),
        output_size(int(shape[2]), left, right, kernel[1], strides[1], dilation[1]),
    )
