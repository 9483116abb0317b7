"""Constant operands in their smallest form, and moved with the layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.quantization.view import View

Array = NDArray[Any]


def compressed(array: Array) -> Array:
    """The smallest array that broadcasts to this one: repeated axes become 1, leading 1s go."""
    for axis in range(array.ndim):
        first = np.take(array, [0], axis)
        if np.array_equal(array, np.broadcast_to(first, array.shape)):
            array = first
    lead = next((i for i, n in enumerate(array.shape) if n > 1), array.ndim)
    return np.array(array.reshape(array.shape[lead:]), order="C")


def per_channel(const: Array, channels: int) -> Array | None:
    """A constant as one number per channel, or ``None`` if it varies along other axes."""
    if const.size == 1:
        return np.full(channels, const.item(), const.dtype)
    if const.shape[-1] == channels == const.size:
        return const.reshape(-1)
    return None


def before_view(const: Array, view: View, source_shape: Sequence[int]) -> Array:
    """The operand of the source that has the effect of ``const`` on the bijection's output."""
    whole = np.broadcast_to(const, view.out_shape)
    return compressed(view.inverse(source_shape).apply(whole))
