"""The resource benchmark: counting, the table, and one small synthesis."""

from __future__ import annotations

import pytest

from benchmarks.fpga_resources import accuracy, cells, count, table
from hyq_tvm.vta.cosim.softmax_unit import exp_parameters
from hyq_tvm.vta.cosim.toolchain import ToolUnavailable, script


def test_cells_are_counted_by_what_they_occupy():
    kinds = {"LUT6": 3, "LUT2": 1, "SRL16E": 2, "FDRE": 5, "FDSE": 1, "DSP48E1": 1}
    kinds |= {"RAM256X1S": 2, "RAM64X1D": 1, "RAM64X1S": 1, "RAMB18E1": 1, "CARRY4": 9, "MUXF7": 4}
    assert count(kinds) == {"lut": 6 + 8 + 2 + 1, "lutram": 11, "ff": 6, "dsp": 1, "bram": 1}


def test_ratios_are_to_the_polynomial_with_all_else_equal():
    row = {"lutram": 0, "dsp": 0, "bram": 0}
    rows = {
        "exp/poly2/dsp": {"lut": 10, "ff": 9, **row},
        "exp/poly2/nodsp": {"lut": 100, "ff": 60, **row},
        "exp/linear/nodsp": {"lut": 40, "ff": 30, **row},
    }
    assert "| exp/linear/nodsp | 40 | 30 | 0 | 0 | 2.50 | 2.00 |" in table(rows)


def test_the_default_kind_is_no_less_accurate_than_the_polynomial():
    found = {kind: accuracy(kind, "uint8", 200)["max_error"] for kind in ("poly2", "linear_pot")}
    assert found["linear_pot"] <= found["poly2"]


@pytest.mark.slow
def test_the_exponentials_save_what_they_promise():
    try:
        script("yosys")
    except ToolUnavailable as error:
        pytest.skip(str(error))
    bits = {"poly2": 8, "linear": 8, "linear_pot": 10, "table": 10}
    found = {
        kind: cells("hyq_exp_fixed", exp_parameters(kind, 0.05, width), dsp=False)
        for kind, width in bits.items()
    }
    poly2 = found["poly2"]
    for kind, lut, ff in (("linear", 1.8, 1.3), ("linear_pot", 4, 2), ("table", 4, 2)):
        assert poly2["lut"] >= lut * found[kind]["lut"]
        assert poly2["ff"] >= ff * found[kind]["ff"]
