"""The instruction stream under construction: tiles, tokens, registers, what is on chip.

A program is a sequence of tiles; tile t loads, computes and stores. While tile t computes, tile
t + 1 loads and tile t - 1 stores. The rules behind that, which tokens enforce:

* the load of tile t starts when compute reaches tile t - 1 and the store of tile t - 3 is done, so
  it may replace what tile t - 2 was the last to use, and read from DRAM what tile t - 3 wrote;
* accumulators are three slots, taken in turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.vta.arch import VTAConfig
from hyq_tvm.vta.codegen.memory import ConstantPool, Residency
from hyq_tvm.vta.codegen.tile import Resident, Tile, Uop
from hyq_tvm.vta.isa import Instruction, encode_uops, instruction
from hyq_tvm.vta.isa.encoding import Words, encode, unit_of
from hyq_tvm.vta.isa.table import LENGTH_BITS, REGISTERS
from hyq_tvm.vta.transfer import flat, moved

SLOTS = 3
ROW_SHARE = 32
"""One accumulator entry of so many, in each slot, holds numbers of a row."""

KEPT_ENTRIES = 4
"""Accumulator entries that no tile takes for itself: sums over several tiles."""

NOP = {"load": "LOAD_PAD", "compute": "LOW", "store": "STORE_X_STRIDE"}
"""A register of each unit: setting it to what it holds passes a token on."""

Range = tuple[int, int]


class Stream:
    """Instructions so far. All tiles go through ``tile`` and then ``finish_tile``, in order."""

    def __init__(self, config: VTAConfig, pool: ConstantPool) -> None:
        self.config = config
        self.pool = pool
        self.row_entries = config.acc_entries // ROW_SHARE
        self.kept = SLOTS * self.row_entries
        self._slots = self.kept + KEPT_ENTRIES
        self.slot_entries = (config.acc_entries - self._slots) // SLOTS
        self.layers: dict[int, str] = {}
        self._program: list[Instruction] = []
        self._registers = {register.name: register.reset for register in REGISTERS}
        self._tiles = 0
        self._writes: list[tuple[Range, int]] = []
        self._buffers = {
            "INP": Residency("input", config.inp_entries),
            "WGT": Residency("weight", config.wgt_entries),
            "PRM": Residency("parameter", config.parameter_entries),
            "TBL": Residency("table", config.table_entries),
            "UOP": Residency("micro-op", config.uop_entries),
        }

    def layer(self, name: str) -> None:
        """The instructions from here on belong to a layer."""
        self.layers[len(self._program)] = name

    def tile(self, reads: Iterable[Range] = (), residents: Sequence[Resident] = ()) -> Tile:
        """A new tile that reads the DRAM bytes ``reads`` and wants ``residents`` on chip."""
        wanted = [*reads, *((m.dram, m.end) for r in residents for m in r.moves)]
        while any(self._writer(r) > self._tiles - SLOTS for r in wanted):
            self._empty_tile()
        placed = self._place(residents)
        for _ in range(Residency.LAG):
            if placed is not None:
                break
            self._empty_tile()
            placed = self._place(residents)
        if placed is None:
            raise UnsupportedModelError(
                "what one tile needs on chip does not fit the buffers together: "
                + ", ".join(f"{r.buffer} {r.entries}" for r in residents)
            )
        at = [start for start, _ in placed]
        slot = self._tiles % SLOTS
        made = Tile(
            self,
            self._tiles,
            at,
            self._slots + slot * self.slot_entries,
            slot * self.row_entries,
            self._registers["LOW"],
        )
        for resident, (start, fresh) in zip(residents, placed, strict=True):
            for move in resident.moves if fresh else ():
                made.load(moved(move, start), resident.pad)
        return made

    def _place(self, residents: Sequence[Resident]) -> list[tuple[int, bool]] | None:
        """Start and whether it must be loaded, of each resident; None if some have no room yet."""
        tile, result = self._tiles, []
        found = [self._buffers[r.buffer].find(r.key, tile) for r in residents]
        for resident, start in zip(residents, found, strict=True):
            if start is not None:
                result.append((start, False))
                continue
            again = self._buffers[resident.buffer].find(resident.key, tile)
            place = again
            if place is None:
                buffer = self._buffers[resident.buffer]
                place = buffer.place(resident.key, resident.entries, tile)
            if place is None:
                self._forget(residents, found)
                return None
            result.append((place, again is None))
        return result

    def _forget(self, residents: Sequence[Resident], found: Sequence[int | None]) -> None:
        """Undo placements whose loads will not happen in this tile."""
        for resident, start in zip(residents, found, strict=True):
            if start is None:
                self._buffers[resident.buffer].drop(resident.key)

    def uops(self, tile: Tile, uops: Sequence[Uop]) -> int:
        """The first of these micro-ops on chip; loads them into ``tile`` if they are not there."""
        key, buffer = tuple(uops), self._buffers["UOP"]
        start = buffer.find(key, tile.index)
        if start is not None:
            return start
        start = buffer.place(key, len(key), tile.index)
        if start is None:
            raise UnsupportedModelError(
                f"the micro-ops of neighbouring tiles, {len(key)} among them, do not fit the "
                f"buffer of {buffer.capacity}"
            )
        address = self.pool.add(encode_uops(uops))
        for first in range(0, len(key), _LONGEST):
            length = min(_LONGEST, len(key) - first)
            tile.load(flat("UOP", start + first, address + 4 * first, length))
        return start

    def finish_tile(self, tile: Tile) -> None:
        """Append a tile's instructions, with tokens."""
        index = tile.index
        self._tiles += 1
        self._append(tile.loads, "load", pop="pop_next" if index else "", push="push_next")
        sync = {"pop_next": int(index >= SLOTS - 1), "push_prev": 1}
        self._program.append(instruction("SET", register="LOW", value=tile.low, **sync))
        self._append(tile.computes, "compute", pop="pop_prev", push="push_next")
        self._append(tile.stores, "store", pop="pop_prev", push="push_prev")

    def words(self) -> Words:
        """The whole program; call once, at the end."""
        some = int(self._tiles > 0)
        self._program.append(self._nop("load", pop_next=some, push_next=1))
        waits = min(self._tiles, SLOTS - 1)
        self._program += [self._nop("compute", pop_next=1) for _ in range(waits - 1)]
        self._program.append(instruction("FINISH", pop_prev=1, pop_next=some))
        return encode(self._program)

    def changed(self, values: dict[str, int]) -> list[Instruction]:
        """SET instructions for the registers that hold something else."""
        made = []
        for name, value in values.items():
            if self._registers[name] != value:
                self._registers[name] = value
                made.append(instruction("SET", register=name, value=value))
        return made

    def wrote(self, span: Range, tile: int) -> None:
        """Remember what a tile stores."""
        recent = [(s, t) for s, t in self._writes if t > tile - SLOTS]
        self._writes = [*recent, (span, tile)]

    def check_read(self, span: Range, tile: int) -> None:
        """Raises ``AssertionError`` if a load could overtake the store it depends on."""
        if self._writer(span) > tile - SLOTS:
            raise AssertionError(f"tile {tile} reads {span} too early: declare it in reads")

    def _writer(self, span: Range) -> int:
        """The last tile that stored into a range of DRAM."""
        tiles = (t for (start, end), t in self._writes if start < span[1] and span[0] < end)
        return max(tiles, default=-SLOTS)

    def _empty_tile(self) -> None:
        self.finish_tile(Tile(self, self._tiles, [], 0, 0, self._registers["LOW"]))

    def _append(self, made: list[Instruction], unit: str, pop: str, push: str) -> None:
        """A tile's part for one unit: its first instruction pops, its last one pushes."""
        part = made or [self._nop(unit)]
        if pop:
            part = [_with(part[0], pop), *part[1:]]
        self._program += [*part[:-1], _with(part[-1], push)]

    def _nop(self, unit: str, **flags: int) -> Instruction:
        name = NOP[unit]
        return instruction("SET", register=name, value=self._registers[name], **flags)


_LONGEST = (1 << LENGTH_BITS) - 1


def _with(made: Instruction, flag: str) -> Instruction:
    changed = Instruction(made.name, {**made.fields, flag: 1})
    if unit_of(changed) == "load" and flag in ("pop_prev", "push_prev"):
        raise AssertionError("the load unit has nothing before it")
    return changed
