"""A device whose registers and memory are mapped into this process: a board under Linux."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import DeviceProgramError
from hyq_tvm.vta.driver.protocol import PAGE_BYTES, Register


class MappedDevice:
    """Registers and memory behind two writable buffers.

    registers: at least ``PAGE_BYTES`` bytes, accessed a whole 32-bit word at a time. memory: the
    window, which the device sees at ``memory_address``. Both must be uncached, or coherent with
    the device.
    """

    def __init__(self, registers: Any, memory: Any, memory_address: int) -> None:
        page = np.frombuffer(registers, np.uint8)
        if page.size < PAGE_BYTES:
            raise DeviceProgramError(f"a register page of {page.size} bytes: {PAGE_BYTES} needed")
        self._registers = page[:PAGE_BYTES].view("<u4")
        self._memory = np.frombuffer(memory, np.uint8)
        self._address = memory_address

    @property
    def memory_bytes(self) -> int:
        """See ``Device``."""
        return len(self._memory)

    @property
    def memory_address(self) -> int:
        """See ``Device``."""
        return self._address

    def read(self, register: Register) -> int:
        """See ``Device``."""
        return int(self._registers[register // 4])

    def write(self, register: Register, value: int) -> None:
        """See ``Device``."""
        self._registers[register // 4] = value

    def write_memory(self, address: int, data: NDArray[Any]) -> None:
        """See ``Device``; raises ``DeviceProgramError`` beyond the window."""
        raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        self._check(address, raw.size)
        self._memory[address : address + raw.size] = raw

    def read_memory(self, address: int, count: int) -> NDArray[Any]:
        """See ``Device``; raises ``DeviceProgramError`` beyond the window."""
        self._check(address, count)
        return self._memory[address : address + count].copy()

    def explain(self) -> str:
        """A board knows its registers only."""
        return ""

    def _check(self, address: int, count: int) -> None:
        if address < 0 or address + count > len(self._memory):
            raise DeviceProgramError(
                f"bytes {address:#x} to {address + count:#x} lie outside the memory window of "
                f"{len(self._memory):#x}"
            )


@contextmanager
def open_mapped(
    path: str | os.PathLike[str],
    *,
    registers: int,
    memory: int,
    memory_bytes: int,
    memory_path: str | os.PathLike[str] | None = None,
    memory_address: int | None = None,
) -> Iterator[MappedDevice]:
    """Map a device of ``/dev/mem``, of a UIO node, or of any file.

    path, registers: the file, and the register page's offset in it. memory, memory_bytes: the
    window's offset and size in ``memory_path`` (default: the same file). memory_address: where
    the device sees the window (default: ``memory``, as with ``/dev/mem``). Offsets are multiples
    of the system's page. Raises ``DeviceProgramError`` when the files cannot be mapped.
    """
    page = _map(path, registers, mmap.PAGESIZE)
    try:
        window = _map(memory_path or path, memory, memory_bytes)
    except DeviceProgramError:
        page.close()
        raise
    try:
        yield MappedDevice(page, window, memory if memory_address is None else memory_address)
    finally:
        _close(page, window)


def _map(path: str | os.PathLike[str], offset: int, size: int) -> mmap.mmap:
    try:
        file = os.open(Path(path), os.O_RDWR | os.O_SYNC)
    except OSError as error:
        raise DeviceProgramError(f"{path}: {error}") from error
    try:
        return mmap.mmap(file, size, offset=offset)
    except (OSError, ValueError) as error:
        raise DeviceProgramError(
            f"{path}: {size} bytes from {offset:#x} cannot be mapped: {error}"
        ) from error
    finally:
        os.close(file)


def _close(*maps: mmap.mmap) -> None:
    """Maps that arrays still look into close when those are gone."""
    for each in maps:
        try:
            each.close()
        except BufferError:
            continue
