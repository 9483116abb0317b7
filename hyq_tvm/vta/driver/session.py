"""The host's side of a device: bring a program onto it, run it, read what it made."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import DeviceProgramError, InputError
from hyq_tvm.vta.arch import VTAConfig
from hyq_tvm.vta.driver.protocol import (
    ID,
    MEMORY_LIMIT,
    PROTOCOL,
    Control,
    Device,
    Register,
    State,
    program_address,
)
from hyq_tvm.vta.faults import FAULT_MEANINGS, FaultCode
from hyq_tvm.vta.isa import table
from hyq_tvm.vta.program import Place, Program

TIMEOUT_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 20e-6
LONGEST_PAUSE_SECONDS = 1e-3


class Session:
    """A program on a device, ready to run; nothing else may use the device meanwhile.

    timeout: seconds after which a run that does not end is reset and reported.

    Raises ``DeviceProgramError`` where the device is of another kind, version or configuration,
    or has too little memory.
    """

    def __init__(self, device: Device, program: Program, timeout: float = TIMEOUT_SECONDS) -> None:
        self._device = device
        self._program = program
        self._timeout = timeout
        check_device(device, program.config)
        self._reset()
        self._load()

    @property
    def program(self) -> Program:
        """What runs."""
        return self._program

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Inputs by name, of the places' shapes and types, to outputs by name.

        Raises ``InputError`` on wrong inputs and ``DeviceProgramError`` naming the instruction at
        which the device stopped, or saying that it did not answer in time.
        """
        for name, place in self._checked(inputs).items():
            self._device.write_memory(place.address, np.ascontiguousarray(inputs[name]))
        self._command(Control.START)
        self._wait()
        return {name: self._read(place) for name, place in self._program.places("output").items()}

    @property
    def cycles(self) -> int:
        """How long the last run took; 0 where a device has no clock."""
        low, high = (self._device.read(r) for r in (Register.CYCLES_LOW, Register.CYCLES_HIGH))
        return high << 32 | low

    def _command(self, value: Control) -> None:
        """Ring the doorbell; STATUS speaks of this command once the device has taken it."""
        self._device.write(Register.CONTROL, value)
        if not self._becomes(lambda: self._device.read(Register.CONTROL) == 0):
            raise DeviceProgramError(f"the device does not take the command {value.name}")

    def _reset(self) -> None:
        self._command(Control.RESET)
        if not self._becomes(lambda: self._device.read(Register.STATUS) == State.IDLE):
            raise DeviceProgramError("the device does not become idle after a reset")

    def _becomes(self, condition: Callable[[], bool]) -> bool:
        """Poll until a condition holds; False after the timeout."""
        end, pause = time.monotonic() + self._timeout, FIRST_PAUSE_SECONDS
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        return True

    def _load(self) -> None:
        program, device = self._program, self._device
        start = program_address(program.dram_bytes)
        size = start + program.words.nbytes
        if size > min(device.memory_bytes, MEMORY_LIMIT):
            raise DeviceProgramError(
                f"the program needs {size} bytes of memory, the device has {device.memory_bytes}"
            )
        device.write_memory(program.image_address, program.image)
        device.write_memory(start, program.words.astype("<u8"))
        base = device.memory_address
        for register, value in (
            (Register.PROGRAM, start),
            (Register.COUNT, len(program.words)),
            (Register.MEMORY_LOW, base & 0xFFFFFFFF),
            (Register.MEMORY_HIGH, base >> 32),
            (Register.MEMORY_SIZE, size),
        ):
            device.write(register, value)

    def _checked(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Place]:
        places = self._program.places("input")
        if set(inputs) != set(places):
            raise InputError(f"inputs {sorted(inputs)} were given; {sorted(places)} are needed")
        for name, place in places.items():
            given = inputs[name]
            if given.shape != place.shape or str(given.dtype) != place.dtype:
                raise InputError(
                    f"input {name!r} is {given.dtype} {given.shape}; "
                    f"{place.dtype} {place.shape} is needed"
                )
        return places

    def _wait(self) -> None:
        if not self._becomes(lambda: self._device.read(Register.STATUS) != State.RUNNING):
            self._device.write(Register.CONTROL, Control.RESET)
            raise DeviceProgramError(
                f"the device did not finish within {self._timeout} s and was reset"
            )
        state = self._device.read(Register.STATUS)
        if state != State.DONE:
            raise DeviceProgramError(self._fault(state))

    def _fault(self, state: int) -> str:
        if state != State.FAULT:
            return f"the device answers the doorbell with status {state}: it did not start"
        index = self._device.read(Register.FAULT_INDEX)
        layer = self._program.layer_of(index)
        said = self._device.explain() or _meaning(index, self._device.read(Register.FAULT))
        return f"{layer}: {said}" if layer else said

    def _read(self, place: Place) -> NDArray[Any]:
        raw = self._device.read_memory(place.address, place.nbytes)
        return raw.view(place.dtype).reshape(place.shape)


def check_device(device: Device, config: VTAConfig) -> None:
    """Raises ``DeviceProgramError`` unless the device runs programs of ``config``."""
    found = device.read(Register.ID)
    if found != ID:
        raise DeviceProgramError(f"this is no such device: its ID is {found:#010x}, not {ID:#010x}")
    version = device.read(Register.VERSION)
    if version != table.VERSION << 16 | PROTOCOL:
        raise DeviceProgramError(
            f"the device has instruction set {version >> 16} and protocol {version & 0xFFFF}; "
            f"this driver has {table.VERSION} and {PROTOCOL}"
        )
    high, low = (device.read(r) for r in (Register.FINGERPRINT_HIGH, Register.FINGERPRINT_LOW))
    fingerprint = f"{high << 32 | low:016x}"
    if fingerprint != config.fingerprint:
        raise DeviceProgramError(
            f"the program was compiled for device {config.fingerprint}, this one is "
            f"{fingerprint}: compile again with this device's architecture record"
        )


def _meaning(index: int, code: int) -> str:
    known = {c.value: text for c, text in FAULT_MEANINGS.items()}
    text = known.get(code, f"unknown fault {code}")
    name = FaultCode(code).name if code in known else "?"
    return f"instruction {index}: the device stopped with fault {name}: {text}"
