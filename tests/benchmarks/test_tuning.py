"""The tuning benchmark on a small network, with imagined times for the search."""

import json

import pytest

from benchmarks import tuning
from benchmarks.timing import Timing
from hyq_tvm.targets import resolve
from hyq_tvm.tuning import Budget, extract
from tests.tuning.networks import Imagined, block


@pytest.fixture(scope="module")
def network():
    return block()


def test_curves_fall_and_repeat_themselves_without_measuring(network, tmp_path, monkeypatch):
    target = resolve("llvm")[1]
    tasks = extract(network[0], target)
    imagined = Imagined()
    monkeypatch.setattr(tuning, "measurer", lambda target, tracker: imagined())
    point, curve = tuning.tune(tasks, target, tmp_path, Budget(None, 40), 0)
    seconds = [s for _, s in curve]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[-1] == point.best < point.own == seconds[0]
    assert tuning.tune(tasks, target, tmp_path, Budget(None, 40), 0) == (point, curve)
    assert imagined.measured == 40


def test_latency_is_measured_with_and_without_records(network, tmp_path):
    own, tuned = tuning.latency(network[0], network[1], resolve("llvm")[1], tmp_path, turns=2)
    assert (own.turns, tuned.turns) == (2, 2)
    assert 0 < own.minimum <= own.median


def test_results_are_a_table_and_a_picture(tmp_path):
    curve = [(0.1, 3e-3), (0.2, 2.5e-3)]
    result = tuning.Outcome("m", 1, 40, 4, (3e-3, 2.5e-3), Timing(4e-3, 5e-3, 9),
                            Timing(2e-3, 3e-3, 9), curve)  # fmt: skip
    tuning.write(result, tmp_path)
    document = json.loads((tmp_path / "tuning-m-1.json").read_text())
    assert document["gain"] == result.gain == 2
    assert document["curve"] == [list(point) for point in curve]
    assert (tmp_path / "tuning-m-1.png").stat().st_size > 1000
    assert "3.000 -> 2.500 ms (1.200x)" in result.text()
