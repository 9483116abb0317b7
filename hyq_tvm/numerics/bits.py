"""Bit lengths of integers in NumPy; the TE twin is ``hyq_tvm.topi.bits``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def bit_length(x: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """The number of bits of ``0 <= x < 2^63``, as Python's ``int.bit_length``; 0 has none.

    Raises ``ValueError`` on a negative value.
    """
    rest = np.array(x, dtype=np.int64)
    if rest.size and rest.min() < 0:
        raise ValueError(f"bit length of {rest.min()}: only natural numbers have one here")
    length = np.zeros(rest.shape, dtype=np.int64)
    for step in (32, 16, 8, 4, 2, 1):
        above = rest >> step > 0
        length += np.where(above, step, 0)
        rest = np.where(above, rest >> step, rest)
    return length + (rest > 0)
