"""The VTA accelerator: integer operators in one program, float ends on the host's CPU.

Options: every size of ``hyq_tvm.vta.arch.VTAConfig`` by its name, ``record``, the path of an
architecture record whose sizes the others override, and ``host``, options of the ``llvm`` target.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import tvm

from hyq_tvm.errors import ConfigError, TargetError
from hyq_tvm.quantization.integer_program import IntegerProgram
from hyq_tvm.targets import llvm
from hyq_tvm.targets.backend import Backend, Built, Library
from hyq_tvm.targets.vta_records import chooser
from hyq_tvm.vta.arch import DEFAULT, VTAConfig
from hyq_tvm.vta.codegen import RULES, RefusedOperationError, compile_operations
from hyq_tvm.vta.codegen.choices import Choose
from hyq_tvm.vta.driver.calls import FUNCTION, register
from hyq_tvm.vta.program import Program, export_programs
from hyq_tvm.vta.timing import time_program
from relay_passes.offload import Offloaded, offload

NAME = "vta"
_SIZES = tuple(entry.name for entry in fields(VTAConfig))


@dataclass(frozen=True)
class _Kind:
    name: str = NAME


@dataclass(frozen=True)
class VTATarget:
    """What a TVM target is elsewhere: a device's sizes, and the host beside it."""

    config: VTAConfig
    host: Any
    kind: _Kind = field(default_factory=_Kind)

    @property
    def attrs(self) -> Mapping[str, Any]:
        """Plain options, for metadata."""
        return {**asdict(self.config), "fingerprint": self.config.fingerprint}

    def __enter__(self) -> NoReturn:
        raise TargetError(
            "target 'vta' computes in integers only: pass calibration=, or a quantized module"
        )

    def __exit__(self, *_: object) -> None:
        return None


@dataclass(frozen=True)
class ProgramLibrary:
    """A host library and the device programs that it calls."""

    host: Library
    programs: tuple[Program, ...]
    _held: list[Any] = field(default_factory=list)

    def module(self) -> Any:
        """TVM's module; the programs can be called as long as this library lives."""
        self._held.extend(register(self.programs))
        return self.host.module()

    def export(self, path: Path) -> None:
        """Write the shared library, and the programs beside it; raises ``OSError``."""
        self.host.export(path)
        export_programs(self.programs, path.parent)


def resolve(options: Mapping[str, Any], *, complete: bool) -> VTATarget:
    """The device and its host; raises ``TargetError`` on unknown names and impossible sizes."""
    known = ("kind", "record", "host", *_SIZES)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TargetError(f"target 'vta' has no options {unknown}; it has {', '.join(known[1:])}")
    try:
        config = _config(options)
    except ConfigError as error:
        raise TargetError(f"target 'vta': {error}") from error
    host = {"kind": "llvm", **options.get("host", {})}
    return VTATarget(config, llvm.resolve(host, complete=complete))


def _config(options: Mapping[str, Any]) -> VTAConfig:
    base = VTAConfig.load(options["record"]) if "record" in options else DEFAULT
    sizes = {name: options.get(name, getattr(base, name)) for name in _SIZES}
    for name in ("softmax_lanes", "dividers"):
        if name not in options and isinstance(sizes["log_block"], int):
            sizes[name] = min(getattr(base, name), 1 << max(sizes["log_block"], 0))
    return VTAConfig(**sizes)


def build(module: tvm.IRModule, target: VTATarget, records: Path | None) -> Built:
    """Compile for the device what it can compute, and the rest for the host.

    Operators that fall back to the CPU are named in a warning and in the notes.
    """
    choose = chooser(records, target.config)
    programs, refused, hosted = _partitioned(module, target.config, choose)
    if refused:
        names = "; ".join(refused.values())
        warnings.warn(f"computed by the CPU, not by the accelerator: {names}", stacklevel=3)
    built = llvm.build(hosted, target.host, None)
    notes = {"accelerator": _notes(programs, list(refused.values()))}
    library = ProgramLibrary(built.library, tuple(programs))
    return Built(library, built.machine, built.features, notes)


def _partitioned(
    module: tvm.IRModule, config: VTAConfig, choose: Choose
) -> tuple[list[Program], dict[str, str], tvm.IRModule]:
    """Programs, operators that no program can hold (tensor -> why), and what the host does."""
    refused: dict[str, str] = {}
    while True:
        programs: list[Program] = []

        def accepts(name: str, op: str) -> bool:
            return op in RULES and name not in refused

        def place(region: IntegerProgram, made: list[Program] = programs) -> Offloaded:
            outputs = list(region.outputs)
            program = compile_operations(region.instructions, outputs, config, choose=choose)
            made.append(program)
            handle = np.frombuffer(program.digest, np.uint8)
            return Offloaded(
                handle, tuple(program.places("input")), tuple(program.places("output"))
            )

        try:
            return programs, refused, offload(module, FUNCTION, accepts, place)
        except RefusedOperationError as error:
            refused[error.operation.name] = str(error)


def _notes(programs: list[Program], refused: list[str]) -> dict[str, Any]:
    timings = [time_program(program) for program in programs]
    return {
        "cpu_operators": refused,
        "programs": [
            {
                "instructions": len(program.words),
                "image_bytes": len(program.image),
                "dram_bytes": program.dram_bytes,
                "cycles": timing.cycles,
                "milliseconds": round(timing.milliseconds, 3),
                "product_utilisation": round(timing.product_utilisation, 4),
            }
            for program, timing in zip(programs, timings, strict=True)
        ],
    }


BACKEND = Backend(
    name=NAME,
    summary="the VTA accelerator on FPGAs, run by its functional simulator or on a board",
    resolve=resolve,
    build=build,
)
