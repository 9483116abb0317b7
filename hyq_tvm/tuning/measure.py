"""Times of kernels, measured in processes of their own: on this machine or behind a tracker.

Building happens here on all cores; what runs is alone on its machine. A kernel that crashes or
hangs takes its process with it, not the tuner. The parts are TVM's: its pool of processes, the
runners of MetaSchedule, its RPC tracker and servers.
"""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import cloudpickle
import tvm
from tvm import rpc
from tvm.s_tir.meta_schedule.arg_info import TensorInfo
from tvm.s_tir.meta_schedule.runner import (
    EvaluatorConfig,
    LocalRunner,
    RPCConfig,
    RPCRunner,
    RunnerInput,
)
from tvm.support.popen_pool import PopenPoolExecutor, StatusKind

from hyq_tvm import native_log
from hyq_tvm.errors import TuningError
from hyq_tvm.threads import available_threads
from hyq_tvm.tuning import workers
from schedules.rule import Kernel

ATTEMPTS = 3
"""Tries before a kernel that does not run is given up: a server may have died under it."""

_BUILD_SECONDS = 120
_RUN_SECONDS = 30
_WAIT_SECONDS = 60
_CONNECT_SECONDS = 20
_USES = 200  # of a building process, before a fresh one gives its memory back

cloudpickle.register_pickle_by_value(workers)


@dataclass(frozen=True)
class Timing:
    """Seconds of the fastest run; None, with the reason in ``error``, where there is none."""

    seconds: float | None
    error: str = ""


class Measurer(Protocol):
    """Times kernels."""

    def measure(self, kernels: Sequence[Kernel]) -> Iterator[tuple[int, Timing]]:
        """Number and timing of each, as they come; ``TuningError`` where nothing can run at all."""


@dataclass(frozen=True)
class Tracker:
    """Where servers announce themselves, and the key of those to use."""

    host: str
    port: int
    key: str

    @classmethod
    def parse(cls, address: str, key: str) -> Tracker:
        """``"host:port"``; raises ``TuningError`` on anything else."""
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise TuningError(f"tracker {address!r}: write host:port, such as 192.168.0.7:9190")
        if not key:
            raise TuningError("tracker without key: say which of its servers to use, with key=")
        return cls(host, int(port), key)

    def config(self) -> Any:
        """The same for MetaSchedule."""
        return RPCConfig(self.host, self.port, self.key, session_timeout_sec=_RUN_SECONDS)

    def servers(self) -> int:
        """How many servers there are; raises ``TuningError`` without a tracker."""
        try:
            # TVM tries for a minute to reach a tracker that is not there.
            with socket.create_connection((self.host, self.port), _CONNECT_SECONDS):
                pass
            entries = rpc.connect_tracker(self.host, self.port).summary()["server_info"]
        except (RuntimeError, OSError) as error:
            raise TuningError(
                f"no tracker answers at {self.host}:{self.port} ({error}); start one with "
                f"python -m tvm.exec.rpc_tracker --port {self.port}"
            ) from error
        return sum(entry["key"] == f"server:{self.key}" for entry in entries)

    def await_servers(self) -> int:
        """How many there are, at least one; ``TuningError`` where there is none for a minute."""
        end = time.monotonic() + _WAIT_SECONDS
        while not (count := self.servers()):
            if time.monotonic() > end:
                raise TuningError(
                    f"no server with key {self.key!r} at {self.host}:{self.port}; start one with "
                    f"python -m tvm.exec.rpc_server --tracker {self.host}:{self.port} "
                    f"--key {self.key}"
                )
            time.sleep(1)
        return count


@contextmanager
def measurer(target: Any, tracker: Tracker | None) -> Iterator[Measurer]:
    """What measures for ``target`` on this machine, or on the servers of ``tracker``."""
    with native_log.filtered(), ExitStack() as stack:
        builder = stack.enter_context(_Builder(target))
        if tracker is None:
            yield _Local(builder, target)
        else:
            yield _Remote(builder, target, tracker)


