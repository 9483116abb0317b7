"""NVIDIA GPUs: the whole integer program on the device, machine code for one card or several.

Options: ``arch``, one of ``ARCHITECTURES`` or a list of them (default: that of this machine's GPU),
``card``, the name of the GPU whose tuning records to use (default: this machine's, or any of the
architecture), ``host``, options of the ``llvm`` target for the code that launches kernels, and
``graph``, whether the launches are captured as one CUDA graph (default: yes). No GPU is needed to
compile.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import tvm
from tvm import relax
from tvm.target import codegen

import schedules
from hyq_tvm import cuda_device
from hyq_tvm.errors import TargetError
from hyq_tvm.processor import needed_features
from hyq_tvm.targets import cuda_toolchain, llvm
from hyq_tvm.targets.backend import Backend, Built, make_target, option_dict
from hyq_tvm.targets.cuda_library import CudaLibrary
from hyq_tvm.targets.cuda_toolchain import Compiled, Compiler
from schedules.cuda import source

NAME = "cuda"
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_120")
"""What the kernels are written for: integer tensor cores since sm_75."""

_SOURCE_ONLY = "TVM_COMPILE_FORCE_FALLBACK"
_OPTIONS = ("arch", "card", "host", "graph")
_DERIVED = ("max_num_threads", "thread_warp_size", "max_shared_memory_per_block",
            "max_threads_per_block", "registers_per_block", "l2_cache_size_bytes",
            "model")  # fmt: skip


@dataclass(frozen=True)
class _Kind:
    name: str = NAME


@dataclass(frozen=True)
class CudaTarget:
    """What a TVM target is elsewhere: the cards, and the host beside them."""

    architectures: tuple[str, ...]
    host: Any
    graph: bool = True
    card: str = ""
    kind: _Kind = field(default_factory=_Kind)

    @property
    def attrs(self) -> Mapping[str, Any]:
        """Plain options, for metadata."""
        named = {"card": self.card} if self.card else {}
        return {"arch": list(self.architectures), "graph": self.graph, **named}

    @property
    def device(self) -> Any:
        """TVM's target for the oldest of the cards."""
        options = {"kind": NAME, "arch": self.architectures[0], "model": self.card}
        return make_target({**options, "host": option_dict(self.host)})

    def __enter__(self) -> NoReturn:
        raise TargetError(
            "target 'cuda' computes in integers only: pass calibration=, or a quantized module"
        )

    def __exit__(self, *_: object) -> None:
        return None


def resolve(options: Mapping[str, Any], *, complete: bool) -> CudaTarget:
    """Cards and host; raises ``TargetError`` on unknown options, or without GPU and ``arch``."""
    unknown = sorted(set(options) - {"kind", *_OPTIONS, *(() if complete else _DERIVED)})
    if unknown:
        raise TargetError(f"target 'cuda' has no options {unknown}; it has {', '.join(_OPTIONS)}")
    host = options.get("host") or {}
    if not isinstance(host, Mapping):
        host = option_dict(host) if not complete else {"kind": host}
    graph = options.get("graph", True)
    if not isinstance(graph, bool):
        raise TargetError(f"target 'cuda': graph={graph!r} is neither true nor false")
    architectures = _architectures(options.get("arch"))
    card = str(options.get("card") or options.get("model") or "")
    if not card and options.get("arch") is None:
        card = cuda_device.card()
    return CudaTarget(
        architectures,
        llvm.resolve({"mtriple": _triple(), **host, "kind": "llvm"}, complete=complete),
        graph,
        card,
    )


def build(module: tvm.IRModule, target: CudaTarget, records: Path | None) -> Built:
    """Schedule, lower and compile ``module`` for every card of ``target``.

    Raises ``TargetError`` where no CUDA compiler is found, or a kernel would spill registers.
    """
    scheduled = schedules.apply(module, target.device, records)
    library, code = kernel_library(scheduled, target, relax_pipeline=_pipeline())
    machine = platform.machine()
    features = needed_features(codegen.llvm_get_cpu_features(target.host), machine)
    return Built(library, machine, features, {"cuda": _notes(code)})


def kernel_library(
    module: tvm.IRModule, target: CudaTarget, **options: Any
) -> tuple[CudaLibrary, MachineCode]:
    """Scheduled kernels as a library, and what was compiled; raises as ``build`` does.

    options: of ``tvm.compile``.
    """
    return with_machine_code(with_source(module, target, **options), target)


def with_source(module: tvm.IRModule, target: CudaTarget, **options: Any) -> Any:
    """What TVM makes of scheduled kernels, the kernels themselves still source."""
    device = target.device
    config = {"relax.backend.use_cuda_graph": target.graph}
    context = tvm.transform.PassContext(opt_level=3, config=config)
    with source_only(), context, device:
        return tvm.compile(module, target=device, **options)


