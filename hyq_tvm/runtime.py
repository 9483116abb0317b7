"""Runs compiled modules with apache-tvm-ffi and two small TVM libraries: no compiler, no ``tvm``.

A host that only runs saved executables needs ``apache-tvm-ffi`` and, from the apache-tvm wheel,
``libtvm_runtime.so`` and ``libtvm_runtime_extra.so`` (5 MB together). They are taken from the
folder that ``HYQ_TVM_RUNTIME`` names, else from an installed ``tvm`` package, which is looked up
but not imported. Where ``tvm`` is imported already, its own libraries serve.
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm import native_log, packing
from hyq_tvm.errors import ArtifactError, TargetError

FOLDER_VARIABLE = "HYQ_TVM_RUNTIME"
LIBRARIES = ("libtvm_runtime.so", "libtvm_runtime_extra.so")
PACKED_SUFFIX = ".packed"
ALIGNMENT = 64
"""Compiled kernels may use aligned loads on their arguments: the size of TVM's own allocations."""

_CPU = 1
_POOLED = 2
_loaded: list[ctypes.CDLL] = []


def library_folder() -> Path:
    """The folder that holds the runtime libraries.

    Raises ``TargetError`` saying how to get them when there is none, or when
    ``HYQ_TVM_RUNTIME`` names a folder without them.
    """
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return _complete(Path(chosen), f"{FOLDER_VARIABLE}={chosen}")
    spec = PathFinder.find_spec("tvm")
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise TargetError(
            "TVM's runtime is not installed: pip install apache-tvm, or copy "
            f"{' and '.join(LIBRARIES)} from its wheel and set {FOLDER_VARIABLE} to their folder"
        )
    return _complete(Path(places[0]) / "lib", "the installed tvm package")


def ensure_loaded() -> None:
    """Load the runtime libraries into this process, once; raises ``TargetError`` if it cannot."""
    if _loaded or "tvm" in sys.modules:
        return
    folder = library_folder()
    import tvm_ffi  # noqa: F401  brings in libtvm_ffi.so, which the libraries link to

    try:
        _loaded.extend(ctypes.CDLL(str(folder / name), ctypes.RTLD_GLOBAL) for name in LIBRARIES)
    except OSError as error:
        _loaded.clear()
        raise TargetError(f"TVM's runtime in {folder} cannot be loaded: {error}") from error


def loaded_function(name: str) -> Any | None:
    """A function that TVM's runtime registered, or None while the runtime is not loaded."""
    if not _loaded and "tvm" not in sys.modules:
        return None
    import tvm_ffi

    return tvm_ffi.get_global_func(name, allow_missing=True)


@contextmanager
def plain_library(path: Path) -> Iterator[Path]:
    """The shared library of ``path``, which may be packed: then a file that exists for a while.

    Raises ``ArtifactError`` where a packed library is damaged or cannot be unpacked.
    """
    if path.suffix != PACKED_SUFFIX:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="hyq_tvm.") as folder:
        library = Path(folder, "lib.so")
        try:
            library.write_bytes(packing.unpack(path.read_bytes()))
        except ValueError as error:
            raise ArtifactError(f"{path} is damaged ({error}): copy the folder again") from error
        except OSError as error:
            raise ArtifactError(f"{path} cannot be unpacked in {folder}: {error}") from error
        yield library


def load_library(path: Path) -> Any:
    """Load a compiled library, packed or not.

    Raises ``ArtifactError`` when it is damaged or the system's loader refuses it.
    """
    ensure_loaded()
    import tvm_ffi

    try:
        # The system keeps what it has mapped when the file is gone.
        with native_log.filtered(), plain_library(path) as library:
            return tvm_ffi.load_module(str(library))
    except (RuntimeError, OSError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} cannot be loaded: {_first_line(error)}") from error


class VirtualMachine:
    """Functions of one compiled library on this machine's processor.

    ``library`` is a TVM module that holds a virtual machine's program, freshly compiled or from
    ``load_library``. Not safe for use from several threads at once: the caller locks.
    """

    def __init__(self, library: Any) -> None:
        ensure_loaded()
        with native_log.filtered():
            self._module = library["vm_load_executable"]()
        self._module["vm_initialization"](*self._devices())
        self._buffers: dict[tuple[str, int], NDArray[Any]] = {}

    def _devices(self) -> tuple[int, ...]:
        """Kind, number and allocator of every device."""
        return _CPU, 0, _POOLED

    def run(self, function: str, arrays: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], ...]:
        """Call ``function`` and return copies of its outputs; a single tensor is a 1-tuple."""
        import tvm_ffi

        arguments = [
            tvm_ffi.from_dlpack(self._aligned(function, index, array))
            for index, array in enumerate(arrays)
        ]
        result = self._module[function](*arguments)
        outputs = (result,) if hasattr(result, "__dlpack__") else tuple(result)
        return tuple(np.array(np.from_dlpack(output)) for output in outputs)

    def _aligned(self, function: str, index: int, array: NDArray[Any]) -> NDArray[Any]:
        """A copy of ``array`` in a buffer of this machine that kernels may load from aligned."""
        key = (function, index)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.shape != array.shape or buffer.dtype != array.dtype:
            buffer = self._buffers[key] = aligned_empty(array.shape, array.dtype)
        np.copyto(buffer, array)
        return buffer


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An uninitialised C-contiguous array that starts at a multiple of ``ALIGNMENT`` bytes."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, dtype=np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _complete(folder: Path, source: str) -> Path:
    missing = [name for name in LIBRARIES if not (folder / name).is_file()]
    if missing:
        raise TargetError(f"{source} lacks {', '.join(missing)}: reinstall apache-tvm or copy them")
    return folder


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
