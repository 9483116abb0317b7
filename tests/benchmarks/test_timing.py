"""The measuring that latency benchmarks share, and what they write."""

from __future__ import annotations

import json
import platform
import time

import numpy as np

from benchmarks import latency_report
from benchmarks.latency_report import Row, Unit
from benchmarks.timing import Timing, _processor, environment, in_turns, wall


def test_measures_take_turns_and_warm_up():
    seen = []

    def measure(name, seconds):
        def once():
            seen.append(name)
            return seconds.pop(0)

        return once

    timings = in_turns(
        {"a": measure("a", [9.0, 3.0, 1.0, 2.0]), "b": measure("b", [9.0, 5.0, 5.0, 8.0])}, turns=3
    )
    assert seen == ["a", "b"] * 4
    assert timings == {"a": Timing(1.0, 2.0, 3), "b": Timing(5.0, 5.0, 3)}


def test_the_clock_is_that_of_one_call():
    calls = []

    def call():
        calls.append(1)
        time.sleep(0.001)

    measure = wall(call, milliseconds=5)
    del calls[:]
    seconds = measure()
    assert 2 <= len(calls) <= 6
    assert 0.001 <= seconds < 0.1


def rows():
    return [
        Row("x, batch 1", "ours", Timing(0.002, 0.003, 5), {"similarity": 0.5}),
        Row("x, batch 1", "theirs", Timing(0.005, 0.006, 5)),
        Row("y, batch 1", "theirs", Timing(0.001, 0.001, 5)),
    ]


def test_ratios_are_of_minima_within_a_group():
    lines = latency_report.markdown("Title", rows(), "ours").splitlines()
    assert lines[0] == "# Title"
    assert lines[4:] == [
        "| x, batch 1 | ours | 2 | 3 | 1.00 | 0.5 |",
        "| x, batch 1 | theirs | 5 | 6 | 2.50 | |",
        "| y, batch 1 | theirs | 1 | 1 |  | |",
    ]


def test_units_may_depend_on_the_row():
    per_element = Unit("ns", lambda row: 1e9 / (4 if row.name == "ours" else 5))
    table = latency_report.markdown("Title", rows()[:2], "ours", per_element)
    assert "min ns" in table
    assert "| 5e+05 | 7.5e+05 | 1.00 |" in table
    assert "| 1e+06 | 1.2e+06 | 2.50 |" in table


def test_results_are_read_back_as_written(tmp_path):
    latency_report.write(tmp_path, "name", "Title", rows(), "ours")
    assert latency_report.load(tmp_path / "name.json") == rows()
    assert (tmp_path / "name.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads((tmp_path / "name.json").read_text(encoding="utf-8"))
    assert written["environment"]["numpy"] == np.__version__


def test_the_environment_names_the_processor():
    assert environment()["processor"]


def test_processors_have_names(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor : 0\nmodel name\t: Some CPU @ 2 GHz\n", encoding="utf-8")
    assert _processor(path) == "Some CPU @ 2 GHz"
    path.write_text("processor : 0\n", encoding="utf-8")
    assert _processor(path) == (platform.processor() or platform.machine())
