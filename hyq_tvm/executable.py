"""A compiled model: call it, look at it, save it. Needs neither TVM's compiler nor PyTorch."""

from __future__ import annotations

import os
import shutil
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hyq_tvm import artifact, cuda_device
from hyq_tvm.artifact import PROGRAM_SUFFIX, Metadata, TensorSpec
from hyq_tvm.errors import (
    ArtifactError,
    ConfigError,
    DeviceProgramError,
    FloatComputationError,
    InputError,
    PlanError,
)
from hyq_tvm.processor import host_features
from hyq_tvm.quantization.plan import QuantPlan
from hyq_tvm.runtime import VirtualMachine, load_library, plain_library

MAIN = "main"
INTEGERS = "main_integers"

Outputs = NDArray[Any] | tuple[NDArray[Any], ...]


class Library(Protocol):
    """Compiled code, in memory or in a file."""

    def module(self) -> Any:
        """TVM's module; loads the code."""

    def export(self, path: Path) -> None:
        """Write a shared library; raises ``OSError`` when that fails."""


@dataclass(frozen=True)
class SavedLibrary:
    """The library of an artefact, and the programs or GPU code beside it."""

    path: Path
    _held: list[Any] = field(default_factory=list)

    def module(self) -> Any:
        """TVM's module, loaded from the file; programs can be called while this object lives."""
        cubins = cuda_device.cubins_beside(self.path)
        if cubins:
            return cuda_device.load_library(self.path, cuda_device.code_of(cubins))
        library = load_library(self.path)
        if self._programs():
            from hyq_tvm.vta.driver.calls import register
            from hyq_tvm.vta.program import Program

            self._held.extend(register([Program.load(file) for file in self._programs()]))
        return library

    def export(self, path: Path) -> None:
        """Copy the files, the library unpacked; raises ``OSError``."""
        with plain_library(self.path) as library:
            shutil.copyfile(library, path)
        for file in [*self._programs(), *cuda_device.cubins_beside(self.path).values()]:
            shutil.copyfile(file, path.parent / file.name)

    def _programs(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"*{PROGRAM_SUFFIX}"))


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call with the traced batch."""

    minimum: float
    median: float
    calls: int


class Executable:
    """A compiled model.

    ``exe(x)`` takes one float32 array per input, with any number of samples on axis 0, and returns
    float32 logits: one array, or a tuple if the model has several outputs. Samples are cut into the
    batches that the model was traced with. Safe to call from several threads, which take turns.
    """

    def __init__(
        self, metadata: Metadata, plan: str, library: Library, *, refusal: str = ""
    ) -> None:
        """``plan``: its JSON, or "" for a float model. ``refusal``: why it must not be run here."""
        self._metadata = metadata
        self._plan = plan
        self._library = library
        self._lock = threading.Lock()
        self._refusal = refusal
        machine = cuda_device.Machine if metadata.target.get("kind") == "cuda" else VirtualMachine
        self._machine = None if refusal else machine(library.module())

    def __call__(self, *inputs: NDArray[Any]) -> Outputs:
        """Float outputs for any number of samples; raises ``InputError`` on a wrong array."""
        return self._run(MAIN, inputs)

    def run_integers(self, *inputs: NDArray[Any]) -> Outputs:
        """The integers behind the outputs, before they are dequantized.

        ``output_spec`` holds their dtype, scale and zero point. Raises ``InputError`` on a wrong
        array and ``FloatComputationError`` for a model that was compiled in float.
        """
        if not all(spec.integer_dtype for spec in self.output_spec):
            raise FloatComputationError(
                "this model was compiled in float and has no integer outputs: quantize it first"
            )
        return self._run(INTEGERS, inputs)

    @property
    def metadata(self) -> Metadata:
        """Versions, target, shapes and measured facts."""
        return self._metadata

    @property
    def plan(self) -> QuantPlan:
        """The plan the model was quantized with; raises ``PlanError`` for a float model."""
        if not self._plan:
            raise PlanError("this model was compiled in float and has no plan: quantize it first")
        return QuantPlan.from_json(self._plan)

    @property
    def input_spec(self) -> tuple[TensorSpec, ...]:
        """Name, traced shape and dtype of every input."""
        return self._metadata.inputs

    @property
    def output_spec(self) -> tuple[TensorSpec, ...]:
        """Name, traced shape, dtype and integer grid of every output."""
        return self._metadata.outputs

    def save(self, path: str | os.PathLike[str], *, packed: bool | None = None) -> None:
        """Write a folder that ``hyq_tvm.load`` reads, whole or not at all (``ArtifactError``).

        packed: store weights of 4 and 6 bits in so many, in ``lib.packed`` in place of ``lib.so``;
            loading unpacks them. By default where the plan has such weights.
        """
        if packed is None:
            packed = bool(self._plan) and self.plan.has_narrow_weights
        export = self._library.export
        artifact.write_artifact(path, self._metadata, self._plan, export, packed=packed)

    def latency(self, *inputs: NDArray[Any], calls: int = 50, warmup: int = 3) -> Latency:
        """Time calls on ``inputs`` (default: zeros of the traced shape)."""
        if calls < 1 or warmup < 0:
            raise ConfigError(f"calls={calls}, warmup={warmup}: choose 1 or more calls")
        arrays = inputs or tuple(np.zeros(s.shape, s.dtype) for s in self.input_spec)
        for _ in range(warmup):
            self(*arrays)
        times = []
        for _ in range(calls):
            start = time.perf_counter_ns()
            self(*arrays)
            times.append((time.perf_counter_ns() - start) / 1e6)
        return Latency(min(times), statistics.median(times), calls)

    def __repr__(self) -> str:
        kind = "integer-only" if self._metadata.integer_only else "with float computation"
        target = self._metadata.target.get("kind", "?")
        shapes = ", ".join(f"{s.name} {list(s.shape)}" for s in self.input_spec)
        return f"<Executable {kind}, target {target}, inputs {shapes}>"

    def _run(self, function: str, inputs: tuple[NDArray[Any], ...]) -> Outputs:
        samples = self._check(inputs)
        if not self._cuts_batches():
            return _single(self._locked_run(function, inputs))
        batch = self.input_spec[0].shape[0]
        pieces = [
            self._locked_run(function, [_rows(array, start, batch) for array in inputs])
            for start in range(0, samples, batch)
        ]
        if len(pieces) == 1 and samples == batch:
            return _single(pieces[0])
        joined = (np.concatenate(parts)[:samples] for parts in zip(*pieces, strict=True))
        return _single(tuple(joined))

    def _locked_run(
        self, function: str, arrays: Sequence[NDArray[Any]]
    ) -> tuple[NDArray[Any], ...]:
        if self._machine is None:
            raise ArtifactError(f"cannot run here: {self._refusal}")
        with self._lock:
            return self._machine.run(function, arrays)

    def _cuts_batches(self) -> bool:
        """Whether axis 0 of every input and output is the batch."""
        specs = (*self.input_spec, *self.output_spec)
        return all(s.shape and s.shape[0] == specs[0].shape[0] for s in specs)

    def _check(self, inputs: tuple[NDArray[Any], ...]) -> int:
        """Raise ``InputError`` unless the arrays fit; return the number of samples."""
        if len(inputs) != len(self.input_spec):
            names = [spec.name for spec in self.input_spec]
            raise InputError(f"{len(inputs)} arrays given, {len(names)} wanted: {names}")
        free = self._cuts_batches()
        for array, spec in zip(inputs, self.input_spec, strict=True):
            _check_array(array, spec, free)
        counts = {array.shape[:1] for array in inputs}
        if free and len(counts) > 1:
            raise InputError(f"the inputs have different numbers of samples: {sorted(counts)}")
        return int(inputs[0].shape[0]) if free else 1


def load(path: str | os.PathLike[str], run_code: bool = True) -> Executable:
    """Load a folder that ``Executable.save`` wrote.

    The folder is checked before any of its code runs; ``run_code=False`` stops there and gives an
    executable for looking at. TVM's compiler is not needed (``hyq_tvm.runtime``).

    Raises ``ArtifactError`` on a missing, damaged or foreign folder or one made for another
    machine, and ``TargetError`` when TVM's runtime is not installed.
    """
    checked = artifact.read_artifact(path)
    if run_code:
        artifact.check_host(checked.metadata, host_features())
    library = SavedLibrary(checked.library)
    refusal = "" if run_code else "it was loaded with run_code=False"
    try:
        return Executable(checked.metadata, checked.plan, library, refusal=refusal)
    except DeviceProgramError as error:
        raise ArtifactError(str(error)) from error
    except (RuntimeError, AttributeError) as error:
        raise ArtifactError(f"{checked.library} holds no compiled model: {error}") from error


def _check_array(array: object, spec: TensorSpec, free_batch: bool) -> None:
    wanted = (("any", *spec.shape[1:]) if free_batch else spec.shape, spec.dtype)
    shown = f"{spec.name} wants shape {_shape(wanted[0])} and dtype {spec.dtype}"
    if not isinstance(array, np.ndarray):
        raise InputError(f"{shown}, got {type(array).__name__}: convert it to a NumPy array")
    if array.dtype != np.dtype(spec.dtype):
        raise InputError(f"{shown}, got dtype {array.dtype}: use x.astype(np.{spec.dtype})")
    fits = array.ndim == len(spec.shape) and array.shape[1:] == spec.shape[1:]
    if not fits or not (free_batch or array.shape == spec.shape):
        raise InputError(f"{shown}, got shape {_shape(array.shape)}")
    if array.size == 0:
        raise InputError(f"{shown}, got no sample")
    if not np.isfinite(array).all():
        raise InputError(f"{spec.name} holds NaN or infinity: clean the data first")


def _shape(shape: tuple[object, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def _rows(array: NDArray[Any], start: int, count: int) -> NDArray[Any]:
    """``count`` samples from ``start``; zeros where the array ends."""
    rows = array[start : start + count]
    if len(rows) == count:
        return rows
    padded = np.zeros((count, *array.shape[1:]), array.dtype)
    padded[: len(rows)] = rows
    return padded


def _single(outputs: tuple[NDArray[Any], ...]) -> Outputs:
    return outputs[0] if len(outputs) == 1 else outputs
