"""Tuning for GPUs on the emulated one: built here, measured elsewhere, and taken by compile."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import hyq_tvm
from hyq_tvm import gpu_timing
from hyq_tvm.errors import ArtifactError, TargetError, TuningError
from hyq_tvm.targets import cuda_toolchain, resolve
from hyq_tvm.targets.cuda_toolchain import Compiled, Resources
from hyq_tvm.tuning import Budget, Tracker, rounds, run, take
from hyq_tvm.tuning import gpu as tuning_gpu
from hyq_tvm.tuning.search import BATCH, Search
from relay_passes.read_program import golden
from schedules.recorded import Record, Records, fastest, read, target_key
from tests.schedules.cuda.conftest import gpu  # noqa: F401  a fixture
from tests.tuning.networks import Imagined, block
from tests.tuning.test_measure import await_that, free_port, process, tracked

ARCH = {"kind": "cuda", "arch": "sm_90"}
CARD = "cuda/sm_90/emulated GPU"


@pytest.fixture(scope="module")
def network():
    return block()


@pytest.fixture(scope="module")
def target():
    return resolve(ARCH)[1]


@pytest.fixture(scope="module")
def tasks(network, target):
    return tuning_gpu.extract(network[0], target)


@pytest.fixture
def round_of_three(gpu, tasks, target, tmp_path):  # noqa: F811
    rounds.prepare(tasks, tmp_path / "records", tmp_path / "round", 3, target)
    return tmp_path / "round"


def test_a_networks_products_are_the_tasks(tasks):
    assert Counter(t.rule.name for t in tasks) == {"dot": 3, "depthwise": 1}
    assert all(t.machine == "cuda/sm_90" and len(t.choices) > 3 for t in tasks)


def test_tuning_leaves_records_and_compile_takes_the_fastest(network, tasks, tmp_path):
    imagined = Imagined()
    run(tasks, tmp_path, Budget(None, 20), imagined)
    best = {key[0]: found[0] for key, found in fastest(read(tmp_path)).items()}
    assert imagined.measured == 20
    assert any(best[t.key].choice != asdict(t.choices[0]) for t in tasks)
    records = Records(read(tmp_path))
    for task in tasks:
        made = records.kernel(task.workload, task.target, [task.rule])
        choice = next(c for c in task.choices if asdict(c) == best[task.key].choice)
        wanted = task.rule.schedule(task.workload, task.target, choice)
        assert made.function.script() == wanted.function.script()


def test_a_tuned_network_is_exact(gpu, network, tasks, tmp_path):  # noqa: F811
    module, x = network
    run(tasks, tmp_path, Budget(None, 20), Imagined())
    own = hyq_tvm.compile(module, target=ARCH)
    tuned = hyq_tvm.compile(module, target=ARCH, records=tmp_path)
    np.testing.assert_array_equal(tuned(x), golden(module)(x)[0], strict=True)
    sources = [e._library.executable.mod.imports[0].inspect_source() for e in (own, tuned)]
    assert sources[0] != sources[1]


def test_this_machines_gpu_measures(gpu, network, tmp_path):  # noqa: F811
    folder = hyq_tvm.tune(network[0], "cuda", tmp_path / "records", trials=6, progress=False)
    records = read(folder)
    assert len(records) == 6
    assert all(r.seconds > 0 and not r.error and r.target == CARD for r in records)
    assert Records(records).find(hyq_workload(network), resolve(ARCH)[1].device)


def hyq_workload(network):
    return tuning_gpu.extract(network[0], resolve(ARCH)[1])[0].workload


def test_rounds_go_there_and_come_back(gpu, network, tmp_path):  # noqa: F811
    module, records = network[0], tmp_path / "records"
    hyq_tvm.tune(module, ARCH, records, trials=5, split=tmp_path / "one")
    assert gpu_timing.measure_all(tmp_path / "one") == 5
    made = read(tmp_path / "one")
    assert [(r.target, r.error) for r in made] == [(CARD, "")] * 5
    assert take([tmp_path / "one"], records) == 5
    assert take([tmp_path / "one"], records) == 0
    hyq_tvm.tune(module, ARCH, records, trials=4, split=tmp_path / "two")
    index = gpu_timing.read_index(tmp_path / "two")
    again = {(c["record"]["workload"], str(c["record"]["choice"])) for c in index["candidates"]}
    assert len(again) == 4
    assert not again & {(r.workload, str(dict(r.choice))) for r in made}


def test_a_machine_without_compiler_measures(round_of_three):
    """The command does not import TVM's compiler, and goes on where it stopped."""
    code = (
        "import sys; from pathlib import Path; from hyq_tvm import gpu_timing;"
        "gpu_timing.main([sys.argv[1]]);"
        "assert not {'tvm', 'xgboost', 'click'} & set(sys.modules)"
    )
    path = round_of_three / gpu_timing.RESULTS
    for kept in (0, 2, 3):
        lines = path.read_bytes().splitlines(keepends=True)[:kept] if kept else []
        path.write_bytes(b"".join(lines) + (b'{"torn' if kept < 3 else b""))
        done = subprocess.run(
            [sys.executable, "-c", code, str(round_of_three)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(" us") == 3
        assert f"3 measurements in {path}" in done.stdout
        assert path.read_bytes().splitlines(keepends=True)[:kept] == lines
        assert len(read(round_of_three)) == 3


def test_wrong_results_and_broken_machine_code_are_failures(round_of_three):
    index = json.loads((round_of_three / gpu_timing.INDEX).read_text())
    index["candidates"][0]["answer"] = "0" * 64
    cubin = f"{index['candidates'][1]['folder']}/kernels.sm_90.cubin"
    (round_of_three / cubin).write_bytes(b"nothing")
    rewrite(round_of_three, index, cubin)
    results = list(gpu_timing.measure(round_of_three))
    assert [r["seconds"] is None for r in results] == [True, True, False]
    assert results[0]["error"] == "its result is wrong"
    assert results[1]["error"]


def test_candidates_that_hang_or_kill_their_process_are_failures(
    round_of_three, monkeypatch, tmp_path
):
    strange = tmp_path / "python"
    strange.write_text(f"#!{sys.executable}\n{STRANGE}")
    strange.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(sys, "executable", str(strange))
    monkeypatch.setattr(gpu_timing, "_EACH_SECONDS", 5)
    results = list(gpu_timing.measure(round_of_three))
    assert [r["seconds"] is None for r in results] == [False, True, True]
    assert results[1]["error"] == "took longer than 5 seconds"
    assert results[2]["error"] == "the process ended with code 7: no reason"


ROOT = Path(__file__).resolve().parents[2]
STRANGE = """
import os, sys, time
sys.modules["torch"] = None
from pathlib import Path
from hyq_tvm import gpu_timing
time_candidate = gpu_timing.time_candidate
def strange(folder, candidate):
    if candidate["folder"] == "0001":
        time.sleep(100)
    if candidate["folder"] == "0002":
        print("no reason", file=sys.stderr, flush=True)
        os._exit(7)
    return time_candidate(folder, candidate)
gpu_timing.time_candidate = strange
gpu_timing.main(sys.argv[3:])
"""


def rewrite(folder, index, *changed):
    for name in changed:
        index["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    index["checksum"] = gpu_timing.own_checksum(index)
    (folder / gpu_timing.INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize("damage", ["cut", "flip", "lost", "link", "outside", "version"])
def test_damaged_rounds_are_refused(round_of_three, damage):
    index_path, library = round_of_three / gpu_timing.INDEX, round_of_three / "0000" / "lib.so"
    index = json.loads(index_path.read_text())
    if damage == "cut":
        index_path.write_text(index_path.read_text()[:-20])
    elif damage == "flip":
        library.write_bytes(library.read_bytes()[:-1] + b"\x55")
    elif damage == "lost":
        library.unlink()
    elif damage == "link":
        library.rename(library.with_name("away.so"))
        library.symlink_to("away.so")
    elif damage == "outside":
        index["files"]["../x"] = "0"
        rewrite(round_of_three, index)
    else:
        rewrite(round_of_three, {**index, "format": 99})
    with pytest.raises(TuningError, match=str(round_of_three)):
        list(gpu_timing.measure(round_of_three))


def test_no_round_no_gpu_and_another_gpu(round_of_three, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="--split writes them"):
        gpu_timing.main([str(tmp_path)])
    monkeypatch.setenv("HYQ_EMULATOR_MAJOR", "8")
    with pytest.raises(ArtifactError, match="GPU is sm_80"):
        list(gpu_timing.measure(round_of_three))
    monkeypatch.delenv("HYQ_EMULATOR")
    with pytest.raises(TargetError, match="no NVIDIA GPU"):
        list(gpu_timing.measure(round_of_three))


def test_without_a_gpu_one_error_names_the_ways_out(network, tmp_path, monkeypatch):
    monkeypatch.delenv("HYQ_EMULATOR", raising=False)
    with pytest.raises(TuningError, match=r"--tracker.*--split"):
        hyq_tvm.tune(network[0], ARCH, tmp_path / "a", trials=1, progress=False)
    with pytest.raises(TargetError, match=r"arch.*tracker= or split="):
        hyq_tvm.tune(network[0], "cuda", tmp_path / "a", trials=1, progress=False)


def test_arguments_that_do_not_go_together(network, tmp_path):
    module = network[0]
    fat = {"kind": "cuda", "arch": ["sm_80", "sm_90"]}
    with pytest.raises(TuningError, match="one arch of sm_80, sm_90"):
        hyq_tvm.tune(module, fat, tmp_path / "a", split=tmp_path / "b")
    with pytest.raises(TuningError, match="for target 'cuda'"):
        hyq_tvm.tune(module, "llvm", tmp_path / "a", split=tmp_path / "b")
    with pytest.raises(TuningError, match="leave the tracker out"):
        hyq_tvm.tune(module, ARCH, tmp_path / "a", split=tmp_path / "b", tracker="h:1", key="k")
    with pytest.raises(TuningError, match="exists"):
        hyq_tvm.tune(module, ARCH, tmp_path / "a", split=tmp_path)


class Spilling:
    """A compiler whose kernels need more registers than there are."""

    name = "spilling"

    def compile(self, source, arch):
        return Compiled(arch, b"\x7fELF", "", {"run_kernel": Resources(255, 0, 8, 24)})


def test_candidates_that_spill_are_rejected_when_built(tasks, target, tmp_path, monkeypatch):
    monkeypatch.setattr(cuda_toolchain, "compiler", Spilling)
    few = tasks[-1:]
    with pytest.raises(TuningError, match="every choice was measured"):
        rounds.prepare(few, tmp_path / "records", tmp_path / "round", 3, target)
    failures = read(tmp_path / "records")
    assert len(failures) == len(few[0].choices)
    assert all(r.seconds is None and "spill registers" in r.error for r in failures)
    assert not (tmp_path / "round").exists()


def test_own_choices_come_first_and_then_the_best_in_prediction(tasks):
    search = Search(tasks, 0)
    first = list(search.ahead())
    assert [(t.task, t.number) for t in first[: len(tasks)]] == [(i, 0) for i in range(len(tasks))]
    assert len({*first}) == len(first) == sum(len(t.choices) for t in tasks)
    times = {t: 1e-6 * (1 + t.number) for t in first[: 4 * BATCH]}
    search.tell(list(times), list(times.values()))
    rest = list(search.ahead())
    assert not set(rest) & set(times)
    assert len(rest) + len(times) == len(first)


def test_rounds_learn_from_records_of_any_card_of_the_architecture(tasks):
    task = tasks[0]
    plain = task.record(1, 2e-6, "", 0.1)
    of_card = Record(**{**asdict(plain), "target": CARD})
    foreign = Record(**{**asdict(plain), "target": "cuda/sm_80/other", "seconds": 1e-9})
    search = Search(tasks, 0)
    rounds.learn(search, [of_card, foreign])
    assert search.tasks[0].seconds == {1: 2e-6}
    named = resolve({**ARCH, "card": "emulated GPU"})[1].device
    assert target_key(named) == CARD
    assert Records([of_card, foreign]).find(task.workload, named) == [of_card]
    other = resolve({**ARCH, "card": "another"})[1].device
    (found,) = Records([of_card, foreign]).find(task.workload, other)
    assert (found.target, found.seconds) == ("cuda/sm_90", 2e-6)


def test_inputs_are_the_same_everywhere():
    array = gpu_timing.seeded(3, "int32", (2, 5))
    assert array.shape == (2, 5)
    assert np.abs(array).max() < 2**23
    assert gpu_timing.digest(array) == gpu_timing.digest(gpu_timing.seeded(3, "int32", (2, 5)))
    assert hashlib.sha256(gpu_timing.seeded(1, "int8", (64,)).tobytes()).hexdigest()[:8] == SHAKE


SHAKE = hashlib.sha256(hashlib.shake_128(b"hyq 1").digest(64)).hexdigest()[:8]


@contextmanager
def gpu_server(tracker):
    port = free_port()
    place = ("--host", "127.0.0.1", "--port", str(port))
    announced = ("--tracker", f"{tracker.host}:{tracker.port}", "--key", tracker.key)
    with process("hyq_tvm.tuning.gpu_server", *place, *announced) as child:
        yield child


def test_servers_of_a_tracker_measure(gpu, network, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with tracked(servers=0) as (tracker, _), gpu_server(tracker):
        await_that(lambda: tracker.servers() == 1)
        where = {"tracker": f"{tracker.host}:{tracker.port}", "key": tracker.key}
        options = {"trials": 5, "progress": False, **where}
        folder = hyq_tvm.tune(network[0], ARCH, tmp_path / "records", **options)
        records = read(folder)
        assert [r.error for r in records] == [""] * 5
        assert all(r.seconds > 0 for r in records)
        other = {"kind": "cuda", "arch": "sm_75"}
        with pytest.raises(TuningError, match=r"a server .* made for sm_75"):
            hyq_tvm.tune(network[0], other, tmp_path / "other", **options)


def test_lost_servers_are_tried_again_and_then_recorded(tmp_path, monkeypatch):
    archives, folder = [], tuning_gpu.Folder(tmp_path / "round", None)
    folder._candidates = [{}] * 3

    def asked(self, archive, numbers):
        archives.append(list(numbers))
        good = [{"seconds": 1.0, "error": ""}] * (1 if 0 in numbers else 0)
        return good, "the server was lost: gone"

    monkeypatch.setattr(tuning_gpu._Servers, "_asked", asked)
    monkeypatch.setattr(Tracker, "await_servers", lambda self: 2)
    results = dict(tuning_gpu._Servers(Tracker("h", 1, "k")).results(folder))
    assert sorted(archives) == [[0, 2], [1], [1], [1], [2], [2]]
    assert results[0]["seconds"] == 1.0
    assert [results[i]["error"] for i in (1, 2)] == ["the server was lost: gone"] * 2
