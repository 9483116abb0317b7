"""Killed, interrupted, without room or permission: a finished result or nothing, and then again."""

import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

import hyq_tvm
from hyq_tvm.artifact import read_artifact
from hyq_tvm.errors import ArtifactError, PlanError, TuningError
from hyq_tvm.quantization.plan import QuantPlan
from tests.test_artifact import CODE, write
from tests.trust.malformed import PLAN

NOWHERE = Path("/proc")  # where not even root may write
SLOW_SAVE = """
    import sys, time
    from pathlib import Path
    from tests.test_artifact import METADATA, PLAN, CODE
    from hyq_tvm.artifact import write_artifact
    def export(file):
        with file.open("wb") as stream:
            stream.write(CODE[:100])
            stream.flush()
            print("begun", flush=True)
            time.sleep(60)
    write_artifact(Path(sys.argv[1]) / "result", METADATA, PLAN, export)
"""
SLOW_PLAN = """
    import sys, time
    from pathlib import Path
    from hyq_tvm.quantization.plan import QuantPlan
    from tests.trust.malformed import PLAN
    def to_json(self):
        print("begun", flush=True)
        time.sleep(60)
    QuantPlan.to_json = to_json
    PLAN.save(Path(sys.argv[1]) / "result")
"""
SLOW_REPORT = """
    import sys, time
    from pathlib import Path
    from hyq_tvm.report import page
    def replace(self, target):
        print("begun", flush=True)
        time.sleep(60)
    page.Path.replace = replace
    page.render = lambda report: "<html>"
    page.write_report(Path(sys.argv[1]) / "result", None)
"""
SLOW_CALIBRATION = """
    import sys, time
    from pathlib import Path
    import numpy as np
    import hyq_tvm
    from benchmarks.fuzzing.blocks import build
    from benchmarks.fuzzing.recipe import random_recipe
    network, module = build(random_recipe(10_000))
    def batches():
        yield np.zeros(network.input.shape, np.float32)
        print("begun", flush=True)
        time.sleep(60)
    hyq_tvm.compile(module, calibration=batches()).save(Path(sys.argv[1]) / "result")
"""
PROGRAMS = {
    "save": SLOW_SAVE,
    "plan": SLOW_PLAN,
    "report": SLOW_REPORT,
    "calibrate": SLOW_CALIBRATION,
}


def stopped(program: str, folder: Path, how: signal.Signals) -> int:
    """Start a program, stop it in the middle of its work, and give its exit status."""
    command = [sys.executable, "-c", textwrap.dedent(program), str(folder)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "begun\n"
    child.send_signal(how)
    return child.wait(timeout=30)


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_what_is_killed_leaves_no_result(tmp_path, name):
    assert stopped(PROGRAMS[name], tmp_path, signal.SIGKILL) == -signal.SIGKILL
    assert not (tmp_path / "result").exists()


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_what_is_interrupted_leaves_nothing_at_all(tmp_path, name):
    assert stopped(PROGRAMS[name], tmp_path, signal.SIGINT) != 0
    assert list(tmp_path.iterdir()) == []


def test_a_killed_save_keeps_the_old_one_and_can_be_done_again(tmp_path):
    write(tmp_path / "result")
    stopped(SLOW_SAVE, tmp_path, signal.SIGKILL)
    assert read_artifact(tmp_path / "result").library.read_bytes() == CODE
    write(tmp_path / "result", b"new")
    assert read_artifact(tmp_path / "result").library.read_bytes() == b"new"


def test_what_a_killed_save_leaves_behind_is_its_owners_alone(tmp_path):
    stopped(SLOW_SAVE, tmp_path, signal.SIGKILL)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".result.")
    assert left.stat().st_mode & 0o077 == 0


def test_a_killed_plan_keeps_the_old_one(tmp_path):
    PLAN.save(tmp_path / "result")
    stopped(SLOW_PLAN, tmp_path, signal.SIGKILL)
    assert QuantPlan.load(tmp_path / "result") == PLAN


LITTLE_ROOM = """
    import resource, sys
    from pathlib import Path
    from hyq_tvm.errors import HyqError
    import tests.trust.test_faults as faults
    folder, name = Path(sys.argv[1]), sys.argv[2]
    prepared = faults.prepared(name, folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
    try:
        prepared()
    except HyqError as error:
        sys.exit(40 if "cannot be written" in str(error) else str(error))
"""


