"""Times candidate kernels on this machine's GPU; needs what running an artefact needs, no compiler.

    python -m hyq_tvm.gpu_timing FOLDER

FOLDER is what ``hyq-tvm tune --split FOLDER`` wrote, here or elsewhere: machine code, constants and
what every candidate has to make of inputs that both sides know. Records of the measurements go to
``measurements.jsonl`` in it, line by line; what is there already is not measured again. A candidate
that crashes or hangs takes its process with it and is recorded as failed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from hyq_tvm import cuda_device, documents
from hyq_tvm.cuda_graph import timed
from hyq_tvm.errors import HyqError, TuningError

FORMAT = 1
INDEX = "candidates.json"
RESULTS = "measurements.jsonl"
LIBRARY = "lib.so"
FUNCTION = "run"

_FIRST_SECONDS = 120  # of a process until its first result: loading libraries, making a context
_EACH_SECONDS = 60


def seeded(number: int, dtype: str, shape: Sequence[int]) -> NDArray[Any]:
    """Argument ``number`` of a candidate, the same ones on every machine.

    Integers over the whole range of ``dtype``, of at most 24 bits.
    """
    kind = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    noise = np.frombuffer(hashlib.shake_128(b"hyq %d" % number).digest(size), kind)
    return (noise >> max(0, 8 * kind.itemsize - 24)).reshape(shape)


def digest(array: NDArray[Any]) -> str:
    """What identifies an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def read_index(folder: Path) -> dict[str, Any]:
    """The candidates of a folder, every file as it was written; raises ``TuningError``."""
    path = folder / INDEX
    try:
        index = documents.parse(documents.read_text(path))
        files, wanted = dict(index["files"]), str(index["checksum"])
        whole = index["format"] == FORMAT and wanted == own_checksum(index)
    except OSError as error:
        raise TuningError(
            f"{folder} holds no candidates ({error}): hyq-tvm tune --split writes them"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise TuningError(f"{path} is damaged ({error}): copy the folder again") from error
    if not whole:
        raise TuningError(f"{path} is damaged, or of another version: copy the folder again")
    for name, checksum in files.items():
        _check_file(folder, str(name), str(checksum))
    return dict(index)


def own_checksum(index: Mapping[str, Any]) -> str:
    """Over everything else in an index."""
    rest = {key: value for key, value in index.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _check_file(folder: Path, name: str, checksum: str) -> None:
    file = folder / name
    inside = not Path(name).is_absolute() and ".." not in Path(name).parts
    try:
        if not inside or file.is_symlink():
            raise TuningError(f"{folder / INDEX} lists {name!r}, which is not inside the folder")
        found = hashlib.sha256(documents.read_bytes(file)).hexdigest()
    except (OSError, ValueError) as error:
        raise TuningError(f"{file} cannot be read ({error}): copy the folder again") from error
    if found != checksum:
        raise TuningError(f"{file} is damaged (its checksum differs): copy the folder again")


def measure(folder: Path, numbers: Sequence[int] | None = None) -> Iterator[dict[str, Any]]:
    """A record, as a dictionary, of each candidate, in their order; of ``numbers`` alone if given.

    Raises ``TuningError`` on a damaged folder, ``TargetError`` without a GPU and ``ArtifactError``
    where the candidates are for another one.
    """
    index = read_index(folder)
    card = cuda_device.architecture()
    cuda_device.fitting([str(index["arch"])], card)
    target = f"cuda/{index['arch']}/{cuda_device.card()}"
    waiting = list(range(len(index["candidates"])) if numbers is None else numbers)
    while waiting:
        for number, result in _attempt(folder, tuple(waiting)):
            waiting.remove(number)
            yield {**index["candidates"][number]["record"], "target": target, **result}


def _attempt(folder: Path, waiting: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """What one process measures of them; a failure is its last one."""
    with _process(folder, waiting) as child:
        seconds, started = _FIRST_SECONDS, time.monotonic()
        for number in waiting:
            result = child.result(seconds)
            now = time.monotonic()
            yield number, {**result, "cost": round(now - started, 3)}
            if result["error"]:
                return
            started, seconds = now, _EACH_SECONDS


@contextmanager
def _process(folder: Path, numbers: Sequence[int]) -> Iterator[_Process]:
    """Another process of this module that measures ``numbers``, one line of JSON for each."""
    only = ",".join(map(str, numbers))
    command = [sys.executable, "-m", "hyq_tvm.gpu_timing", str(folder), "--only", only]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, bufsize=0, stdout=subprocess.PIPE, stderr=said) as child,
    ):
        try:
            yield _Process(child, said)
        finally:
            child.kill()


class _Process:
    """A child and the file that its errors go to."""

    def __init__(self, child: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        self._child = child
        self._said = said

    def result(self, seconds: float) -> dict[str, Any]:
        """Of the next candidate: its seconds, or the error of this or of the process."""
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._child.stdout or 0, selectors.EVENT_READ)
            if not waiting.select(seconds):
                return {"seconds": None, "error": f"took longer than {seconds} seconds"}
        line = self._child.stdout.readline() if self._child.stdout else b""
        if line.endswith(b"\n"):
            return dict(json.loads(line))
        return {"seconds": None, "error": f"the process ended with {self._end()}"}

    def _end(self) -> str:
        code = self._child.wait()
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip().splitlines()
        return f"code {code}: {said[-1][:200]}" if said else f"code {code}"


def time_candidate(folder: Path, candidate: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds of the fastest run, or the error where the result is not the golden model's."""
    library = folder / str(candidate["folder"]) / LIBRARY
    code = cuda_device.code_of(cuda_device.cubins_beside(library))
    function = cuda_device.load_library(library, code)[FUNCTION]
    arrays = [_argument(folder, a) for a in candidate["arguments"]]
    tensors = [cuda_device.on_gpu(array) for array in arrays]
    dtype, shape = candidate["output"]
    out = cuda_device.on_gpu(np.zeros(shape, dtype))
    function(*tensors, out)
    if digest(cuda_device.download(out)) != candidate["answer"]:
        return {"seconds": None, "error": "its result is wrong"}
    return {"seconds": timed(lambda: function(*tensors, out)), "error": ""}


def _argument(folder: Path, argument: Mapping[str, Any]) -> NDArray[Any]:
    if "constant" in argument:
        array: NDArray[Any] = np.load(folder / str(argument["constant"]), allow_pickle=False)
        return array
    return seeded(int(argument["seed"]), str(argument["dtype"]), list(argument["shape"]))


def _serve(folder: Path, numbers: Sequence[int]) -> None:
    """A line for each; the process ends with the first error, which may have broken the GPU."""
    index = documents.parse(documents.read_text(folder / INDEX))
    for number in numbers:
        try:
            result = time_candidate(folder, index["candidates"][number])
        except (HyqError, RuntimeError) as error:
            text = " ".join(str(error).split())[:300]
            result = {"seconds": None, "error": text or type(error).__name__}
        print(json.dumps(result), flush=True)
        if result["error"]:
            return


def measure_some(folder: Path, goes_on: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """The folder's records: those on the disk, then measured ones, appended line by line.

    Ends before the first candidate for which ``goes_on()`` is false. Raises as ``measure``, and
    ``OSError`` where nothing can be written.
    """
    index = read_index(folder)
    path = folder / RESULTS
    # A line without its end was being written when this was interrupted.
    held = path.read_bytes() if path.is_file() else b""
    lines = held[: held.rfind(b"\n") + 1].splitlines()
    yield from map(json.loads, lines)
    with path.open("r+b" if held else "wb") as file:
        file.truncate(held.rfind(b"\n") + 1)
        file.seek(0, os.SEEK_END)
        waiting = range(len(lines), len(index["candidates"]))
        if not waiting or not goes_on():
            return
        for record in measure(folder, waiting):
            file.write((json.dumps(record, separators=(",", ":")) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
            yield record
            if not goes_on():
                return


def measure_all(folder: Path) -> int:
    """All of them, with a line on the terminal for each; how many there are."""
    whole, count = len(read_index(folder)["candidates"]), 0
    for record in measure_some(folder, lambda: True):
        count += 1
        seconds = record["seconds"]
        shown = record["error"] if seconds is None else f"{seconds * 1e6:.2f} us"
        print(f"{count}/{whole} {record['rule']}: {shown}", flush=True)
    return count


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.only is not None:
        _serve(chosen.folder, [int(number) for number in chosen.only.split(",")])
        return
    try:
        count = measure_all(chosen.folder)
    except (HyqError, OSError) as error:
        raise SystemExit(str(error)) from error
    print(f"{count} measurements in {chosen.folder / RESULTS}")


if __name__ == "__main__":
    # tvm_ffi imports PyTorch where it is installed, which takes seconds.
    sys.modules.setdefault("torch", cast(ModuleType, None))
    main()
