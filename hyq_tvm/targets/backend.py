"""What a target is to the compiler driver."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import tvm
from tvm.target import Target

from hyq_tvm import native_log
from hyq_tvm.errors import TargetError


class Library(Protocol):
    """Compiled code, in memory or in a file."""

    def module(self) -> Any:
        """TVM's module, runnable in this process."""

    def export(self, path: Path) -> None:
        """Write a shared library, and what else belongs into its folder; raises ``OSError``."""


@dataclass(frozen=True)
class CompiledLibrary:
    """A library that TVM has just made, still in memory."""

    executable: Any

    def module(self) -> Any:
        """TVM's module, runnable in this process."""
        return self.executable.jit()

    def export(self, path: Path) -> None:
        """Link a shared library with the system's C compiler; raises ``OSError`` if that fails."""
        try:
            with native_log.filtered():
                self.executable.export_library(str(path))
        except (RuntimeError, OSError) as error:
            raise OSError(
                f"linking failed (is a C compiler installed, is the disk full?): {error}"
            ) from error


@dataclass(frozen=True)
class Built:
    """A library and what a machine needs to run it.

    machine: processor architecture of the host code. features: instruction set extensions, as
    ``/proc/cpuinfo`` names them. notes: what the backend wants to report.
    """

    library: Library
    machine: str
    features: tuple[str, ...]
    notes: Mapping[str, Any]


class Resolve(Protocol):
    """How a backend makes a TVM target of options."""

    def __call__(self, options: Mapping[str, Any], *, complete: bool) -> Any:
        """``complete``: fill in what this machine is. Raises ``TargetError``."""


@dataclass(frozen=True)
class Backend:
    """One target kind.

    resolve: a user's options to a TVM target. build: (module, target, folder of tuning records or
    None) to ``Built``. Both raise ``TargetError``.
    """

    name: str
    summary: str
    resolve: Resolve
    build: Callable[[tvm.IRModule, Any, Path | None], Built]


def unavailable(name: str, summary: str, reason: str) -> Backend:
    """A table entry whose every use raises ``TargetError`` with ``reason``."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise TargetError(f"target {name!r}: {reason}")

    return Backend(name, f"{summary} (not in this version)", refuse, refuse)


def make_target(options: Mapping[str, Any]) -> Any:
    """A TVM target of the options; raises ``TargetError`` with TVM's reason."""
    try:
        return Target(dict(options))
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).split(". Target creation")[0]
        raise TargetError(f"target {dict(options)!r} is not valid: {reason}") from error


def option_dict(target: Any) -> dict[str, Any]:
    """A target's options as plain data, without what TVM derives from them."""
    options = {"kind": str(target.kind.name)}
    for key, value in target.attrs.items():
        if not str(key).startswith("feature."):
            options[str(key)] = _plain(value)
    return options


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str(value)
    try:
        return [_plain(entry) for entry in value]
    except TypeError:
        return str(value)
