"""Time of kernels that follow each other on a GPU, as they do in a network: from one CUDA graph.

Launched one by one, kernels of some microseconds would take the time of their launches.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from hyq_tvm import cuda_device
from hyq_tvm.errors import DeviceError

_LIBRARY = "libcudart.so.13"
_RELAXED = 2
_REPEATS = 20
_FILLED = 2e-3
"""Seconds of kernels in one graph."""

_MOST = 2000
_LIMIT = 0.5
"""Seconds after which no repetition starts."""


def timed(call: Callable[[], object]) -> float:
    """Seconds of the fastest of some runs of ``call``, which launches kernels and nothing else.

    ``call`` has run before. Raises ``DeviceError`` where the GPU fails.
    """
    count, spent = 1, 0.0
    with _Stream() as stream:
        for count in (1, 10):
            spent = stream.seconds(stream.graph(call, count)) / count
            if spent * 10 > _FILLED:
                break
        count = max(1, min(_MOST, round(_FILLED / max(spent, 1e-9))))
        graph = stream.graph(call, count)
        started, best = time.perf_counter(), float("inf")
        for _ in range(_REPEATS):
            best = min(best, stream.seconds(graph) / count)
            if time.perf_counter() - started > _LIMIT:
                break
    return best


class _Stream:
    """A stream of the first GPU, on which TVM's kernels run while it is open."""

    def __init__(self) -> None:
        self._handle = ctypes.c_void_p()
        self._graphs: list[ctypes.c_void_p] = []

    def __enter__(self) -> _Stream:
        import tvm_ffi

        _check("cudaStreamCreateWithFlags", ctypes.byref(self._handle), 1)
        self._use = tvm_ffi.use_raw_stream(tvm_ffi.device("cuda", 0), self._handle.value or 0)
        self._use.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._use.__exit__(*error)
        for graph in self._graphs:
            _runtime().cudaGraphExecDestroy(graph)
        _runtime().cudaStreamDestroy(self._handle)

    def graph(self, call: Callable[[], object], count: int) -> ctypes.c_void_p:
        """``count`` calls as one graph."""
        recorded, made = ctypes.c_void_p(), ctypes.c_void_p()
        _check("cudaStreamBeginCapture", self._handle, _RELAXED)
        try:
            for _ in range(count):
                call()
        finally:
            _check("cudaStreamEndCapture", self._handle, ctypes.byref(recorded))
        _check("cudaGraphInstantiate", ctypes.byref(made), recorded, ctypes.c_ulonglong(0))
        _runtime().cudaGraphDestroy(recorded)
        self._graphs.append(made)
        return made

    def seconds(self, graph: ctypes.c_void_p) -> float:
        """Of one launch, from its start until everything is done."""
        started = time.perf_counter()
        _check("cudaGraphLaunch", graph, self._handle)
        _check("cudaStreamSynchronize", self._handle)
        return time.perf_counter() - started


@cache
def _runtime() -> Any:
    cuda_device.ensure_loaded()
    return ctypes.CDLL(_LIBRARY)


def _check(name: str, *arguments: object) -> None:
    code = getattr(_runtime(), name)(*arguments)
    if code:
        raise DeviceError(f"the GPU failed: {name} gave error {code}")
