"""Keeps known noise of TVM's C++ log off the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

NOISE = (b"Warning: Scope Saving:", b"Warning: Scope Loaded:")
"""TVM logs one such line for every weight that it saves or loads."""

_STDERR = 2


@contextmanager
def filtered(noise: tuple[bytes, ...] = NOISE) -> Iterator[None]:
    """Hold back what the block writes to file descriptor 2, then pass on all but ``noise``.

    TVM has no switch for its log. Lines of other threads are delayed until the block ends. Where
    the process has no standard error there is nothing to filter.
    """
    _flush()
    try:
        terminal = os.dup(_STDERR)
    except OSError:
        yield
        return
    held = os.memfd_create("native_log")
    os.dup2(held, _STDERR)
    try:
        yield
    finally:
        _flush()
        os.dup2(terminal, _STDERR)
        _pass_on(held, terminal, noise)
        os.close(held)
        os.close(terminal)


def _pass_on(held: int, terminal: int, noise: tuple[bytes, ...]) -> None:
    os.lseek(held, 0, os.SEEK_SET)
    with os.fdopen(os.dup(held), "rb") as log:
        for line in log:
            if not any(phrase in line for phrase in noise):
                os.write(terminal, line)


def _flush() -> None:
    if sys.stderr is not None:
        sys.stderr.flush()
