"""A tile: what it loads, computes and stores, as instructions without tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hyq_tvm.vta.cycles import transfer_cost
from hyq_tvm.vta.isa import Instruction, instruction
from hyq_tvm.vta.transfer import Transfer

if TYPE_CHECKING:
    from hyq_tvm.vta.codegen.stream import Stream


@dataclass(frozen=True)
class Resident:
    """Something that a tile wants on chip: ``moves`` bring it to the entries of a buffer.

    A move's ``sram`` counts from where the buffer has room. key: equal keys hold equal contents.
    Without moves it is room in the input buffer that the compute unit fills.
    """

    key: object
    entries: int
    moves: tuple[Transfer, ...]
    pad: int = 0

    @property
    def buffer(self) -> str:
        """The buffer it lies in."""
        return self.moves[0].memory.removesuffix("_T") if self.moves else "INP"


@dataclass(frozen=True)
class Loop:
    """One loop of a nest: iterations and index steps (which do not matter for one iteration)."""

    count: int
    dst: int = 0
    src: int = 0
    third: int = 0

    def __post_init__(self) -> None:
        if self.count == 1:
            for name in ("dst", "src", "third"):
                object.__setattr__(self, name, 0)


ONCE = Loop(1)
Uop = tuple[int, int, int]


@dataclass(frozen=True)
class Load:
    """A transfer onto the chip and the registers that it needs."""

    instruction: Instruction
    registers: dict[str, int]


@dataclass
class Tile:
    """One tile. at: where its residents lie. slot: its first accumulator entry; row: its first
    entry for numbers of rows, which the third index of a micro-op reaches. low: what the register
    LOW holds when it begins.
    """

    stream: Stream
    index: int
    at: list[int]
    slot: int
    row: int
    low: int
    layer: int = 0
    loads: list[Load] = field(default_factory=list)
    prefetches: list[Load] = field(default_factory=list)
    finished: list[Instruction] = field(default_factory=list)
    load_cycles: int = 0
    compute_cycles: int = 0
    computes: list[Instruction] = field(default_factory=list)
    stores: list[Instruction] = field(default_factory=list)

    def set(self, **values: int) -> None:
        """Write registers of the compute unit, those that hold something else."""
        self.computes += self.stream.changed(values)

    def load(self, move: Transfer, pad: int = 0) -> None:
        """A transfer onto the chip; its ``sram`` is absolute."""
        self.loads.append(self._load(move, pad))

    def prefetch(self, move: Transfer, pad: int = 0) -> None:
        """The same for a later tile, behind this tile's own loads."""
        self.prefetches.append(self._load(move, pad))

    def _load(self, move: Transfer, pad: int) -> Load:
        self.stream.check_read((move.dram, move.end), self.index)
        self.load_cycles += transfer_cost(move, self.stream.config)
        strides = {"LOAD_Y_STRIDE": move.y_stride, "LOAD_X_STRIDE": move.x_stride}
        pads = dict(zip(("pad_top", "pad_bottom", "pad_left", "pad_right"), move.pads, strict=True))
        made = instruction("LOAD", **_fields(move), **pads)
        return Load(made, {**strides, "LOAD_PAD": pad})

    def store(self, move: Transfer) -> None:
        """A transfer to DRAM."""
        strides = {"STORE_Y_STRIDE": move.y_stride, "STORE_X_STRIDE": move.x_stride}
        self.stores += self.stream.changed(strides)
        self.stores.append(instruction("STORE", **_fields(move)))
        self.stream.wrote((move.dram, move.end), self.index)

    def gemm(
        self, uops: Sequence[Uop], outer: Loop, inner: Loop, *, init: bool, unsigned: bool
    ) -> None:
        """Products over a nest."""
        if not uops:
            return
        self.computes.append(
            instruction(
                "GEMM",
                init=int(init),
                inp_u8=int(unsigned),
                wgt_out=outer.third,
                wgt_in=inner.third,
                **self._nest(uops, outer, inner),
            )
        )

    def vector(
        self,
        op: str,
        uops: Sequence[Uop],
        outer: Loop,
        inner: Loop = ONCE,
        *,
        operand: str = "ACC",
        target: str = "ACC",
    ) -> None:
        """A function over a nest."""
        self.computes.append(
            instruction(
                "VECTOR",
                op=op,
                operand=operand,
                target=target,
                third_out=outer.third,
                third_in=inner.third,
                **self._nest(uops, outer, inner),
            )
        )

    def softmax(self, **fields: int | str) -> None:
        """A SOFTMAX instruction."""
        self.computes.append(instruction("SOFTMAX", **fields))

    def _nest(self, uops: Sequence[Uop], outer: Loop, inner: Loop) -> dict[str, int]:
        begin = self.stream.uops(self, uops)
        self.compute_cycles += len(uops) * outer.count * inner.count
        return {
            "uop_begin": begin,
            "uop_end": begin + len(uops),
            "iter_out": outer.count,
            "iter_in": inner.count,
            "dst_out": outer.dst,
            "dst_in": inner.dst,
            "src_out": outer.src,
            "src_in": inner.src,
        }


def _fields(move: Transfer) -> dict[str, int | str]:
    return {
        "memory": move.memory,
        "sram": move.sram,
        "dram": move.dram,
        "y_size": move.y,
        "x_size": move.x,
        "length": move.length,
    }
