"""Work in forked processes that may fail, hang or swell without harm."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

KILLED, SURVIVED, HUNG = "killed", "survived", "hung"
ROOM = 4 << 30
"""Bytes that a mutant may allocate."""
WAITING = 20
"""Seconds on the clock for one second of the processor."""


def fate(noticed: Callable[[], bool], limit: float) -> str:
    """What becomes of a mutant whose tests are ``noticed``. limit: seconds of the processor."""
    child = forked(lambda: int(noticed()), limit)
    done, status, end = 0, 0, time.monotonic() + WAITING * limit
    while not done and time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0 if done else 0.005)
    _end_group(child)
    if not done:
        os.waitpid(child, 0)
        return HUNG
    if os.WIFSIGNALED(status):
        return HUNG if os.WTERMSIG(status) == signal.SIGXCPU else KILLED
    return KILLED if os.WEXITSTATUS(status) else SURVIVED


def answer(work: Callable[[], Any]) -> Any:
    """What ``work`` returns in a process of its own; raises ``RuntimeError`` if it does not."""
    ours, theirs = os.pipe()

    def tell() -> int:
        with os.fdopen(theirs, "wb") as stream:
            pickle.dump(work(), stream)
        return 0

    child = forked(tell)
    os.close(theirs)
    with os.fdopen(ours, "rb") as stream:
        data = stream.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != 0:
        raise RuntimeError(f"the process ended with {code}; its last words are above")
    return pickle.loads(data)


def forked(work: Callable[[], int], limit: float | None = None) -> int:
    """The number of a process that exits with what ``work`` returns.

    limit: seconds of the processor after which it is killed; then its output is dropped too.
    """
    child = os.fork()
    if not child:
        _work_and_exit(work, limit)
    return child


def _work_and_exit(work: Callable[[], int], limit: float | None) -> NoReturn:
    sys.dont_write_bytecode = True
    status = 1
    try:
        if limit is not None:
            _confine(limit)
        status = work()
    finally:
        os._exit(status)


def _confine(limit: float) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_DATA, (ROOM, ROOM))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end_group(child: int) -> None:
    """Kill a process and what its tests started."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        return
