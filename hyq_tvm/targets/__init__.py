"""Where compiled code runs: one backend per file, one table.

To add a target, write a file that defines ``BACKEND`` and enter it in ``BACKENDS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm.target import Target

from hyq_tvm.errors import TargetError
from hyq_tvm.targets import cuda, llvm, vta
from hyq_tvm.targets.backend import Backend, Built, option_dict

__all__ = ["BACKENDS", "Backend", "Built", "find_backend", "resolve"]

BACKENDS: Mapping[str, Backend] = {
    backend.name: backend for backend in (llvm.BACKEND, cuda.BACKEND, vta.BACKEND)
}


def find_backend(target: Any) -> Backend:
    """The backend of ``"llvm"``, ``{"kind": "llvm", ...}`` or a TVM target.

    Raises ``TargetError`` that lists the choices.
    """
    kind = _kind(target)
    if kind not in BACKENDS:
        choices = "; ".join(f"{b.name!r}: {b.summary}" for b in BACKENDS.values())
        raise TargetError(f"unknown target {kind!r}; choose one of {choices}")
    return BACKENDS[kind]


def resolve(target: Any) -> tuple[Backend, Any]:
    """The backend and the complete TVM target for what a user wrote.

    A name or a dictionary is completed with what this machine is; a TVM target is taken as it is.
    Raises ``TargetError`` on unknown targets and options, or where this machine cannot build.
    """
    backend = find_backend(target)
    options = option_dict(target) if isinstance(target, Target) else _options(target)
    return backend, backend.resolve(options, complete=not isinstance(target, Target))


def _kind(target: Any) -> str:
    if isinstance(target, Target):
        return str(target.kind.name)
    if isinstance(target, Mapping):
        return str(target.get("kind", ""))
    if isinstance(target, str):
        return target
    raise TargetError(
        f"target {target!r}: give a name such as 'llvm', a dictionary such as "
        '{"kind": "llvm", "mcpu": "znver4"}, or a tvm.target.Target'
    )


def _options(target: str | Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": target} if isinstance(target, str) else dict(target)
