"""The cycle model says what the hardware takes, by kind of instruction."""

from __future__ import annotations

import pytest

from benchmarks.real_models import UnavailableError
from benchmarks.rtl_cycles import errors, whole
from hyq_tvm.vta.arch import DEFAULT, TINY
from hyq_tvm.vta.cosim.toolchain import ToolUnavailable, compiler, verilator
from hyq_tvm.vta.isa import FUNCTIONS
from hyq_tvm.vta.isa.table import MEMORY, STORABLE


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


def test_every_instruction_alone_is_exact(found):
    for kind, pairs in found.items():
        assert all(hardware == model for hardware, model in pairs), (kind, pairs)


@pytest.mark.slow
@pytest.mark.usefixtures("found")
def test_a_whole_model_of_full_size_on_the_hardware():
    """Bit-exact with the simulator, in the time that the model says, and in less than 18 ms."""
    try:
        row = whole("mobilevit_xxs", DEFAULT)
    except UnavailableError as error:
        pytest.skip(str(error))
    assert row["milliseconds"] < 18
    assert abs(row["error"]) <= 0.001
    assert row["mean_layer_error"] <= 0.001
    assert row["within_5_percent"] == row["layers"] > 100
    assert abs(row["worst_layer"]["error"]) <= 0.01
