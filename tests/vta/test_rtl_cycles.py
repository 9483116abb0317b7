"""The cycle model says what the hardware takes, by kind of instruction."""

from __future__ import annotations

import pytest

from benchmarks.real_models import UnavailableError
from benchmarks.rtl_cycles import errors, whole
from hyq_tvm.vta.arch import DEFAULT, TINY
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


@pytest.mark.slow
@pytest.mark.usefixtures("found")
def test_a_whole_model_of_full_size_on_the_hardware():
    """Bit-exact with the simulator, in the time that the model says, and in less than 18 ms."""
    try:
        row = whole("mobilevit_xxs", DEFAULT)
    except UnavailableError as error:
        pytest.skip(str(error))
    assert row["milliseconds"] < 18
    assert abs(row["error"]) <= 0.02
    assert row["mean_layer_error"] <= 0.02
    assert row["within_5_percent"] >= 0.9 * row["layers"]
    assert abs(row["worst_layer"]["error"]) <= 0.1
