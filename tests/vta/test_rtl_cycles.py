"""The cycle model says what the hardware takes, by kind of instruction."""

from __future__ import annotations

import pytest

from benchmarks.rtl_cycles import errors
from hyq_tvm.vta.arch import TINY
from hyq_tvm.vta.cosim.toolchain import ToolUnavailable, compiler, verilator
from hyq_tvm.vta.isa import FUNCTIONS
from hyq_tvm.vta.isa.table import MEMORY, STORABLE

BIT_BY_BIT = ("VECTOR ROOT", "VECTOR RECIPROCAL")


@pytest.fixture(scope="module")
def found():
    try:
        verilator()
        compiler()
    except ToolUnavailable as error:
        pytest.skip(str(error))
    return errors(TINY)


def test_all_kinds_are_measured(found):
    assert len(found) == 1 + len(FUNCTIONS) + 6 + len(MEMORY.choices) + len(STORABLE)


def test_pipelined_instructions_are_exact(found):
    for kind, pairs in found.items():
        if kind.startswith(("GEMM", "VECTOR")) and kind not in BIT_BY_BIT:
            assert all(hardware == model for hardware, model in pairs), kind


def test_others_are_a_few_cycles_off(found):
    for kind, pairs in found.items():
        for hardware, model in pairs:
            assert abs(model - hardware) <= 3, kind
            assert abs(model / hardware - 1) <= 0.03 or (kind in BIT_BY_BIT and hardware < 50)
