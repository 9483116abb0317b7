"""A small program for tests: one tile of a matrix product, with tokens."""

from __future__ import annotations

import numpy as np

from hyq_tvm.vta.arch import TINY, VTAConfig
from hyq_tvm.vta.isa import assemble, encode, encode_uops
from hyq_tvm.vta.program import Place, Program

ROWS, DEPTH, COLUMNS = 5, 8, 12
UOPS, WEIGHT, INPUT, OUTPUT, DRAM = 0, 16, 112, 152, 152 + 4 * ROWS * COLUMNS

WEIGHTS = np.random.default_rng(7).integers(-127, 128, (COLUMNS, DEPTH), dtype=np.int8)

TEXT = f"""
LOAD memory=UOP dram={UOPS} y_size=1 x_size=1 length=2
SET register=LOAD_X_STRIDE value={DEPTH}
LOAD memory=WGT dram={WEIGHT} y_size=1 x_size={COLUMNS} length={DEPTH}
LOAD memory=INP dram={INPUT} y_size=1 x_size={ROWS} length={DEPTH} push_next
GEMM pop_prev init uop_begin=0 uop_end=1 iter_out=3 iter_in=5 dst_out=1 dst_in=3 src_in=2 wgt_out=2
GEMM push_next uop_begin=1 uop_end=2 iter_out=3 iter_in=5 dst_out=1 dst_in=3 src_in=2 wgt_out=2
SET register=STORE_X_STRIDE value={4 * COLUMNS}
STORE pop_prev push_prev memory=ACC dram={OUTPUT} y_size=1 x_size={ROWS} length={COLUMNS}
FINISH pop_next
"""


def program(text: str = TEXT, config: VTAConfig = TINY) -> Program:
    """A program of TEXT's tensors with other instructions."""
    image = np.concatenate(
        [
            encode_uops([(0, 0, 0), (0, 1, 1)]).view(np.uint8),
            np.zeros(WEIGHT - 8, np.uint8),
            WEIGHTS.view(np.uint8).ravel(),
        ]
    )
    tensors = {
        "x": Place(INPUT, (ROWS, DEPTH), "int8", "input"),
        "y": Place(OUTPUT, (ROWS, COLUMNS), "int32", "output"),
    }
    return Program(config, encode(assemble(text)), image, DRAM, tensors, {0: "first"})


def example_input() -> np.ndarray:
    """A random input of the program."""
    return np.random.default_rng(8).integers(-128, 128, (ROWS, DEPTH), dtype=np.int8)


def expected(x: np.ndarray) -> np.ndarray:
    """The program's output."""
    return x.astype(np.int32) @ WEIGHTS.astype(np.int32).T
