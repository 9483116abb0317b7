"""SystemVerilog to a shared library: Verilator, then the system's C++ compiler; results are kept.

A library is found again by a digest of everything that it was made of: sources, parameters,
harness, compiler and version of Verilator.
"""

from __future__ import annotations

import ctypes
import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hyq_tvm.vta.cosim.toolchain import ToolUnavailable, compiler, run, verilator
from hyq_tvm.vta.private_folder import private_folder

_HARNESS = Path(__file__).with_name("harness")
_VERILATOR_FLAGS = (
    "--cc",
    "-O3",
    "-sv",
    "--x-assign",
    "fast",
    "--x-initial",
    "fast",
    "--noassert",
    "-Wno-fatal",
    "-Wno-UNUSED",
    "--flatten",
    "--output-split",
    "20000",
)
# Several models live in one process: nothing of one may resolve to another's.
_COMPILER_FLAGS = (
    "-std=c++17",
    "-O2",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-gnu-unique",
)
_LINKER_FLAGS = ("-shared", "-Wl,-Bsymbolic", "-pthread")
_RUNTIME = ("verilated", "verilated_threads")
_VERILATE_SECONDS = 300
_COMPILE_SECONDS = 1200


@dataclass(frozen=True)
class Design:
    """What becomes a library: module ``top`` of ``sources`` with ``parameters``.

    harness: file in the folder ``harness`` that gives the library its C functions; it sees the
    model as ``Model`` and ``defines`` as macros.
    """

    top: str
    sources: tuple[Path, ...]
    parameters: tuple[tuple[str, int], ...]
    harness: str
    defines: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(
        cls,
        top: str,
        sources: Sequence[Path],
        parameters: Mapping[str, int],
        harness: str,
        defines: Mapping[str, int] | None = None,
    ) -> Design:
        """From lists and mappings."""
        return cls(
            top, tuple(sources), tuple(parameters.items()), harness, tuple((defines or {}).items())
        )

    @property
    def digest(self) -> str:
        """Of all that decides what the library computes."""
        binary, root = verilator()
        state = hashlib.sha256()
        parts = [
            self.top,
            repr(self.parameters),
            repr(self.defines),
            repr((_VERILATOR_FLAGS, _COMPILER_FLAGS, compiler())),
            repr((binary.stat().st_size, (root / "include" / "verilated_config.h").read_text())),
            *(path.read_text(encoding="utf-8") for path in self.sources),
            *(path.read_text(encoding="utf-8") for path in sorted(_HARNESS.iterdir())),
        ]
        for part in parts:
            state.update(part.encode())
            state.update(b"\0")
        return state.hexdigest()[:24]


@lru_cache(maxsize=32)
def library(design: Design) -> ctypes.CDLL:
    """The loaded library; builds it where it is not there yet. Raises ``ToolUnavailable``."""
    digest = design.digest
    path = cache_folder() / f"{design.top}-{digest}.so"
    if not path.is_file():
        _build(design, f"V{digest[:12]}", path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise ToolUnavailable(f"{path} cannot be loaded: {error}") from error


def cache_folder() -> Path:
    """Where compiled models are kept; raises ``ToolUnavailable``."""
    try:
        return private_folder("cosim")
    except OSError as error:
        raise ToolUnavailable(f"no folder for compiled models: {error}") from error


def _build(design: Design, prefix: str, path: Path) -> None:
    """Into ``path``, complete or not at all: other processes may do the same."""
    binary, root = verilator()
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        folder = Path(name)
        overrides = [f"-G{key}={value}" for key, value in design.parameters]
        command = [str(binary), *_VERILATOR_FLAGS, "--prefix", prefix, "--Mdir", "model"]
        command += ["--top-module", design.top, *overrides, *map(str, design.sources)]
        run(command, folder, _VERILATE_SECONDS, VERILATOR_ROOT=str(root))
        flags = [f"-DModel={prefix}", f'-DMODEL_HEADER="{prefix}.h"']
        flags.append(f'-DMODEL_ROOT_HEADER="{prefix}___024root.h"')
        flags += [f"-D{key}={value}" for key, value in design.defines]
        flags += [f"-I{folder / 'model'}", *_includes(root)]
        files = [*sorted((folder / "model").glob("*.cpp")), _HARNESS / design.harness]
        made = ["-o", "library.so", *map(str, [*files, *_runtime(root)])]
        command = [compiler(), *_COMPILER_FLAGS, *_LINKER_FLAGS, *flags, *made]
        run(command, folder, _COMPILE_SECONDS)
        (folder / "library.so").replace(path)


def _includes(root: Path) -> list[str]:
    return [f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}"]


def _runtime(root: Path) -> list[Path]:
    """Verilator's own runtime, compiled once: it takes longer than most models."""
    version = (root / "include" / "verilated_config.h").read_text(encoding="utf-8")
    key = hashlib.sha256(repr((version, _COMPILER_FLAGS, compiler())).encode()).hexdigest()[:16]
    objects = [cache_folder() / f"{name}-{key}.o" for name in _RUNTIME]
    for name, path in zip(_RUNTIME, objects, strict=True):
        if not path.is_file():
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                source = str(root / "include" / f"{name}.cpp")
                command = [compiler(), *_COMPILER_FLAGS, *_includes(root), "-c", source]
                run([*command, "-o", "runtime.o"], Path(folder), _COMPILE_SECONDS)
                Path(folder, "runtime.o").replace(path)
    return objects
