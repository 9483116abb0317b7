"""How many cycles each instruction takes on a device, by formula.

============  ===================================================================================
SET, FINISH   1
GEMM          one a step, and the pipeline
VECTOR        one a step, and the pipeline; a division or a root takes a bit of its result a cycle,
              on ``dividers`` steps at a time
SOFTMAX       a row passes once for the maximum, once for the sum, once more for probabilities,
              ``softmax_lanes`` logits a cycle; one division a row for probabilities; WEIGHT_WIDE
              writes two entries for each. WEIGHT into the input buffer: the maximum of the next
              row is found meanwhile
LOAD, STORE   latency, and a cycle for each word of the bus that a run touches, or for each entry on
              chip where those are more. A load reads a word once for runs that follow
============  ===================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hyq_tvm.vta.arch import VTAConfig
from hyq_tvm.vta.isa.table import FUNCTIONS, GEMM, LOAD, RESULT, SOFTMAX, STORE, TARGET, VECTOR
from hyq_tvm.vta.transfer import Transfer

GEMM_PIPELINE = 7
VECTOR_PIPELINE = 7
SOFTMAX_PIPELINE = 12
"""Of a row's first two passes."""
STREAM_GAP = 2
"""Between rows that stream."""
PROBABILITY_PIPELINE = 7
"""What the third pass adds."""
DIVIDER = 34
STEP_CYCLES = {"RECIPROCAL": DIVIDER + 3, "ROOT": 24}
"""Steps that are not pipelined. All these numbers are those of the hardware (docs/fpga.md)."""

_PROBABILITIES = frozenset(RESULT[name] for name in ("UINT8", "LOG2", "GRID"))


@dataclass(frozen=True)
class Cost:
    """cycles: how long the unit is busy. beats: for how much of it the DRAM port is."""

    cycles: int
    beats: int = 0


def cost(row: Sequence[int], strides: tuple[int, int], config: VTAConfig) -> Cost:
    """Of a decoded instruction; ``strides``: y and x of its unit, for LOAD and STORE."""
    opcode = row[0]
    if opcode in (LOAD.opcode, STORE.opcode):
        return transfer_cost(Transfer.of(row, *strides), config, opcode == STORE.opcode)
    if opcode == GEMM.opcode:
        return Cost(steps(row) + GEMM_PIPELINE)
    if opcode == VECTOR.opcode:
        each = STEP_CYCLES.get(FUNCTIONS[row[VECTOR.columns["op"]]].name, 0)
        count = -(-steps(row) // config.dividers) * each if each else steps(row)
        return Cost(count + VECTOR_PIPELINE)
    if opcode == SOFTMAX.opcode:
        return _softmax(row, config)
    return Cost(1)


def steps(row: Sequence[int]) -> int:
    """How many steps the loops of a GEMM or VECTOR take."""
    columns = GEMM.columns if row[0] == GEMM.opcode else VECTOR.columns
    uops = row[columns["uop_end"]] - row[columns["uop_begin"]]
    return row[columns["iter_out"]] * row[columns["iter_in"]] * uops


def _softmax(row: Sequence[int], config: VTAConfig) -> Cost:
    columns = SOFTMAX.columns
    rows, length, result = (row[columns[name]] for name in ("rows", "length", "result"))
    words = -(-length // config.softmax_lanes)
    if result == RESULT["WEIGHT"] and row[columns["target"]] == TARGET["INP"]:
        return Cost(rows * (words + STREAM_GAP) + words + SOFTMAX_PIPELINE - 1)
    each = 2 * words + SOFTMAX_PIPELINE
    if result in _PROBABILITIES:
        each += words + DIVIDER + PROBABILITY_PIPELINE
    elif result == RESULT["WEIGHT_WIDE"]:
        each += words
    return Cost(rows * each)


def transfer_cost(move: Transfer, config: VTAConfig, store: bool = False) -> Cost:
    """Of a LOAD or STORE."""
    pieces, words = beats(move, config.bus_bytes)
    taken = config.dram_latency + max(pieces, move.entries(config.block))
    return Cost(taken, pieces if store else words)


def beats(move: Transfer, bus: int) -> tuple[int, int]:
    """Words of the bus that runs touch; the same with a word counted once for runs that follow."""
    rows, columns = np.arange(move.y)[:, None], np.arange(move.x)
    start = (move.dram + rows * move.y_stride + columns * move.x_stride).reshape(-1)
    first, last = start // bus, (start + move.run_bytes - 1) // bus
    pieces = int((last - first + 1).sum())
    return pieces, pieces - int(np.count_nonzero(first[1:] == last[:-1]))
