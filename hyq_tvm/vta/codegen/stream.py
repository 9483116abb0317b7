"""The instruction stream under construction: tiles, tokens, registers, what is on chip.

A program is a sequence of tiles; tile t loads, computes and stores. While tile t computes, tile
t + 1 loads and tile t - 1 stores. The rules behind that, which tokens enforce:

* the load of tile t starts when compute reaches tile t - 1 and the store of tile t - 3 is done, so
  it may replace what tile t - 2 was the last to use, and read from DRAM what tile t - 3 wrote;
* accumulators are three slots, taken in turn.

Constants that a tile wants are loaded with an earlier tile where that finds room and time: behind
its own loads, so that it does not wait for them. The last ``WINDOW`` tiles are open for that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.vta.arch import VTAConfig
from hyq_tvm.vta.codegen.memory import ConstantPool, Residency
from hyq_tvm.vta.codegen.tile import Load, Resident, Tile, Uop
from hyq_tvm.vta.cycles import transfer_cost
from hyq_tvm.vta.isa import Instruction, encode_uops, instruction
from hyq_tvm.vta.isa.encoding import Words, encode, unit_of
from hyq_tvm.vta.isa.table import LENGTH_BITS, REGISTERS
from hyq_tvm.vta.transfer import Transfer, flat, moved

SLOTS = 3
WINDOW = 20
ROW_SHARE = 32
"""One accumulator entry of so many, in each slot, holds numbers of a row."""

KEPT_ENTRIES = 4
"""Accumulator entries that no tile takes for itself: sums over several tiles."""

NOP = {"load": "LOAD_PAD", "compute": "LOW", "store": "STORE_X_STRIDE"}
"""A register of each unit: setting it to what it holds passes a token on."""

Range = tuple[int, int]
Placed = tuple[int, int | None]
"""Where something starts, and the tile that must load it, if any."""


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
        self._layers: list[str] = []
        self._closed_layers = 0
        self._open: deque[Tile] = deque()
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
        self._layers.append(name)

    def tile(self, reads: Iterable[Range] = (), residents: Sequence[Resident] = ()) -> Tile:
        """A new tile that reads the DRAM bytes ``reads`` and wants ``residents`` on chip."""
        wanted = [*reads, *((m.dram, m.end) for r in residents for m in r.moves)]
        while any(self._pending(r) for r in wanted):
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
        slot = self._tiles % SLOTS
        made = Tile(
            self,
            self._tiles,
            [start for start, _ in placed],
            self._slots + slot * self.slot_entries,
            slot * self.row_entries,
            self._registers["LOW"],
        )
        for resident, (start, when) in zip(residents, placed, strict=True):
            for move in resident.moves if when is not None else ():
                self._load(made, when, moved(move, start), resident.pad)
        return made

    def _load(self, tile: Tile, when: int | None, move: Transfer, pad: int = 0) -> None:
        """Into ``tile``, or behind the loads of an open tile before it."""
        for early in self._open:
            if early.index == when:
                early.prefetch(move, pad)
                return
        tile.load(move, pad)

    def _place(self, residents: Sequence[Resident]) -> list[Placed] | None:
        """Where each resident lies; None while some have no room."""
        tile = self._tiles
        result: list[Placed] = []
        found = [self._buffers[r.buffer].find(r.key, tile) for r in residents]
        for resident, start in zip(residents, found, strict=True):
            if start is not None:
                result.append((start, None))
                continue
            again = self._buffers[resident.buffer].find(resident.key, tile)
            place = self._place_early(resident) if again is None else (again, None)
            if place is None:
                self._forget(residents, found)
                return None
            result.append(place)
        return result

    def _place_early(self, resident: Resident) -> Placed | None:
        """Room for something new, and the tile that loads it: an open one for constants."""
        buffer = self._buffers[resident.buffer]
        cost = sum(transfer_cost(move, self.config) for move in resident.moves)
        for when in self._opportunities(resident.moves, cost):
            start = buffer.place(resident.key, resident.entries, when, self._tiles)
            if start is not None:
                return start, when
        return None

    def _opportunities(self, moves: Sequence[Transfer], cost: int) -> list[int]:
        """Tiles that may load something, best first: those with time for it, the latest of them
        first, then those with the most time; this tile last.
        """
        if not moves or any(move.dram < self.pool.base for move in moves):
            return [self._tiles]
        spare = {tile.index: self._spare(place) for place, tile in enumerate(self._open)}
        order = sorted(spare, key=lambda index: (min(spare[index] - cost, 0), index), reverse=True)
        return [*(index for index in order if spare[index] > 0), self._tiles]

    def _spare(self, place: int) -> int:
        """Cycles that the load unit waits between an open tile and the next."""
        before = self._open[place - 1] if place else None
        tile = self._open[place]
        return (before.compute_cycles if before else 0) - tile.load_cycles

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
        address = self.pool.add(encode_uops(uops))
        parts = range(0, len(key), _LONGEST)
        moves = tuple(
            flat("UOP", first, address + 4 * first, min(_LONGEST, len(key) - first))
            for first in parts
        )
        placed = self._place_early(Resident(key, len(key), moves))
        if placed is None:
            raise UnsupportedModelError(
                f"the micro-ops of neighbouring tiles, {len(key)} among them, do not fit the "
                f"buffer of {buffer.capacity}"
            )
        start, when = placed
        for move in moves:
            self._load(tile, when, moved(move, start))
        return start

    def finish_tile(self, tile: Tile) -> None:
        """A tile is complete but for what later tiles load with it."""
        self._tiles += 1
        sync = {"pop_next": int(tile.index >= SLOTS - 1), "push_prev": 1}
        tile.layer = len(self._layers)
        tile.finished = [
            instruction("SET", register="LOW", value=tile.low, **sync),
            *self._part(tile.computes, "compute", pop="pop_prev", push="push_next"),
            *self._part(tile.stores, "store", pop="pop_prev", push="push_prev"),
        ]
        self._open.append(tile)
        if len(self._open) > WINDOW:
            self._close(self._open.popleft())

    def _close(self, tile: Tile) -> None:
        """Append a tile's instructions, with tokens."""
        if tile.layer > self._closed_layers:
            self._closed_layers = tile.layer
            self.layers[len(self._program)] = self._layers[tile.layer - 1]
        loads = self._instructions(tile.loads)
        pop = "pop_next" if tile.index else ""
        self._program += self._part(loads, "load", pop=pop, push="push_next")
        self._program += self._instructions(tile.prefetches)
        self._program += tile.finished

    def _instructions(self, loads: Sequence[Load]) -> list[Instruction]:
        """LOADs, and SETs for the registers that hold something else."""
        made: list[Instruction] = []
        for load in loads:
            made += [*self.changed(load.registers), load.instruction]
        return made

    def words(self) -> Words:
        """The whole program; call once, at the end."""
        while self._open:
            self._close(self._open.popleft())
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

    def _pending(self, span: Range) -> bool:
        """Whether the store that a load depends on may still be under way."""
        return self._writer(span) > self._tiles - SLOTS

    def _empty_tile(self) -> None:
        self.finish_tile(Tile(self, self._tiles, [], 0, 0, self._registers["LOW"]))

    def _part(self, made: list[Instruction], unit: str, pop: str, push: str) -> list[Instruction]:
        """A tile's part for one unit: its first instruction pops, its last one pushes."""
        part = made or [self._nop(unit)]
        if pop:
            part = [_with(part[0], pop), *part[1:]]
        return [*part[:-1], _with(part[-1], push)]

    def _nop(self, unit: str, **flags: int) -> Instruction:
        name = NOP[unit]
        return instruction("SET", register=name, value=self._registers[name], **flags)


_LONGEST = (1 << LENGTH_BITS) - 1


def _with(made: Instruction, flag: str) -> Instruction:
    changed = Instruction(made.name, {**made.fields, flag: 1})
    if unit_of(changed) == "load" and flag in ("pop_prev", "push_prev"):
        raise AssertionError("the load unit has nothing before it")
    return changed
