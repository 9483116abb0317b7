"""What a LOAD or STORE touches: entries on chip and bytes of DRAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hyq_tvm.vta.isa.table import ELEMENT_BYTES, FLAT, LOAD, MATRICES, MEMORY

_COLUMN = LOAD.columns


@dataclass(frozen=True)
class Transfer:
    """A decoded LOAD or STORE (STORE has no padding) with the strides of its unit.

    y, x, length: the runs that move. pads: (top, bottom, left, right), in rows and runs.
    """

    memory: str
    sram: int
    dram: int
    y: int
    x: int
    length: int
    pads: tuple[int, int, int, int]
    y_stride: int
    x_stride: int

    @classmethod
    def of(cls, row: Sequence[int], y_stride: int, x_stride: int) -> Transfer:
        """From a decoded row."""
        pads = [row[_COLUMN[f"pad_{side}"]] for side in ("top", "bottom", "left", "right")]
        return cls(
            memory=MEMORY.by_code[row[_COLUMN["memory"]]].name,
            sram=row[_COLUMN["sram"]],
            dram=row[_COLUMN["dram"]],
            y=row[_COLUMN["y_size"]],
            x=row[_COLUMN["x_size"]],
            length=row[_COLUMN["length"]],
            pads=(pads[0], pads[1], pads[2], pads[3]),
            y_stride=y_stride,
            x_stride=x_stride,
        )

    @property
    def run_bytes(self) -> int:
        """Bytes of a run."""
        return self.length * ELEMENT_BYTES[self.memory]

    @property
    def moved_bytes(self) -> int:
        """DRAM bytes that are read or written, repeated ones counted again."""
        return self.y * self.x * self.run_bytes

    @property
    def end(self) -> int:
        """The DRAM address after the last byte touched."""
        return (
            self.dram
            + (self.y - 1) * self.y_stride
            + (self.x - 1) * self.x_stride
            + (self.run_bytes)
        )

    def entries(self, block: int) -> int:
        """How many entries on chip it fills or reads, from ``sram`` on."""
        blocks = -(-self.length // block)
        if self.memory in MATRICES:
            return self.y * -(-self.x // block) * blocks
        if self.memory in FLAT:
            return self.y * self.x * (blocks if self.memory == "PRM" else self.length)
        top, bottom, left, right = self.pads
        return (top + self.y + bottom) * (left + self.x + right) * blocks


def moved(move: Transfer, start: int) -> Transfer:
    """A transfer whose ``sram`` counted from 0, at ``start``."""
    return replace(move, sram=move.sram + start)


def flat(memory: str, sram: int, dram: int, length: int) -> Transfer:
    """One run."""
    return Transfer(memory, sram, dram, 1, 1, length, (0, 0, 0, 0), 0, 0)


def runs(memory: str, sram: int, dram: int, count: int, length: int, stride: int) -> Transfer:
    """``count`` runs of ``length`` elements, ``stride`` bytes apart."""
    return Transfer(memory, sram, dram, 1, count, length, (0, 0, 0, 0), 0, stride)
