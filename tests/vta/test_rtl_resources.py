"""The resource benchmark: counting, the tables, going on where it stopped, small syntheses."""

from __future__ import annotations

import json

import pytest

from benchmarks import fpga_resources
from benchmarks.fpga_report import BEGIN, END, document, fitting, tables
from benchmarks.fpga_resources import Experiment, accuracy, experiments, main
from benchmarks.fpga_synthesis import Module, cells, count
from hyq_tvm.vta.cosim.softmax_unit import KINDS, SoftmaxUnit, exp_parameters
from hyq_tvm.vta.cosim.toolchain import ToolUnavailable, script

USED = {"lutram": 0, "dsp": 0, "bram": 0}


def test_cells_are_counted_by_what_they_occupy():
    kinds = {"LUT6": 3, "LUT2": 1, "SRL16E": 2, "FDRE": 5, "FDSE": 1, "DSP48E1": 1}
    kinds |= {"RAM256X1S": 2, "RAM64X1D": 1, "RAM64X1S": 1, "RAMB18E1": 1, "RAMB36E1": 2}
    kinds |= {"CARRY4": 9, "MUXF7": 4}
    assert count(kinds) == {"lut": 6 + 8 + 2 + 1, "lutram": 11, "ff": 6, "dsp": 1, "bram": 5}


def test_ratios_are_to_the_polynomial_with_all_else_equal():
    rows = {
        "exp/poly2/dsp": {"lut": 10, "ff": 9, **USED},
        "exp/poly2/nodsp": {"lut": 100, "ff": 60, **USED},
        "exp/linear/nodsp": {"lut": 40, "ff": 30, **USED},
        "unit/linear_pot/uint8/lanes=1/n=16/dsp": {"lut": 1, "ff": 1, **USED},
    }
    text = tables(rows)
    assert "| linear/nodsp | 40 | 30 | 0 | 0 | 2.50 | 2.00 |" in text
    assert "| linear_pot/uint8/lanes=1/n=16/dsp | 1 | 1 | 0 | 0 | - | - |" in text


def test_parts_are_those_with_enough_of_everything():
    assert fitting({"lut": 60_000, "ff": 1000, "dsp": 600, "bram": 600})[0] == "XC7K160T"
    assert fitting({"lut": 60_000, "ff": 1000, "dsp": 3_000, "bram": 10}) == ["XC7VX690T"]
    assert fitting({"lut": 10**7, "ff": 1, "dsp": 1, "bram": 1}) == []


def test_a_page_keeps_what_is_around_its_tables():
    rows = {"core/tiny/dsp": {"lut": 7, "ff": 5, **USED}}
    text = document(f"before\n{BEGIN}\nold\n{END}\nafter\n", rows)
    assert text.startswith("before\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "| tiny/dsp | 7 | 5 | 0 | 0 | XC7Z020" in text
    assert "old" not in text
    with pytest.raises(ValueError, match="tables"):
        document("nothing here", rows)


def test_all_kinds_lanes_and_lengths_are_measured_under_names_of_their_own():
    names = [experiment.name for experiment in experiments()]
    assert len(names) == len(set(names))
    units = [name for name in names if name.startswith("unit/")]
    assert len(units) == len(KINDS) * 2 * 3 * 3 * 2


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    made = []

    def measure(name):
        made.append(name)
        return {"lut": len(made), "ff": 1, **USED}

    def listed(sources):
        return [Experiment(f"exp/{n}/dsp", sources, lambda n=n: measure(n)) for n in KINDS]

    arguments = ["--out", str(tmp_path), "--docs", str(tmp_path / "absent.md")]
    monkeypatch.setattr(fpga_resources, "experiments", lambda: listed("a"))
    main([*arguments, "--only", "poly2"])
    main(arguments)
    assert made == list(KINDS)
    main(arguments)
    assert made == list(KINDS)
    monkeypatch.setattr(fpga_resources, "experiments", lambda: listed("b"))
    main([*arguments, "--report"])
    assert made == list(KINDS)
    assert json.loads((tmp_path / "fpga_resources.json").read_text()) == {}
    main(arguments)
    assert made == 2 * list(KINDS)
    assert (tmp_path / "fpga_resources.svg").stat().st_size > 1000
    assert "exp/poly2/dsp" in capsys.readouterr().out


def test_figures_belong_to_sources_and_parameters():
    four, one = (Module.unit(SoftmaxUnit("table", lanes=n)) for n in (4, 1))
    assert four.fingerprint != one.fingerprint
    assert four.fingerprint == Module.unit(SoftmaxUnit("table", lanes=4)).fingerprint


def test_the_default_kind_is_no_less_accurate_than_the_polynomial():
    found = {kind: accuracy(kind, "uint8", 200) for kind in ("poly2", "linear_pot")}
    for error in ("max_error", "rms_error", "output_error"):
        assert found["linear_pot"][error] <= found["poly2"][error]
    assert found["linear_pot"]["mean_error"] <= 1.05 * found["poly2"]["mean_error"]


@pytest.fixture(name="_yosys", scope="module")
def yosys_is_there():
    try:
        script("yosys")
    except ToolUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.usefixtures("_yosys")
def test_the_exponentials_save_what_they_promise():
    bits = {"poly2": 8, "linear": 8, "linear_pot": 10, "table": 10}
    found = {
        kind: cells(Module.exponential(exp_parameters(kind, 0.05, width)), dsp=False)
        for kind, width in bits.items()
    }
    poly2 = found["poly2"]
    for kind, lut, ff in (("linear", 1.8, 1.3), ("linear_pot", 4, 2), ("table", 4, 2)):
        assert poly2["lut"] >= lut * found[kind]["lut"]
        assert poly2["ff"] >= ff * found[kind]["ff"]


@pytest.mark.slow
@pytest.mark.usefixtures("_yosys")
def test_the_default_unit_saves_what_it_promises():
    poly2, line = (
        cells(Module.unit(SoftmaxUnit(kind, "uint8", 4)), dsp=False)
        for kind in ("poly2", "linear_pot")
    )
    assert poly2["lut"] >= 3.5 * line["lut"]
    assert poly2["ff"] >= 2 * line["ff"]