def prepared(name: str, folder: Path):
    """Something that writes a file to ``folder``."""
    from hyq_tvm.tuning.log import Log
    from schedules.recorded import Record

    if name == "tune":
        log = Log(folder)
        record = Record("w" * 99, "t", "r", {}, 1.0)
        return lambda: log.append(record)
    if name == "plan":
        return lambda: PLAN.save(folder / "result")
    return lambda: write(folder / "result")


@pytest.mark.parametrize("name", ["save", "plan", "tune"])
def test_a_full_disk_is_a_named_error(tmp_path, name):
    command = [sys.executable, "-c", textwrap.dedent(LITTLE_ROOM), str(tmp_path), name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 40, done.stderr
    assert not (tmp_path / "result").exists()
    if name != "tune":
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_tuning_goes_on_after_the_disk_was_full(tmp_path):
    from hyq_tvm.tuning.log import Log
    from schedules.recorded import Record

    command = [sys.executable, "-c", textwrap.dedent(LITTLE_ROOM), str(tmp_path), "tune"]
    subprocess.run(command, capture_output=True, timeout=120, check=False)
    with Log(tmp_path) as log:
        assert log.records() == []
        log.append(Record("w", "t", "r", {}, 1.0))
        assert len(log.records()) == 1


@pytest.mark.parametrize("folder", [NOWHERE, NOWHERE / "deep"])
def test_places_that_may_not_be_written_are_named(folder):
    with pytest.raises(ArtifactError, match="proc"):
        write(folder / "model")
    with pytest.raises(PlanError, match="proc"):
        PLAN.save(folder / "plan.json")


def test_a_tuning_folder_that_may_not_be_written_is_named():
    from hyq_tvm.tuning.log import Log

    with pytest.raises(TuningError, match="proc"):
        Log(NOWHERE / "records")


def test_two_processes_do_not_tune_into_one_folder(tmp_path):
    program = """
        import sys
        from pathlib import Path
        from hyq_tvm.tuning.log import Log
        from schedules.recorded import Record
        with Log(Path(sys.argv[1])) as log:
            print("begun", flush=True)
            sys.stdin.read()
            log.append(Record("theirs", "t", "r", {}, 1.0))
    """
    from hyq_tvm.tuning.log import Log
    from schedules.recorded import Record, read

    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    pipe = subprocess.PIPE
    child = subprocess.Popen(command, stdout=pipe, stdin=pipe, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "begun\n"
    with pytest.raises(TuningError, match="another tuner"):
        Log(tmp_path)
    child.communicate("")
    with Log(tmp_path) as log:
        log.append(Record("ours", "t", "r", {}, 1.0))
    assert [record.workload for record in read(tmp_path)] == ["theirs", "ours"]


@pytest.fixture(scope="module")
def model():
    """An executable, inputs and the outputs that are right."""
    from benchmarks.fuzzing.blocks import build
    from benchmarks.fuzzing.recipe import random_recipe
    from relay_passes.read_program import golden

    network, module = build(random_recipe(10_000))
    data = np.random.default_rng(0).normal(size=network.input.shape).astype(np.float32)
    integer = hyq_tvm.quantize(module, data, progress=False)
    inputs = [data * scale for scale in (0.1, 0.5, 1.0, 2.0)]
    return hyq_tvm.compile(integer), inputs, [golden(integer)(x) for x in inputs]


def right(executable, x, wanted) -> None:
    found = executable(x)
    for ours, theirs in zip(found if isinstance(found, tuple) else (found,), wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_eight_threads_share_one_executable(model):
    executable, inputs, wanted = model
    failures = []

    def work(number: int) -> None:
        try:
            for i in range(50):
                at = (number + i) % len(inputs)
                right(executable, inputs[at], wanted[at])
        except BaseException as error:  # noqa: BLE001 - the test's own thread reports it
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def resident() -> int:
    """KiB of memory that this process holds."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


@pytest.mark.slow
def test_ten_thousand_runs_do_not_grow(model):
    executable, inputs, wanted = model
    for _ in range(500):
        executable(inputs[0])
    before = resident()
    for i in range(10_000):
        executable(inputs[i % len(inputs)])
    assert resident() - before < 1024
    right(executable, inputs[0], wanted[0])


def test_temporary_files_are_gone_after_a_save(model, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    model[0].save(tmp_path / "model")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "temporary"]
