"""Tuning for NVIDIA GPUs: candidates are built here, and measured where a GPU is.

A folder of candidates holds everything that ``hyq_tvm.gpu_timing`` needs. It is measured by a
process of this machine, sent to the servers of a tracker, or carried to a machine that can only
be reached on foot (``rounds``).
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import rpc

from hyq_tvm import cuda_device, gpu_timing, numerics
from hyq_tvm.errors import ArtifactError, TargetError, TuningError
from hyq_tvm.targets.cuda import CudaTarget, with_machine_code, with_source
from hyq_tvm.targets.cuda_library import CudaLibrary
from hyq_tvm.threads import available_threads
from hyq_tvm.tuning import tasks
from hyq_tvm.tuning.measure import ATTEMPTS, Measurer, Timing, Tracker
from hyq_tvm.tuning.tasks import Candidate, Task
from schedules.rule import Constant, Kernel, Workload

REMOTE = "hyq_tvm.measure_candidates"
"""What servers call the function that measures."""

ARCHIVE = "candidates.tar"
_SESSION_SECONDS = 600
_REMEDIES = (
    "measure on a machine that has one: tracker= and key= (hyq-tvm tune --tracker) where it can be "
    "reached, split= (hyq-tvm tune --split) where it cannot"
)


def extract(module: tvm.IRModule, target: CudaTarget) -> list[Task]:
    """The tasks of an integer module; raises ``TuningError`` for more than one architecture."""
    if len(target.architectures) != 1:
        raise TuningError(
            f"tuning is for one card: choose one arch of {', '.join(target.architectures)}"
        )
    return tasks.extract(module, target.device)


Results = Iterator[tuple[int, Mapping[str, Any]]]


class Folder:
    """A folder of candidates, to be filled and then written."""

    def __init__(self, path: Path, target: CudaTarget) -> None:
        self.path = path
        self._target = target
        self._candidates: list[dict[str, Any]] = []
        self._answers: dict[int, tuple[Workload, str]] = {}
        (path / "constants").mkdir(parents=True)

    def __len__(self) -> int:
        return len(self._candidates)

    def add(self, candidates: Sequence[tuple[Candidate, Mapping[str, Any]]]) -> list[str]:
        """Build candidates, which have these records; why each cannot be, or "".

        Spilled registers are such a reason.
        """
        emitted = [self._emitted(candidate) for candidate, _ in candidates]
        with ThreadPoolExecutor(available_threads()) as pool:
            built = list(pool.map(self._built, emitted))
        return [self._kept(*c, library) for c, library in zip(candidates, built, strict=True)]

    def _emitted(self, candidate: Candidate) -> Any:
        """What TVM makes of it; an error's text otherwise."""
        function = candidate.function.with_attr("global_symbol", gpu_timing.FUNCTION)
        try:
            return with_source(tvm.IRModule({gpu_timing.FUNCTION: function}), self._target)
        except RuntimeError as error:
            return _reason(error)

    def _built(self, emitted: Any) -> CudaLibrary | str:
        if isinstance(emitted, str):
            return emitted
        try:
            return with_machine_code(emitted, self._target)[0]
        except TargetError as error:
            return _reason(error)

    def _kept(
        self, candidate: Candidate, record: Mapping[str, Any], library: CudaLibrary | str
    ) -> str:
        if isinstance(library, str):
            return library
        place, workload = f"{len(self):04d}", candidate.workload
        (self.path / place).mkdir()
        library.export(self.path / place / gpu_timing.LIBRARY)
        self._candidates.append(
            {
                "folder": place,
                "record": dict(record),
                "arguments": [self._argument(workload, a) for a in candidate.arguments],
                "output": [workload.output.dtype, list(workload.output.shape)],
                "answer": self._answer(workload),
            }
        )
        return ""

    def write(self) -> None:
        """Write the list of everything in the folder, which makes it complete."""
        files = {
            str(file.relative_to(self.path)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(self.path.rglob("*"))
            if file.is_file()
        }
        index = {
            "format": gpu_timing.FORMAT,
            "arch": self._target.architectures[0],
            "files": files,
            "candidates": self._candidates,
        }
        text = json.dumps({**index, "checksum": gpu_timing.own_checksum(index)}, indent=1)
        (self.path / gpu_timing.INDEX).write_text(text + "\n", encoding="utf-8")

    def _argument(self, workload: Workload, argument: int | Constant) -> dict[str, Any]:
        if isinstance(argument, Constant):
            return self._constant(argument.value)
        spec = workload.arguments[argument]
        if spec.constant is not None:
            return self._constant(spec.constant)
        return {"seed": argument, "dtype": spec.dtype, "shape": list(spec.shape)}

    def _constant(self, value: NDArray[Any]) -> dict[str, Any]:
        sizes = "x".join(map(str, value.shape))
        name = f"constants/{gpu_timing.digest(value)[:32]}-{value.dtype}-{sizes}.npy"
        if not (self.path / name).exists():
            np.save(self.path / name, np.ascontiguousarray(value), allow_pickle=False)
        return {"constant": name}

    def _answer(self, workload: Workload) -> str:
        """The golden model's, once for all candidates of a workload."""
        known = self._answers.get(id(workload))
        if known is None:
            arrays = [
                gpu_timing.seeded(i, spec.dtype, spec.shape)
                if spec.constant is None
                else spec.constant
                for i, spec in enumerate(workload.arguments)
            ]
            made = numerics.OPERATORS[workload.op](*arrays, **workload.params)
            known = self._answers[id(workload)] = (workload, gpu_timing.digest(made))
        return known[1]


def _reason(error: Exception) -> str:
    return f"not built: {' '.join(str(error).split())[:300]}"


def _candidate(kernel: Kernel) -> Candidate:
    if not isinstance(kernel, Candidate):
        raise TypeError("a GPU measures candidates of tasks")
    return kernel


@contextmanager
def measurer(target: CudaTarget, tracker: Tracker | None) -> Iterator[Measurer]:
    """What measures on this machine's GPU, or on the servers of ``tracker``.

    Raises ``TuningError`` where there is no GPU that could run the candidates, or no server.
    """
    if tracker is None:
        _check_gpu(target)
        yield GpuMeasurer(target, lambda folder: enumerate(gpu_timing.measure(folder.path)))
    else:
        tracker.await_servers()
        yield GpuMeasurer(target, _Servers(tracker).results)


def _check_gpu(target: CudaTarget) -> None:
    try:
        cuda_device.fitting(target.architectures, cuda_device.architecture())
    except (TargetError, ArtifactError) as error:
        raise TuningError(f"{error}; {_REMEDIES}") from error


class GpuMeasurer:
    """A measurer that builds candidates; ``results(folder)``: their numbers, and what came out."""

    def __init__(self, target: CudaTarget, results: Callable[[Folder], Results]) -> None:
        self._target = target
        self._results = results

    def measure(self, kernels: Sequence[Kernel]) -> Iterator[tuple[int, Timing]]:
        """See ``Measurer``."""
        with tempfile.TemporaryDirectory(prefix="hyq-tvm-tune-") as place:
            folder, built = Folder(Path(place) / "round", self._target), []
            errors = folder.add([(_candidate(kernel), {}) for kernel in kernels])
            for i, error in enumerate(errors):
                if error:
                    yield i, Timing(None, error)
                else:
                    built.append(i)
            if built:
                folder.write()
                for number, result in self._results(folder):
                    yield built[number], Timing(result["seconds"], result["error"])


class _Servers:
    """Measures on as many servers at a time as there are, again elsewhere what was lost."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def results(self, folder: Folder) -> Results:
        """Of all candidates; raises ``TuningError`` where a server refuses, or none is left."""
        archive, waiting = packed(folder.path), list(range(len(folder)))
        for attempt in range(ATTEMPTS):
            servers = self._tracker.await_servers()
            groups = [group for i in range(servers) if (group := waiting[i::servers])]
            with ThreadPoolExecutor(len(groups)) as pool:
                answers = pool.map(lambda group: self._asked(archive, group), groups)
                waiting = []
                for group, (results, error) in zip(groups, answers, strict=True):
                    yield from zip(group, results, strict=False)
                    lost = group[len(results) :]
                    if attempt + 1 < ATTEMPTS:
                        waiting += lost
                    else:
                        yield from ((n, {"seconds": None, "error": error}) for n in lost)
            if not waiting:
                return

    def _asked(self, archive: bytes, numbers: Sequence[int]) -> tuple[list[Mapping[str, Any]], str]:
        """What a server says of candidates, or why it says nothing."""
        where = self._tracker
        try:
            session = rpc.connect_tracker(where.host, where.port).request(
                where.key, session_timeout=_SESSION_SECONDS
            )
            session.upload(bytearray(archive), ARCHIVE)
            text = session.get_function(REMOTE)(ARCHIVE, json.dumps(list(numbers)))
        except (RuntimeError, AttributeError, OSError) as error:
            line = str(error).strip().splitlines()[-1] if str(error).strip() else repr(error)
            return [], f"the server was lost: {line[:200]}"
        answer = json.loads(str(text))
        if answer["refusal"]:
            raise TuningError(f"a server with key {where.key!r} says: {answer['refusal']}")
        return answer["results"], ""


def packed(folder: Path) -> bytes:
    """A folder as an archive."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        archive.add(folder, arcname=".")
    return held.getvalue()


def unpacked(archive: Path, folder: Path) -> None:
    """The inverse of ``packed``; nothing lands outside of ``folder``."""
    with tarfile.open(archive) as held:
        held.extractall(folder, filter="data")
