"""Tuning into a folder: budgets, progress, one tuner at a time, and nothing lost when killed."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hyq_tvm
from hyq_tvm.errors import ConfigError, TuningError
from hyq_tvm.tuning import Bar, Budget, Point, Tracker, extract, merge, run
from hyq_tvm.tuning.log import Log
from schedules.recorded import fastest, read
from tests.tuning.networks import TARGET, Imagined, block

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tasks():
    return extract(block()[0], TARGET)


def lines(folder):
    return [(r.key, r.way, r.seconds) for r in read(folder)]


def tune(tasks, folder, trials, stop_after=None, seed=0, report=lambda point: None):
    measurer = Imagined(stop_after)
    budget = Budget(minutes=None, trials=trials)
    return measurer, run(tasks, folder, budget, measurer, seed, report)


def test_a_budget_of_trials_is_kept_to_the_trial(tasks, tmp_path):
    measurer, point = tune(tasks, tmp_path, 29)
    assert measurer.measured == point.trials == len(lines(tmp_path)) == 29


def test_a_budget_of_minutes_ends(tasks, tmp_path, monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    point = run(tasks, tmp_path, Budget(minutes=0.5), Imagined())
    assert 30 <= point.clock < 30 + 12
    assert sum(r.cost for r in read(tmp_path)) == point.clock


def test_the_search_ends_where_everything_was_measured(tasks, tmp_path):
    one = [task for task in tasks if task.rule.name == "depthwise"]
    _, point = tune(one, tmp_path, 10_000)
    assert point.trials < 100
    assert len(fastest(read(tmp_path))[one[0].key, one[0].machine]) == len(one[0].choices)


@pytest.mark.parametrize("stop_after", [0, 1, 4, 13, 27])
def test_interrupted_and_resumed_reaches_the_same_records(tasks, tmp_path, stop_after):
    _, whole = tune(tasks, tmp_path / "whole", 30)
    with pytest.raises(KeyboardInterrupt):
        tune(tasks, tmp_path / "parts", 30, stop_after)
    assert len(lines(tmp_path / "parts")) == stop_after
    measurer, resumed = tune(tasks, tmp_path / "parts", 30)
    assert measurer.measured == 30 - stop_after
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")
    assert (resumed.own, resumed.best, resumed.trials) == (whole.own, whole.best, 30)


def test_what_is_finished_is_not_measured_again(tasks, tmp_path):
    tune(tasks, tmp_path, 20)
    measurer, point = tune(tasks, tmp_path, 20)
    assert (measurer.measured, point.trials) == (0, 20)


def test_the_best_so_far_never_gets_worse(tasks, tmp_path):
    points = []
    tune(tasks, tmp_path, 60, report=points.append)
    best = [p.best for p in points if p.best]
    assert best == sorted(best, reverse=True)
    assert best[-1] < points[-1].own
    assert [p.trials for p in points] == sorted(p.trials for p in points)


def test_other_models_add_to_the_same_folder(tasks, tmp_path):
    tune(tasks[:2], tmp_path, 12)
    tune(tasks[2:], tmp_path, 12)
    assert set(fastest(read(tmp_path))) == {(t.key, t.machine) for t in tasks}


def test_torn_ends_are_mended(tasks, tmp_path):
    tune(tasks, tmp_path, 5)
    file = tmp_path / "measurements.jsonl"
    whole = file.read_bytes()
    for torn, left in ((whole[:-20], 4), (whole[:-1], 5), (whole + b'{"work', 5), (b"\xff", 0)):
        file.write_bytes(torn)
        with Log(tmp_path) as log:
            assert len(log.records()) == left
        assert file.read_bytes() in (whole, whole[: whole[:-1].rfind(b"\n") + 1], b"")


def test_damage_inside_is_named(tasks, tmp_path):
    tune(tasks, tmp_path, 5)
    file = tmp_path / "measurements.jsonl"
    file.write_text(file.read_text().replace('"seconds"', '"second"', 1))
    with pytest.raises(TuningError, match=f"{file}, line 1"):
        tune(tasks, tmp_path, 5)


def test_one_tuner_at_a_time(tmp_path):
    with Log(tmp_path), pytest.raises(TuningError, match="another tuner"):
        Log(tmp_path)
    with Log(tmp_path) as log:
        assert log.records() == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TuningError, match="cannot be written"):
        Log(tmp_path / "file")


@pytest.mark.parametrize("limits", [(None, None), (0, None), (-1, 5), (None, 0), (float("nan"), 1)])
def test_impossible_budgets(limits):
    with pytest.raises(TuningError, match="minutes"):
        Budget(*limits)


def test_nothing_to_tune(tmp_path):
    with pytest.raises(TuningError, match="nothing to tune"):
        tune([], tmp_path, 5)


def test_bars_show_the_best_and_keep_silent_where_no_terminal_is(monkeypatch, capsys):
    with Bar(Budget(trials=10)) as bar:
        bar(Point(1.0, 3, 2e-3, 1e-3))
    assert capsys.readouterr().err == ""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Bar(Budget(minutes=1)) as bar:
        bar(Point(30.0, 3, 2e-3, 1.5e-3))
    assert "2.000 -> 1.500 ms" in terminal.getvalue()
    assert "50%" in terminal.getvalue()


def test_merging_keeps_each_line_once_and_can_keep_the_best_alone(tasks, tmp_path):
    tune(tasks, tmp_path / "a", 20)
    tune(tasks, tmp_path / "b", 20, seed=1)
    both = {r.line() for name in "ab" for r in read(tmp_path / name)}
    sources = [tmp_path / "a", tmp_path / "b", tmp_path / "a"]
    assert merge(sources, tmp_path / "all" / "records.jsonl") == len(both)
    assert {r.line() for r in read(tmp_path / "all")} == both
    found = fastest(read(tmp_path / "all"))
    want = {key: choices[0] for key, choices in found.items() if len(choices) > 1}
    count = merge(sources, tmp_path / "best" / "records.jsonl", best=True)
    assert 0 < count == len(want) <= len(tasks)
    assert {key: found[0] for key, found in fastest(read(tmp_path / "best")).items()} == want


def test_merging_refuses_what_is_no_folder_or_no_place(tmp_path):
    with pytest.raises(TuningError, match="no folder"):
        merge([tmp_path / "absent"], tmp_path / "all.jsonl")
    (tmp_path / "file").write_text("")
    with pytest.raises(TuningError, match="cannot be written"):
        merge([tmp_path], tmp_path / "file" / "all.jsonl")


@pytest.mark.parametrize("address", ["host", "host:", ":9190", "host:port", "host:70000"])
def test_addresses_of_trackers(address):
    with pytest.raises(TuningError, match="host:port"):
        Tracker.parse(address, "key")
    with pytest.raises(TuningError, match="key"):
        Tracker.parse("host:9190", "")


def test_the_facade_checks_its_arguments(tmp_path):
    module = block()[0]
    with pytest.raises(TuningError, match="host:port"):
        hyq_tvm.tune(module, TARGET, tmp_path, tracker="nowhere")
    with pytest.raises(TuningError, match="minutes"):
        hyq_tvm.tune(module, TARGET, tmp_path, minutes=None)
    with pytest.raises(ConfigError, match="integer module"):
        hyq_tvm.tune(module.without_attr("hyq.plan"), TARGET, tmp_path)


KILLED = """
import sys
from pathlib import Path
from hyq_tvm.tuning import Budget, extract, run
from tests.tuning.networks import TARGET, Imagined, block
from hyq_tvm.tuning.log import Log
append = Log.append
def slowly(self, record):
    append(self, record)
    print(record.line(), end="", flush=True)
Log.append = slowly
run(extract(block()[0], TARGET), Path(sys.argv[1]), Budget(None, 100_000), Imagined())
"""


def test_kill_loses_nothing_that_was_measured(tasks, tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed")]
    tuner = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=os.environ)
    seen = [tuner.stdout.readline().decode() for _ in range(11)]
    tuner.send_signal(signal.SIGKILL)
    seen += [line for line in tuner.stdout.read().decode().splitlines(True) if line.endswith("\n")]
    tuner.wait()
    kept = [record.line() for record in read(tmp_path / "killed")]
    assert kept[: len(seen)] == seen
    assert len(kept) - len(seen) <= 1
    trials = len(kept) + 9
    tune(tasks, tmp_path / "killed", trials)
    tune(tasks, tmp_path / "whole", trials)
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")
