"""CPUs, through LLVM."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm
from tvm.target import codegen

import schedules
from hyq_tvm.errors import TargetError
from hyq_tvm.processor import extensions, host_features, needed_features
from hyq_tvm.targets.backend import Backend, Built, CompiledLibrary, make_target, option_dict
from hyq_tvm.targets.memory_plan import activation_bytes
from hyq_tvm.threads import num_threads


def resolve(options: Mapping[str, Any], *, complete: bool) -> Any:
    """The TVM target; raises ``TargetError`` on an unknown option or processor.

    With ``complete``, options that name neither a processor nor a triple get this machine's, less
    the extensions that its hypervisor hides.
    """
    filled = dict(options)
    if complete and "mcpu" not in filled and "mtriple" not in filled:
        filled = {**host_options(), **filled}
    if complete:
        filled.setdefault("num-cores", num_threads())
    target = make_target(filled)
    _check_processor(target, filled.get("mcpu"))
    return target


def host_options() -> dict[str, Any]:
    """Processor and hidden extensions of this machine."""
    processor = str(codegen.llvm_get_system_cpu())
    options: dict[str, Any] = {"mcpu": processor}
    present = host_features()
    known = extensions()
    believed = codegen.llvm_get_cpu_features(make_target({"kind": "llvm", **options}))
    hidden = [name for name in known if name in believed and known[name] not in present]
    if present and hidden:
        options["mattr"] = [f"-{name}" for name in sorted(hidden)]
    return options


def build(module: tvm.IRModule, target: Any, records: Path | None) -> Built:
    """Schedule and compile ``module``; ``records``: a folder of the user's tuning records."""
    scheduled = schedules.apply(module, target, records)
    notes = {"activation_bytes": activation_bytes(scheduled, target)}
    executable = tvm.compile(scheduled, target=target)
    machine = _machine(target)
    needed = needed_features(codegen.llvm_get_cpu_features(target), machine)
    return Built(CompiledLibrary(executable), machine, needed, notes)


def _check_processor(target: Any, name: Any) -> None:
    """LLVM would silently take an unknown processor for the plainest one."""
    if name is None:
        return
    known = [str(entry) for entry in codegen.llvm_get_cpu_archlist(target)]
    if str(name) not in known:
        raise TargetError(
            f"LLVM knows no processor {str(name)!r} of this architecture; some it knows: "
            f"{', '.join(known[-12:])}; this machine: {codegen.llvm_get_system_cpu()}"
        )


def _machine(target: Any) -> str:
    triple = str(option_dict(target).get("mtriple", ""))
    return triple.split("-")[0] if triple else platform.machine()


BACKEND = Backend(
    name="llvm",
    summary="CPUs; tuned for x86-64 with AVX512-VNNI, runs wherever LLVM has a backend",
    resolve=resolve,
    build=build,
)
