"""What runs in the tuner's worker processes: building a kernel, and making arrays to time it on.

These functions travel to the workers by value, so they import what they need themselves and do not
depend on where this package lies.
"""

from __future__ import annotations

from typing import Any


def build(module: Any, target: Any, path: str, seconds: int) -> str:
    """Compile ``module``, whose function is ``main``, into the archive ``path``, and return it.

    After ``seconds`` the process ends, also where no thread of it gets a turn to say so; and after
    any kernel, built or not, where too little memory is left for the next one.
    """
    import os
    import signal

    import tvm
    from tvm.support.tar import tar

    signal.alarm(seconds)
    try:
        with target:
            tvm.compile(module, target=target).mod.export_library(path, fcompile=tar)
    finally:
        signal.alarm(0)
        try:
            bytearray(1 << 26)
        except MemoryError:
            # It would wait for ever for the thread that ends a kernel that takes too long.
            os._exit(1)
    return path


def local_arguments(device: Any, specs: Any, repeat: int) -> list[list[Any]]:
    """Arrays of ``specs`` ("TENSOR", dtype, shape), ``repeat`` times.

    Small positive numbers, the same in every process: kernels take the time they always take, and
    shifts and indices are in their ranges.
    """
    import numpy as np
    import tvm

    generator = np.random.default_rng(0)

    def array(dtype: str, shape: Any) -> Any:
        numbers = generator.integers(1, 16, [int(n) for n in shape])
        return tvm.runtime.tensor(numbers.astype(dtype), device)

    return [[array(str(dtype), shape) for _, dtype, shape in specs] for _ in range(repeat)]


def remote_arguments(session: Any, device: Any, specs: Any, repeat: int) -> list[list[Any]]:
    """The same on a device of another machine."""
    return local_arguments(device, specs, repeat)
