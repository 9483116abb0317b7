"""The whole core, compiled from its sources: runs the programs that the functional simulator runs.

One of three executors of the same bits: NumPy kernels, kernels in C, and this one, which also
counts cycles.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import DeviceProgramError
from hyq_tvm.vta.arch import VTAConfig
from hyq_tvm.vta.cosim.toolchain import RTL
from hyq_tvm.vta.cosim.verilated import Design, library
from hyq_tvm.vta.faults import FaultCode, StreamError
from hyq_tvm.vta.isa.encoding import Words, decode
from hyq_tvm.vta.isa.table import BY_OPCODE, UNITS
from hyq_tvm.vta.machine import Machine
from hyq_tvm.vta.program import Place, Program
from hyq_tvm.vta.timing import Event
from hyq_tvm.vta.units import unit_of_row
from hyq_tvm.vta.verify import describe

MEMORIES = ("uop", "inp", "wgt", "acc", "tbl", "prm")
PATIENCE = 50_000
"""Cycles without any event after which a core is taken to hang."""

_ALIGNMENT = 64
_HUNG, _OPCODE = 1, 2


class _Run(ctypes.Structure):
    _fields_ = (
        ("dram", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("dram_bytes", "program", "count", "latency")),
        ("patience", ctypes.c_int64),
        ("starts", ctypes.c_void_p),
        ("ends", ctypes.c_void_p),
        ("memories", ctypes.c_void_p * len(MEMORIES)),
        ("memory_bytes", ctypes.c_int64 * len(MEMORIES)),
        ("backdoor", ctypes.c_int64),
        ("cycles", ctypes.c_int64),
    )


@dataclass(frozen=True)
class CoreRun:
    """What a program made on the core. events: one an instruction, in program order."""

    outputs: Mapping[str, NDArray[Any]]
    cycles: int
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Core:
    """A core of ``config``, compiled at first use. Raises ``ToolUnavailable`` then."""

    config: VTAConfig

    @property
    def parameters(self) -> dict[str, int]:
        """Of the module ``hyq_core``."""
        config = self.config
        return {
            "LogBlock": config.log_block,
            "LogQueue": config.log_command_queue,
            "BusBytes": config.bus_bytes,
            "SoftmaxLanes": config.softmax_lanes,
            "Dividers": config.dividers,
            "UopEntries": config.uop_entries,
            "InpEntries": config.inp_entries,
            "WgtEntries": config.wgt_entries,
            "AccEntries": config.acc_entries,
            "TblEntries": config.table_entries,
            "PrmEntries": config.parameter_entries,
        }

    def run(self, program: Program, inputs: Mapping[str, NDArray[Any]]) -> CoreRun:
        """Execute ``program``; inputs by name, of the places' shapes and dtypes.

        Raises ``InputError``, and ``StreamError`` naming what each unit waits for where the core
        stops answering, or the instruction whose opcode it does not have.
        """
        program.check_device(self.config)
        dram = np.zeros(program.dram_bytes, np.uint8)
        image = slice(program.image_address, program.image_address + program.image.size)
        dram[image] = program.image
        for address, raw in program.placed_inputs(inputs):
            dram[address : address + raw.size] = raw
        dram, cycles, events = self._execute(dram, program.words, program.rows.tolist(), None)
        places = program.places("output").items()
        return CoreRun({name: _read(dram, place) for name, place in places}, cycles, events)

    def execute(
        self, machine: Machine, words: Words, rows: Sequence[Sequence[int]]
    ) -> tuple[Event, ...]:
        """Run instructions on a machine's memories in place; when each of them ran.

        The registers begin as after a reset: SET those that matter.
        """
        dram, _, events = self._execute(machine.memory["dram"], words, rows, machine)
        machine.memory["dram"][:] = dram
        return events

    def _execute(
        self,
        dram: NDArray[np.uint8],
        words: Words,
        rows: Sequence[Sequence[int]],
        machine: Machine | None,
    ) -> tuple[NDArray[np.uint8], int, tuple[Event, ...]]:
        """The DRAM afterwards, cycles and events; the program lies behind the DRAM meanwhile."""
        start = -(-dram.size // _ALIGNMENT) * _ALIGNMENT
        code = np.ascontiguousarray(words, dtype="<u8").view(np.uint8).ravel()
        whole = np.concatenate([dram, np.zeros(start - dram.size, np.uint8), code])
        trace = np.zeros((2, len(UNITS), len(words)), np.int64)
        run = _Run(
            dram=whole.ctypes.data,
            dram_bytes=whole.size,
            program=start,
            count=len(words),
            latency=self.config.dram_latency,
            patience=PATIENCE,
            starts=trace[0].ctypes.data,
            ends=trace[1].ctypes.data,
        )
        if machine is not None:
            run.backdoor = 1
            for index, name in enumerate(MEMORIES):
                run.memories[index] = machine.memory[name].ctypes.data
                run.memory_bytes[index] = machine.memory[name].nbytes
        status = self._library().hyq_core_run(ctypes.byref(run))
        if status == _OPCODE:
            decode(words)
            raise DeviceProgramError("the core met an opcode that the instruction set has")
        if status:
            raise _stopped(rows, trace[1])
        return whole[: dram.size], int(run.cycles), _events(rows, trace)

    def _library(self) -> ctypes.CDLL:
        defines = {"BUS_BYTES": self.config.bus_bytes}
        design = Design.of("hyq_core", sources(), self.parameters, "core.cpp", defines)
        return library(design)


def sources() -> list[Any]:
    """The core's files, packages first."""
    files = sorted((RTL / "core").glob("*.sv"))
    files.sort(key=lambda path: not path.stem.endswith("_pkg"))
    return [RTL / "hyq_vta_pkg.sv", *files]


def _read(dram: NDArray[np.uint8], place: Place) -> NDArray[Any]:
    raw = dram[place.address : place.address + place.nbytes]
    return raw.copy().view(place.dtype).reshape(place.shape)


def _by_unit(rows: Sequence[Sequence[int]]) -> dict[str, list[int]]:
    """Unit -> its instructions in order."""
    order: dict[str, list[int]] = {unit: [] for unit in UNITS}
    for index, row in enumerate(rows):
        order[unit_of_row(row)].append(index)
    return order


def _events(rows: Sequence[Sequence[int]], trace: NDArray[np.int64]) -> tuple[Event, ...]:
    events = []
    for unit, (name, order) in enumerate(_by_unit(rows).items()):
        for position, index in enumerate(order):
            start, end = (int(trace[side, unit, position]) for side in (0, 1))
            events.append(Event(index, BY_OPCODE[rows[index][0]].name, name, start, end))
    return tuple(sorted(events, key=lambda event: event.index))


def _stopped(rows: Sequence[Sequence[int]], ends: NDArray[np.int64]) -> StreamError:
    """Which instruction each unit did not end."""
    waiting, indices = [], []
    for unit, order in enumerate(_by_unit(rows).values()):
        ended = int(np.count_nonzero(ends[unit]))
        if ended < len(order):
            waiting.append(describe(order[ended], rows[order[ended]], "does not end"))
            indices.append(order[ended])
    problem = "deadlock: " + "; ".join(waiting)
    return StreamError(problem, FaultCode.DEADLOCK, min(indices, default=0))
