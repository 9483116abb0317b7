"""NVIDIA GPUs at run time: TVM's CUDA library, the card, and which machine code is for it.

Beside what ``hyq_tvm.runtime`` needs, a host takes ``libtvm_runtime_cuda.so`` of the apache-tvm
wheel (0.45 MB), NVIDIA's driver and ``libcudart.so.13``; no compiler and no toolkit.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm import runtime
from hyq_tvm.errors import ArtifactError, DeviceError, TargetError

LIBRARY = "libtvm_runtime_cuda.so"
CALLBACK = "tvm_callback_cuda_compile"
CUDA = 2
"""DLPack's number of the device kind."""

CUBIN = "kernels.{}.cubin"

_POOLED = 2
_EXISTS, _CAPABILITY, _NAME = 0, 4, 5  # TVM's numbers of device attributes
_LOADER = "ffi.Module.load_from_bytes.cuda"


def cubin_name(arch: str) -> str:
    """The file of an artefact that holds the machine code for ``arch``."""
    return CUBIN.format(arch)


def cubins_beside(library: Path) -> dict[str, Path]:
    """Machine code beside a compiled library, by architecture; empty for one of a processor."""
    before, behind = CUBIN.split("{}")
    found = sorted(library.parent.glob(CUBIN.format("*")))
    return {file.name.removeprefix(before).removesuffix(behind): file for file in found}


def architecture() -> str:
    """The first GPU's, such as ``sm_90``.

    Raises ``TargetError`` that says which is missing: TVM's library, the driver or a GPU.
    """
    ensure_loaded()
    attribute = runtime.loaded_function("runtime.GetDeviceAttr")
    if attribute is None or not attribute(CUDA, 0, _EXISTS):
        raise TargetError("target 'cuda': the driver finds no NVIDIA GPU on this machine")
    return "sm_" + str(attribute(CUDA, 0, _CAPABILITY)).replace(".", "")


def card() -> str:
    """The first GPU's name, such as ``NVIDIA H200``; raises as ``architecture``."""
    architecture()
    return str(_function("runtime.GetDeviceAttr")(CUDA, 0, _NAME))


def ensure_loaded() -> None:
    """Load TVM's CUDA runtime into this process; raises ``TargetError`` if it cannot be."""
    runtime.ensure_loaded()
    if runtime.loaded_function(_LOADER) is not None:
        return
    library = runtime.library_folder() / LIBRARY
    _cudart()
    try:
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise TargetError(
            f"target 'cuda' cannot run here: {_reason(library, str(error))}"
        ) from error


def supports(code: str, card: str) -> bool:
    """Whether machine code for ``code`` runs on ``card``: one generation, no newer."""
    made, present = _version(code), _version(card)
    return made[0] == present[0] and made[1] <= present[1]


def fitting(architectures: Sequence[str], card: str) -> str:
    """The newest of them that runs on ``card``; raises ``ArtifactError`` if none does."""
    usable = [arch for arch in architectures if supports(arch, card)]
    if not usable:
        raise ArtifactError(
            f"made for {', '.join(architectures)}, this machine's GPU is {card}: compile it again "
            f'with target={{"kind": "cuda", "arch": "{card}"}}'
        )
    return max(usable, key=_version)


def load_library(path: Path, code: Callable[[str], bytes]) -> Any:
    """Load a compiled library whose kernels are ``code(source)``, by the source inside it."""
    ensure_loaded()
    with callback(code):
        return runtime.load_library(path)


@contextmanager
def callback(code: Callable[[str], bytes]) -> Iterator[None]:
    """TVM turns CUDA source into machine code with ``code`` while this is open."""
    import tvm_ffi

    before = tvm_ffi.get_global_func(CALLBACK, allow_missing=True)
    tvm_ffi.register_global_func(CALLBACK, lambda source, *_: code(str(source)), override=True)
    try:
        yield
    finally:
        if before is None:
            tvm_ffi.registry.remove_global_func(CALLBACK)
        else:
            tvm_ffi.register_global_func(CALLBACK, before, override=True)


def code_of(files: Mapping[str, Path]) -> Callable[[str], bytes]:
    """Machine code for this machine's GPU among files by architecture.

    Raises ``TargetError`` without a GPU and ``ArtifactError`` where none of the files fits it.
    """
    chosen = files[fitting(sorted(files), architecture())]
    return lambda _: chosen.read_bytes()


@cache
def _cudart() -> None:
    """NVIDIA's packages put libcudart where the loader does not look."""
    for entry in sys.path:
        for library in sorted(Path(entry).glob("nvidia/*/lib/libcudart.so.13")):
            ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
            return


