"""How many threads kernels use: TVM's own guess halves the cores of virtual machines.

TVM divides the number of logical cores by two wherever it believes in simultaneous
multithreading, which leaves half of a virtual machine idle, and it pins its threads to the first
cores even when the process may not run there. ``configure`` runs when ``hyq_tvm`` is imported and
sets TVM's environment variables, unless the user has set them.
"""

from __future__ import annotations

import os
from pathlib import Path

from hyq_tvm.errors import ConfigError

COUNT = "TVM_NUM_THREADS"
BIND = "TVM_BIND_THREADS"
_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")
_POOL_MODE = 1  # TVM's "big cores first", its default


def available_threads(cgroup_limit: Path = _CGROUP_LIMIT) -> int:
    """Processors that this process may use: its affinity mask, capped by its container's quota."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, min(allowed, _quota(cgroup_limit) or allowed))


def configure() -> None:
    """Set TVM's thread variables where the environment leaves them open."""
    threads = available_threads()
    os.environ.setdefault(COUNT, str(threads))
    if threads < (os.cpu_count() or 1):
        os.environ.setdefault(BIND, "0")


def num_threads() -> int:
    """How many threads kernels use; raises ``ConfigError`` if the variable is no number."""
    text = os.environ.get(COUNT, "")
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{COUNT}={text!r}: set it to a number of threads, 1 or more")
    return int(text)


def set_num_threads(count: int) -> None:
    """Use ``count`` threads from now on.

    A running pool can shrink but not grow beyond the size it started with, so call this before
    the first inference to use more threads than ``num_threads()`` says.

    Raises ``ConfigError`` unless ``count`` is a positive integer.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigError(f"number of threads {count!r}: choose an integer of 1 or more")
    os.environ[COUNT] = str(count)
    from hyq_tvm.runtime import loaded_function

    configure_pool = loaded_function("runtime.config_threadpool")
    if configure_pool is not None:
        configure_pool(_POOL_MODE, count)


def _quota(path: Path) -> int | None:
    """Whole processors of a version-2 control group's quota, rounded up; None without one."""
    try:
        limit, period = path.read_text(encoding="ascii").split()
        return None if limit == "max" else -(-int(limit) // int(period))
    except (OSError, ValueError):
        return None
