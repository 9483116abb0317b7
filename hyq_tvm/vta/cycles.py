"""How many cycles each instruction takes on a device, by formula.

============  ===================================================================================
SET, FINISH   1
GEMM          one a step, and the pipeline
VECTOR        one a step, and the pipeline; a division or a root takes a bit of its result a cycle,
              on ``dividers`` steps at a time. Steps that wait for each other: ``hyq_tvm.vta.nest``
SOFTMAX       a row passes once for the maximum, once for the sum, once more for probabilities,
              ``softmax_lanes`` logits a cycle; one division a row for probabilities; WEIGHT_WIDE
              writes two entries for each. WEIGHT into the input buffer: the maximum of the next
              row is found meanwhile
LOAD, STORE   latency, and a cycle for each piece: bytes of one word of the bus and of one entry on
              chip, or an entry of padding
============  ===================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence

from hyq_tvm.vta.arch import VTAConfig
from hyq_tvm.vta.isa.table import FUNCTIONS, GEMM, LOAD, RESULT, SOFTMAX, STORE, TARGET, VECTOR
from hyq_tvm.vta.pieces import load_pieces, store_pieces
from hyq_tvm.vta.transfer import Transfer

GEMM_PIPELINE = 7
VECTOR_PIPELINE = 7
SOFTMAX_PIPELINE = 12
"""Of a row's first two passes."""
SOFTMAX_START = 1
"""Before the first row, if rows do not stream."""
STREAM_GAP = 2
"""Between rows that stream."""
PROBABILITY_PIPELINE = 7
"""What the third pass adds."""
DIVIDER = 34
STEP_CYCLES = {"RECIPROCAL": DIVIDER + 3, "ROOT": 24}
"""Steps that are not pipelined: from one to the next on the same divider."""
STEP_PIPELINE = 4
LOAD_START, STORE_START = 1, 2
"""Before the first address. All these numbers are those of the hardware (docs/fpga.md)."""

_PROBABILITIES = frozenset(RESULT[name] for name in ("UINT8", "LOG2", "GRID"))


def cost(row: Sequence[int], strides: tuple[int, int], config: VTAConfig) -> int:
    """Of a decoded instruction that nothing holds up, not even a step of its own.

    strides: y and x of its unit, for LOAD and STORE.
    """
    opcode = row[0]
    if opcode in (LOAD.opcode, STORE.opcode):
        return transfer_cost(Transfer.of(row, *strides), config, opcode == STORE.opcode)
    if opcode == GEMM.opcode:
        return steps(row) + GEMM_PIPELINE
    if opcode == VECTOR.opcode:
        each = STEP_CYCLES.get(FUNCTIONS[row[VECTOR.columns["op"]]].name, 0)
        return _in_turns(steps(row), each, config) if each else steps(row) + VECTOR_PIPELINE
    if opcode == SOFTMAX.opcode:
        return _softmax(row, config)
    return 1


def steps(row: Sequence[int]) -> int:
    """How many steps the loops of a GEMM or VECTOR take."""
    columns = GEMM.columns if row[0] == GEMM.opcode else VECTOR.columns
    uops = row[columns["uop_end"]] - row[columns["uop_begin"]]
    return row[columns["iter_out"]] * row[columns["iter_in"]] * uops


def _in_turns(count: int, each: int, config: VTAConfig) -> int:
    """Steps on several dividers: one begins a cycle, as soon as a divider is free."""
    rounds, rest = divmod(count - 1, config.dividers)
    return rounds * max(each, config.dividers) + rest + each + STEP_PIPELINE


def _softmax(row: Sequence[int], config: VTAConfig) -> int:
    columns = SOFTMAX.columns
    rows, length, result = (row[columns[name]] for name in ("rows", "length", "result"))
    words = -(-length // config.softmax_lanes)
    if result == RESULT["WEIGHT"] and row[columns["target"]] == TARGET["INP"]:
        return rows * (words + STREAM_GAP) + words + SOFTMAX_PIPELINE - 1
    each = 2 * words + SOFTMAX_PIPELINE
    if result in _PROBABILITIES:
        each += words + DIVIDER + PROBABILITY_PIPELINE
    elif result == RESULT["WEIGHT_WIDE"]:
        each += words
    return rows * each + SOFTMAX_START


def transfer_cost(move: Transfer, config: VTAConfig, store: bool = False) -> int:
    """Of a LOAD or STORE that nothing holds up."""
    sizes = (config.block, config.bus_bytes)
    if store:
        return STORE_START + config.dram_latency + store_pieces(move, *sizes)
    return LOAD_START + config.dram_latency + len(load_pieces(move, *sizes))
