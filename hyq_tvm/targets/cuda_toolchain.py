"""CUDA source to machine code: NVRTC or nvcc, whichever is there, and what ptxas says of it.

No GPU is needed. Both compilers get the same options; floating point is IEEE (N2 wants a true
division), and sources include no header, so that NVRTC needs nothing beside its library.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from hyq_tvm.errors import TargetError

OPTIONS = ("--std=c++17", "--fmad=false", "--ptxas-options=-v")
INSTALL = "pip install 'hyq-tvm[cuda]' brings NVRTC; or install the CUDA toolkit and set CUDA_HOME"


@dataclass(frozen=True)
class Resources:
    """What one kernel takes of a multiprocessor, as ptxas reports it; sizes in bytes."""

    registers: int
    shared: int
    stack: int
    spills: int


@dataclass(frozen=True)
class Compiled:
    """Machine code of one architecture. resources: by name of the kernel."""

    arch: str
    cubin: bytes
    ptx: str
    resources: dict[str, Resources]


class Compiler(Protocol):
    """Something that compiles CUDA."""

    @property
    def name(self) -> str:
        """For reports."""
        ...

    def compile(self, source: str, arch: str) -> Compiled:
        """Machine code for ``arch`` (``sm_90``); raises ``TargetError`` with the compiler's log."""
        ...


def compiler() -> Compiler:
    """The compiler of this machine: NVRTC, which is faster, or nvcc.

    Raises ``TargetError`` where there is neither.
    """
    library = _nvrtc_library()
    if library is not None:
        return Nvrtc(library)
    tool = _nvcc()
    if tool is not None:
        return Nvcc(tool)
    raise TargetError(f"target 'cuda' needs NVRTC or nvcc, and finds neither: {INSTALL}")


class Nvcc:
    """The compiler driver of the CUDA toolkit."""

    name = "nvcc"

    def __init__(self, tool: Path) -> None:
        self._tool = tool

    def compile(self, source: str, arch: str) -> Compiled:
        """See ``Compiler``."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "kernels.cu"
            file.write_text(source, encoding="utf-8")
            self._run(file, arch, "ptx")
            log = self._run(file, arch, "cubin")
            cubin = file.with_suffix(".cubin").read_bytes()
            ptx = file.with_suffix(".ptx").read_text(encoding="utf-8")
        return Compiled(arch, cubin, ptx, resources(log))

    def _run(self, file: Path, arch: str, output: str) -> str:
        target = file.with_suffix(f".{output}")
        command = [str(self._tool), f"--{output}", f"-arch={arch}", *OPTIONS]
        done = subprocess.run(
            [*command, "-o", str(target), str(file)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise TargetError(f"nvcc failed for {arch}: {_errors(done.stderr + done.stdout)}")
        return done.stdout + done.stderr


class Nvrtc:
    """NVIDIA's compiler as a library."""

    name = "nvrtc"

    def __init__(self, library: Path) -> None:
        try:
            self._library = ctypes.CDLL(str(library))
        except OSError as error:
            raise TargetError(f"{library} cannot be loaded ({error}): {INSTALL}") from error

    def compile(self, source: str, arch: str) -> Compiled:
        """See ``Compiler``."""
        program = ctypes.c_void_p()
        self._call(
            "nvrtcCreateProgram",
            ctypes.byref(program),
            source.encode(),
            b"kernels.cu",
            0,
            None,
            None,
        )
        try:
            flags = [option.encode() for option in (*OPTIONS, f"--gpu-architecture={arch}")]
            array = (ctypes.c_char_p * len(flags))(*flags)
            failed = self._library.nvrtcCompileProgram(program, len(flags), array)
            log = self._text(program, "ProgramLog")
            if failed:
                raise TargetError(f"NVRTC failed for {arch}: {_errors(log)}")
            cubin = self._bytes(program, "CUBIN")
            ptx = self._text(program, "PTX")
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))
        return Compiled(arch, cubin, ptx, resources(log))

    def _call(self, function: str, *arguments: object) -> None:
        code = getattr(self._library, function)(*arguments)
        if code:
            raise TargetError(f"{function} failed with code {code}: {INSTALL}")

    def _bytes(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, buffer)
        return buffer.raw

    def _text(self, program: ctypes.c_void_p, what: str) -> str:
        return self._bytes(program, what).rstrip(b"\0").decode(errors="replace")


_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


def resources(log: str) -> dict[str, Resources]:
    """The figures of every kernel in what ``ptxas -v`` printed."""
    found: dict[str, Resources] = {}
    for part in re.split(r"(?=ptxas info\s+: Compiling entry function)", log):
        entry = _ENTRY.search(part)
        if entry is None:
            continue
        frame, used, shared = _FRAME.search(part), _USED.search(part), _SHARED.search(part)
        stack, stores, loads = map(int, frame.groups()) if frame else (0, 0, 0)
        found[entry[1]] = Resources(
            registers=int(used[1]) if used else 0,
            shared=int(shared[1]) if shared else 0,
            stack=stack,
            spills=stores + loads,
        )
    return found


@cache
def _nvrtc_library() -> Path | None:
    """NVRTC's library, from NVIDIA's packages or a toolkit."""
    folders = [home / part for home in _homes() for part in ("lib64", "lib")]
    for folder in [*_package_folders(), *folders]:
        found = sorted(folder.glob("libnvrtc.so.[0-9]*"))
        if found:
            return found[-1]
    return None


def _package_folders() -> Sequence[Path]:
    spec = find_spec("nvidia")
    roots = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    return [folder for root in roots for folder in sorted(root.glob("*/lib"))]


def _nvcc() -> Path | None:
    for home in _homes():
        if (home / "bin" / "nvcc").is_file():
            return home / "bin" / "nvcc"
    found = shutil.which("nvcc")
    return Path(found) if found else None


def _homes() -> list[Path]:
    named = [os.environ.get(variable) for variable in ("CUDA_HOME", "CUDA_PATH")]
    return [Path(name) for name in (*named, "/usr/local/cuda") if name]


def _errors(log: str) -> str:
    """The lines of a log that say what is wrong."""
    lines = [line.strip() for line in log.splitlines() if "error" in line.lower()]
    return "; ".join(lines[:5]) or log.strip()[-500:]
