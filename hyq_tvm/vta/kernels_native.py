"""The kernels in C: compiled once by the system's compiler, kept in the user's cache folder.

``HYQ_TVM_VTA_CFLAGS`` adds flags, such as those of sanitizers.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hyq_tvm.vta.isa import table
from hyq_tvm.vta.isa.records import Enumeration
from hyq_tvm.vta.machine import BUFFERS, COUNTERS, Fault, Machine, Status
from hyq_tvm.vta.private_folder import private_folder

_FOLDER = Path(__file__).with_name("kernels")
_SOURCES = ("machine.c", "transfers.c", "products.c", "vector.c", "softmax.c", "execute.c")
_FLAGS = ("-O3", "-march=native", "-fwrapv", "-fno-strict-aliasing", "-shared", "-fPIC", "-std=c11")
_MORE_FLAGS = "HYQ_TVM_VTA_CFLAGS"
_TIMEOUT_SECONDS = 120


class NativeUnavailable(Exception):
    """No C compiler, or it cannot build the kernels."""


class _Structure(ctypes.Structure):
    _fields_ = (
        ("block", ctypes.c_int64),
        ("entries", ctypes.c_int64 * len(BUFFERS)),
        *((name, ctypes.c_void_p) for name in BUFFERS),
        ("written", ctypes.c_void_p * len(BUFFERS)),
        ("reg", ctypes.c_void_p),
        ("count", ctypes.c_void_p),
        ("detail", ctypes.c_void_p),
        ("pairs", ctypes.c_void_p),
        ("paired", ctypes.c_void_p),
    )


class NativeKernels:
    """Executes decoded instructions on a machine; raises ``Fault``."""

    name = "native"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._detail = ctypes.c_int64(0)
        self._pairs = np.empty(machine.memory["wgt"].size, np.int16)
        self._paired = np.zeros(machine.config.wgt_entries, np.uint8)
        self._execute: Any = _library().hyq_execute
        self._structure = self._describe(machine)
        self._address = ctypes.addressof(self._structure)

    def _describe(self, machine: Machine) -> _Structure:
        made = _Structure(block=machine.config.block)
        for index, name in enumerate(BUFFERS):
            array = machine.memory[name]
            made.entries[index] = len(array)
            setattr(made, name, array.ctypes.data)
            made.written[index] = machine.written[name].ctypes.data
        made.reg = machine.registers.ctypes.data
        made.count = machine.counters.ctypes.data
        made.detail = ctypes.addressof(self._detail)
        made.pairs = self._pairs.ctypes.data
        made.paired = self._paired.ctypes.data
        return made

    def execute(self, row_address: int) -> None:
        """Execute the int64 row at an address."""
        status = self._execute(self._address, row_address)
        if status:
            raise Fault(Status(status), self._detail.value)


def definitions() -> str:
    """``#define`` lines for all names that the kernels take from the instruction table."""
    lines = [f"#define BUFFER_COUNT {len(BUFFERS)}"]
    lines += [f"#define BUFFER_{name.upper()} {index}" for index, name in enumerate(BUFFERS)]
    lines += [f"#define COUNTER_{name.upper()} {index}" for index, name in enumerate(COUNTERS)]
    lines += [f"#define STATUS_{status.name} {status.value}" for status in Status]
    lines += [f"#define OPCODE_{form.name} {form.opcode}" for form in table.FORMATS]
    for form in table.FORMATS:
        columns = form.columns.items()
        lines += [f"#define {form.name}_{name.upper()} {column}" for name, column in columns]
    for placed in table.UOP.placed:
        field = placed.field
        lines.append(
            f"#define UOP_{field.name.upper()}(word) (((word) >> {placed.offset}) & {field.high}u)"
        )
    for enumeration in _ENUMERATIONS:
        lines += [f"#define {enumeration.name}_{c.name} {c.code}" for c in enumeration.choices]
    lines += [
        f"#define FUNCTION_BINARY_MASK {_mask('kind', 'binary'):#x}u",
        f"#define FUNCTION_ROW_MASK {_mask('third', 'row'):#x}u",
        f"#define FUNCTION_PARAMETER_MASK {_mask('third', 'parameter'):#x}u",
    ]
    return "\n".join(lines) + "\n"


_ENUMERATIONS: tuple[Enumeration, ...] = (
    table.MEMORY,
    table.OPERAND,
    table.FUNCTION,
    table.TARGET,
    table.EXPONENTIAL,
    table.RESULT,
    table.REGISTER,
)


def _mask(attribute: str, value: str) -> int:
    return sum(
        1 << code for code, f in enumerate(table.FUNCTIONS) if getattr(f, attribute) == value
    )


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    """The compiled kernels; raises ``NativeUnavailable`` with the reason."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        raise NativeUnavailable("no C compiler was found")
    parts = [_FOLDER.joinpath(name).read_text(encoding="utf-8") for name in _SOURCES]
    source = definitions() + "".join(parts)
    key = hashlib.sha256((source + " ".join(_flags()) + _macros(compiler)).encode()).hexdigest()[
        :24
    ]
    path = _cache_folder() / f"kernels-{key}.so"
    if not path.is_file():
        _compile(compiler, source, path)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailable(f"{path} cannot be loaded: {error}") from error
    library.hyq_execute.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    library.hyq_execute.restype = ctypes.c_int
    return library


def _flags() -> tuple[str, ...]:
    return (*_FLAGS, *shlex.split(os.environ.get(_MORE_FLAGS, "")))


def _macros(compiler: str) -> str:
    """What identifies the compiler and the processor that it builds for."""
    return _run([compiler, "-march=native", "-dM", "-E", "-x", "c", os.devnull])


def _cache_folder() -> Path:
    try:
        return private_folder("vta")
    except OSError as error:
        raise NativeUnavailable(f"no folder for compiled kernels: {error}") from error


def _compile(compiler: str, source: str, path: Path) -> None:
    """Build into ``path``, complete or not at all: other processes may do the same."""
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            text, made = Path(folder, "kernels.c"), Path(folder, "kernels.so")
            text.write_text(source, encoding="utf-8")
            _run([compiler, *_flags(), "-o", str(made), str(text)])
            made.replace(path)
    except OSError as error:
        raise NativeUnavailable(f"the kernels cannot be written: {error}") from error


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", "") or error
        raise NativeUnavailable(f"{command[0]} failed: {reason}") from error
    return done.stdout
