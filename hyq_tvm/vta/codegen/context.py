"""What every operator's rule gets: the stream, the constants and where tensors lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.vta.arch import VTAConfig
from hyq_tvm.vta.codegen.choices import OWN, TileChoice
from hyq_tvm.vta.codegen.memory import ConstantPool
from hyq_tvm.vta.codegen.source import Argument, Operation
from hyq_tvm.vta.codegen.stream import Stream
from hyq_tvm.vta.codegen.tile import Resident
from hyq_tvm.vta.machine import PARAMETER
from hyq_tvm.vta.transfer import flat


@dataclass(frozen=True)
class Tensor:
    """A tensor in DRAM as an operator sees it."""

    address: int
    shape: tuple[int, ...]
    dtype: str


@dataclass
class Context:
    """State of one compilation. addresses: tensor name -> DRAM address. choice: what the operator
    at hand is to do about its tiles.
    """

    config: VTAConfig
    stream: Stream
    pool: ConstantPool
    addresses: Mapping[str, int]
    choice: TileChoice = OWN
    _serial: int = field(default=0)

    @property
    def block(self) -> int:
        """Lanes of an entry."""
        return self.config.block

    def blocks(self, elements: int) -> int:
        """Entries that so many elements need."""
        return -(-elements // self.config.block)

    def unique(self) -> int:
        """A number that no other key has."""
        self._serial += 1
        return self._serial

    def tensor(self, argument: Argument) -> Tensor:
        """Where an argument lies; constants are put into DRAM."""
        value = argument.value
        if isinstance(value, str):
            return Tensor(self.addresses[value], argument.shape, argument.dtype)
        return Tensor(self.pool.add(value), argument.shape, argument.dtype)

    def output(self, operation: Operation) -> Tensor:
        """Where an operation's result goes."""
        return Tensor(self.addresses[operation.name], operation.shape, operation.dtype)

    def parameters(
        self,
        multiplier: NDArray[Any],
        second: NDArray[Any],
        offset: NDArray[Any],
    ) -> Parameters:
        """Parameter entries of int32, int32 and int64 numbers, ``[C]`` or ``[1]`` each."""
        count = max(a.size for a in (multiplier, second, offset))
        entries = self.blocks(count)
        rows = np.zeros(entries * self.block, PARAMETER)
        shared = count == 1
        width = rows.size if shared else count
        for name, values in (("multiplier", multiplier), ("second", second), ("offset", offset)):
            rows[name][:width] = np.broadcast_to(values, count) if not shared else values.ravel()[0]
        return Parameters(self.pool.add(rows), entries, shared, self.block)

    def table(self, values: NDArray[Any]) -> Resident:
        """A table of at most 16-bit entries."""
        if values.min(initial=0) < -(2**15) or values.max(initial=0) >= 2**16:
            raise UnsupportedModelError(f"a table holds {values.min()}..{values.max()}: 16 bits")
        words = (values.astype(np.int64) & 0xFFFF).astype(np.uint16)
        address = self.pool.add(words)
        return Resident(("table", address), len(words), (flat("TBL", 0, address, len(words)),))


@dataclass(frozen=True)
class Parameters:
    """Parameter entries in DRAM; ``shared``: one entry for all channels."""

    address: int
    entries: int
    shared: bool
    block: int

    def resident(self, first: int, count: int) -> Resident:
        """The entries of channel blocks ``first .. first + count - 1``."""
        start, n = (0, 1) if self.shared else (first, count)
        address = self.address + start * self.block * PARAMETER.itemsize
        move = flat("PRM", 0, address, n * self.block)
        return Resident(("parameters", address, n), n, (move,))

    @property
    def step(self) -> int:
        """From one channel block's entry to the next."""
        return 0 if self.shared else 1
