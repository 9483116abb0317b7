"""Tuning records of the VTA accelerator: the same files as every target's."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from hyq_tvm.vta.arch import VTAConfig
from hyq_tvm.vta.codegen.choices import OWN, Choose, TileChoice, own, space
from hyq_tvm.vta.codegen.source import Operation
from schedules.recorded import Record, fastest, read, workload_key
from schedules.rule import Spec, Workload

RULE = "vta.tiles"


def workload(operation: Operation) -> Workload:
    """What records know of an operation; ``function`` is the operation itself."""
    arguments = tuple(
        Spec(a.shape, a.dtype, None if isinstance(a.value, str) else a.value)
        for a in operation.arguments
    )
    output = Spec(operation.shape, operation.dtype)
    return Workload(operation.op, operation.params, arguments, output, operation)


def machine_key(config: VTAConfig) -> str:
    """The device, with everything that the cycle model looks at."""
    timing = (config.bus_bytes, config.dram_latency, config.softmax_lanes, config.dividers)
    return f"vta/{config.fingerprint}/{'-'.join(map(str, timing))}/{config.clock_mhz}"


def chooser(folder: Path | None, config: VTAConfig) -> Choose:
    """The fastest recorded choice of each operation, the rules' own where there is none.

    Raises ``TuningError`` where a line of the folder is no record.
    """
    if folder is None:
        return own
    best = fastest(read(folder))
    machine = machine_key(config)

    def choose(operation: Operation) -> TileChoice:
        known = best.get((workload_key(workload(operation)), machine), ())
        fitting = [c for c in map(_choice, known) if c is not None and c in space(operation)]
        return fitting[0] if fitting else OWN

    return choose


def _choice(record: Record) -> TileChoice | None:
    names = set(asdict(OWN))
    if record.rule != RULE or set(record.choice) != names:
        return None
    return TileChoice(**record.choice)