def with_machine_code(executable: Any, target: CudaTarget) -> tuple[CudaLibrary, MachineCode]:
    """The library of ``with_source``; raises ``TargetError``. Threads may do this side by side."""
    code = machine_codes(emitted_source(executable), target.architectures)
    return CudaLibrary(executable, {arch: one.cubin for arch, one in code.made.items()}), code


@contextmanager
def source_only() -> Iterator[None]:
    """TVM embeds source, also where a CUDA runtime is loaded.

    There it would embed machine code, and such a library loads for the card it was made on alone.
    """
    before = os.environ.get(_SOURCE_ONLY)
    os.environ[_SOURCE_ONLY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SOURCE_ONLY]
        else:
            os.environ[_SOURCE_ONLY] = before


@dataclass(frozen=True)
class MachineCode:
    """Machine code by architecture, and the name of the compiler that made it."""

    compiler: str
    made: Mapping[str, Compiled]


def machine_codes(emitted: str, architectures: Sequence[str]) -> MachineCode:
    """Emitted source as machine code for every architecture; raises ``TargetError``."""
    compiler, complete = cuda_toolchain.compiler(), source.complete(emitted)
    made = {arch: machine_code(compiler, complete, arch) for arch in architectures}
    return MachineCode(compiler.name, made)


def emitted_source(executable: Any) -> str:
    """The CUDA source inside a compiled module; empty where it has no kernel."""
    waiting = [executable.mod]
    while waiting:
        module = waiting.pop()
        if module.kind == NAME:
            return str(module.inspect_source())
        waiting.extend(module.imports)
    return ""


def _pipeline() -> Any:
    """TVM's passes for GPUs without its schedules; reshapes are recognised before they become code.

    Launches between static allocations become one CUDA graph: everything but the kernels that read
    the input or write the output.
    """
    return tvm.transform.Sequential(
        [
            relax.transform.LegalizeOps(),
            relax.transform.RewriteDataflowReshape(),
            relax.transform.DeadCodeElimination(),
            relax.transform.ToNonDataflow(),
            relax.transform.RemovePurityChecking(),
            relax.transform.CallTIRRewrite(),
            relax.transform.StaticPlanBlockMemory(),
            relax.transform.RewriteCUDAGraph(),
            relax.transform.LowerAllocTensor(),
            relax.transform.KillAfterLastUse(),
            relax.transform.LowerRuntimeBuiltin(),
            relax.transform.ComputePrimValue(),
            relax.transform.VMShapeLower(),
            relax.transform.AttachGlobalSymbol(),
        ]
    )


def machine_code(compiler: Compiler, complete: str, arch: str) -> Compiled:
    """Complete source as machine code that spills no register; raises ``TargetError``."""
    compiled = compiler.compile(complete, arch)
    if _spilled(compiled):
        compiled = compiler.compile(source.unhurried(complete), arch)
    if _spilled(compiled):
        kernels = ", ".join(_spilled(compiled))
        raise TargetError(f"kernels spill registers on {arch}: {kernels}; please report the model")
    return compiled


def _spilled(compiled: Compiled) -> list[str]:
    return sorted(f"{n} ({r.spills} bytes)" for n, r in compiled.resources.items() if r.spills)


def _notes(code: MachineCode) -> dict[str, Any]:
    """Registers, shared and stack memory of every kernel, by architecture."""
    kernels = {
        arch: {
            name: {"registers": r.registers, "shared_bytes": r.shared, "stack_bytes": r.stack}
            for name, r in sorted(one.resources.items())
        }
        for arch, one in code.made.items()
    }
    return {"compiler": code.compiler, "kernels": kernels}


def _architectures(wanted: Any) -> tuple[str, ...]:
    """In ascending order; this machine's where none is named."""
    if wanted is None:
        try:
            named = [cuda_device.architecture()]
        except TargetError as error:
            raise TargetError(
                f"{error}; to compile for another machine name its GPU, such as "
                'target={"kind": "cuda", "arch": "sm_90"} (to tune for it, with tracker= or split=)'
            ) from error
    else:
        named = [wanted] if isinstance(wanted, str) else [str(entry) for entry in wanted]
    bad = [name for name in named if name not in ARCHITECTURES]
    if bad or not named:
        known = ", ".join(ARCHITECTURES)
        raise TargetError(f"target 'cuda': no kernels for arch {wanted!r}; there are {known}")
    return tuple(sorted(set(named), key=lambda name: int(name.removeprefix("sm_"))))


def _triple() -> str:
    return f"{platform.machine()}-linux-gnu"


BACKEND = Backend(
    name=NAME,
    summary="NVIDIA GPUs since Turing, integers from end to end",
    resolve=resolve,
    build=build,
)
