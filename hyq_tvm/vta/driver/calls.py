"""The packed function through which TVM's virtual machine runs programs on devices.

Compiled code calls ``FUNCTION(digest, inputs..., outputs...)``. Programs are known by their
digests while somebody holds what ``register`` returned.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import DeviceProgramError
from hyq_tvm.vta.driver.protocol import Device
from hyq_tvm.vta.driver.session import Session
from hyq_tvm.vta.driver.simulated import SimulatedDevice
from hyq_tvm.vta.program import Program

FUNCTION = "hyq_tvm.vta.run"


class _Shared:
    """A device and what it holds now: programs take turns on it."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._session: Session | None = None
        self._lock = threading.Lock()

    def run(self, program: Program, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        with self._lock:
            if self._session is None or self._session.program is not program:
                self._session = None
                self._session = Session(self._device, program)
            return self._session.run(inputs)


class Registered:
    """A program that compiled code can call; it runs on a simulator unless a device is chosen."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._simulated: _Shared | None = None

    def device(self) -> _Shared:
        """The device of ``on_device``, or this program's own simulator."""
        chosen = _CHOSEN.get()
        if chosen is not None:
            return chosen
        if self._simulated is None:
            self._simulated = _Shared(SimulatedDevice(self.program.config))
        return self._simulated


_PROGRAMS: WeakValueDictionary[bytes, Registered] = WeakValueDictionary()
_CHOSEN: ContextVar[_Shared | None] = ContextVar("hyq_tvm_vta_device", default=None)


@contextmanager
def on_device(device: Device) -> Iterator[None]:
    """Executables called in this block, by this thread, run their programs on ``device``.

    The device keeps its program between calls and is loaded again when another one comes.
    """
    token = _CHOSEN.set(_Shared(device))
    try:
        yield
    finally:
        _CHOSEN.reset(token)


def register(programs: Sequence[Program]) -> tuple[Registered, ...]:
    """Make programs callable as long as the result lives; TVM's runtime must be loaded."""
    import tvm_ffi

    tvm_ffi.register_global_func(FUNCTION, _run, override=True)
    tvm_ffi.register_error("DeviceProgramError", DeviceProgramError)
    return tuple(_PROGRAMS.setdefault(p.digest, Registered(p)) for p in programs)


def _run(digest: Any, *tensors: Any) -> None:
    """What the virtual machine calls; fills the outputs, which come last."""
    key = np.from_dlpack(digest).tobytes()
    found = _PROGRAMS.get(key)
    if found is None:
        raise DeviceProgramError(f"no program {key.hex()} is loaded: load the artefact again")
    inputs, outputs = (found.program.places(role) for role in ("input", "output"))
    arrays = [np.from_dlpack(tensor) for tensor in tensors]
    given = {
        name: array.reshape(place.shape)
        for (name, place), array in zip(inputs.items(), arrays, strict=False)
    }
    made = found.device().run(found.program, given)
    for name, array in zip(outputs, arrays[len(inputs) :], strict=True):
        np.copyto(array, made[name].reshape(array.shape))