class _Builder:
    """Compiles kernels in several processes."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self._folder = tempfile.TemporaryDirectory(prefix="hyq-tvm-tune-")
        self._count = 0
        self._pool = PopenPoolExecutor(
            max_workers=available_threads(), timeout=_BUILD_SECONDS, maximum_process_uses=_USES
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._pool.shutdown()
        self._folder.cleanup()

    def build(self, kernels: Sequence[Kernel]) -> list[tuple[str, str]]:
        """For each kernel the path of its archive, or "" and the reason there is none."""
        jobs = []
        for kernel in kernels:
            self._count += 1
            path = Path(self._folder.name) / f"{self._count}.tar"
            jobs.append((_module(kernel), self._target, str(path), 2 * _BUILD_SECONDS))
        results = self._pool.map_with_error_catching(lambda job: workers.build(*job), jobs)
        return [
            (str(result.value), "")
            if result.status == StatusKind.COMPLETE
            else ("", f"not built: {str(result.value) or 'took too long'}")
            for result in results
        ]


class _Local:
    """Runs one kernel after the other on this machine."""

    def __init__(self, builder: _Builder, target: Any) -> None:
        self._builder = builder
        self._device = _device(target)
        self._runner = LocalRunner(
            timeout_sec=_RUN_SECONDS,
            evaluator_config=_EVALUATOR,
            f_alloc_argument=workers.local_arguments,
        )

    def measure(self, kernels: Sequence[Kernel]) -> Iterator[tuple[int, Timing]]:
        """See ``Measurer``."""
        for i, (path, error) in enumerate(self._builder.build(kernels)):
            yield i, self._run(kernels[i], path) if path else Timing(None, error)

    def _run(self, kernel: Kernel, path: str) -> Timing:
        (future,) = self._runner.run([RunnerInput(path, self._device, _specs(kernel))])
        return _timing(future.result())


class _Remote:
    """Runs as many kernels at a time as there are servers, and again elsewhere what was lost."""

    def __init__(self, builder: _Builder, target: Any, tracker: Tracker) -> None:
        self._builder = builder
        self._device = _device(target)
        self._tracker = tracker
        count = tracker.await_servers()
        self._runner = RPCRunner(
            rpc_config=tracker.config(),
            evaluator_config=_EVALUATOR,
            f_alloc_argument=workers.remote_arguments,
            max_workers=count,
        )
        # The runner's own pool would wait for ever where the last server died.
        self._runner.pool = PopenPoolExecutor(max_workers=count, timeout=_RUN_SECONDS)

    def measure(self, kernels: Sequence[Kernel]) -> Iterator[tuple[int, Timing]]:
        """See ``Measurer``."""
        built = self._builder.build(kernels)
        failed = {i: Timing(None, error) for i, (path, error) in enumerate(built) if not path}
        yield from failed.items()
        waiting = [i for i in range(len(kernels)) if i not in failed]
        for attempt in range(ATTEMPTS):
            lost = []
            for i, timing in self._run([(i, kernels[i], built[i][0]) for i in waiting]):
                if timing.seconds is None and attempt + 1 < ATTEMPTS:
                    lost.append(i)
                else:
                    yield i, timing
            waiting = lost

    def _run(self, jobs: Sequence[tuple[int, Kernel, str]]) -> Iterator[tuple[int, Timing]]:
        if not jobs:
            return
        self._tracker.await_servers()
        inputs = [RunnerInput(path, self._device, _specs(kernel)) for _, kernel, path in jobs]
        for (i, _, _), future in zip(jobs, self._runner.run(inputs), strict=True):
            yield i, _timing(future.result())


_EVALUATOR = EvaluatorConfig(number=1, repeat=20, min_repeat_ms=2)
"""Short runs, many of them: on a busy machine some are not interrupted."""


def _module(kernel: Kernel) -> tvm.IRModule:
    return tvm.IRModule({"main": kernel.function.with_attr("global_symbol", "main")})


def _specs(kernel: Kernel) -> list[Any]:
    types = [parameter.ty for parameter in kernel.function.params]
    return [TensorInfo(str(t.dtype), [int(n) for n in t.shape]) for t in types]


def _device(target: Any) -> str:
    return "cpu" if str(target.kind.name) == "llvm" else str(target.kind.name)


def _timing(result: Any) -> Timing:
    if result.error_msg is not None:
        return Timing(None, " ".join(str(result.error_msg).split())[:300])
    return Timing(min(float(seconds) for seconds in result.run_secs))