def _reason(library: Path, error: str) -> str:
    if "libcuda.so" in error:
        return "no NVIDIA driver is installed (libcuda.so.1 is missing)"
    if "libcudart" in error:
        return "libcudart.so.13 is missing: pip install nvidia-cuda-runtime, or install CUDA 13"
    if not library.is_file():
        return f"{library} is missing: copy it from the apache-tvm wheel"
    return error


def _version(arch: str) -> tuple[int, int]:
    digits = "".join(c for c in arch.removeprefix("sm_") if c.isdigit())
    return int(digits[:-1]), int(digits[-1])


class Machine(runtime.VirtualMachine):
    """Functions of one compiled library on the first GPU; arrays come from and go to the host."""

    def __init__(self, library: Any) -> None:
        super().__init__(library)
        self._uploads: dict[tuple[str, int], Any] = {}

    def _devices(self) -> tuple[int, ...]:
        return (CUDA, 0, _POOLED, *super()._devices())

    def run(self, function: str, arrays: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], ...]:
        """Call ``function`` and return its outputs; raises ``DeviceError`` where the GPU fails."""
        try:
            arguments = [self._uploaded(function, i, array) for i, array in enumerate(arrays)]
            result = self._module[function](*arguments)
            outputs = (result,) if hasattr(result, "__dlpack__") else tuple(result)
            return tuple(download(output) for output in outputs)
        except RuntimeError as error:
            raise DeviceError(_failure(str(error))) from error

    def seconds_per_call(self, function: str, arrays: Sequence[NDArray[Any]], calls: int) -> float:
        """Mean time of ``calls`` calls on arrays that stay on the GPU; the last output is fetched.

        Raises ``DeviceError`` where the GPU fails.
        """
        self.run(function, arrays)
        arguments = [self._uploads[(function, i)] for i in range(len(arrays))]
        started = time.perf_counter()
        try:
            for _ in range(calls):
                result = self._module[function](*arguments)
            download(result if hasattr(result, "__dlpack__") else result[0])
        except RuntimeError as error:
            raise DeviceError(_failure(str(error))) from error
        return (time.perf_counter() - started) / calls

    def _uploaded(self, function: str, index: int, array: NDArray[Any]) -> Any:
        """The array in the GPU memory that this argument always has."""
        key = (function, index)
        tensor = self._uploads.get(key)
        if tensor is None or tuple(tensor.shape) != array.shape:
            tensor = self._uploads[key] = empty(array.shape, str(array.dtype))
        upload(tensor, array)
        return tensor


def empty(shape: tuple[int, ...], dtype: str) -> Any:
    """An uninitialised tensor on the first GPU."""
    import tvm_ffi

    allocate = _function("runtime.TVMTensorAllocWithScope")
    return allocate(tvm_ffi.Shape(shape), tvm_ffi.dtype(dtype), tvm_ffi.device("cuda", 0), None)


def upload(tensor: Any, array: NDArray[Any]) -> None:
    """The array's numbers to a tensor of its shape and dtype on the GPU."""
    whole = np.ascontiguousarray(array)
    copy = _function("runtime.TVMTensorCopyFromBytes")
    copy(tensor, ctypes.c_void_p(whole.ctypes.data), whole.nbytes)


def on_gpu(array: NDArray[Any]) -> Any:
    """The array as a tensor on the first GPU."""
    tensor = empty(array.shape, str(array.dtype))
    upload(tensor, array)
    return tensor


def download(tensor: Any) -> NDArray[Any]:
    """A tensor of the GPU as an array, once everything before it is done."""
    array = np.empty(tuple(int(n) for n in tensor.shape), np.dtype(str(tensor.dtype)))
    copy = _function("runtime.TVMTensorCopyToBytes")
    copy(tensor, ctypes.c_void_p(array.ctypes.data), array.nbytes)
    return array


def _function(name: str) -> Any:
    found = runtime.loaded_function(name)
    if found is None:
        raise TargetError(f"TVM's runtime lacks {name}: reinstall apache-tvm")
    return found


def _failure(error: str) -> str:
    """What a user can do about TVM's message."""
    line = (error.strip().splitlines() or ["no reason given"])[0]
    if "out of memory" in error.lower() or "OUT_OF_MEMORY" in error:
        return f"the GPU is out of memory ({line}): use a smaller batch, or free the card"
    if "NO_BINARY_FOR_GPU" in error:
        return f"the kernels are for another GPU ({line}): compile for this one's arch"
    return f"the GPU failed: {line}"
