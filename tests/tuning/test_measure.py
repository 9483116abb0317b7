"""Measuring for real: in processes of this machine, and on servers behind a tracker."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import pytest
import tvm

from hyq_tvm.errors import TuningError
from hyq_tvm.targets import resolve
from hyq_tvm.tuning import Budget, Tracker, extract, measurer, run
from hyq_tvm.tuning import measure as measuring
from schedules.llvm import vector
from schedules.llvm.isa import DOTPROD
from schedules.recorded import read
from tests.tuning.kernels import copy, kernel
from tests.tuning.networks import block

KEY = "cpu"


@pytest.fixture(scope="module")
def tasks():
    return extract(block()[0], resolve("llvm")[1])


def crash(x, out):
    with vector.loop(64) as i:
        vector.store(out, i * (1 << 24), vector.load(x, i, 1), 1)


def foreign(x, out):
    """An instruction of another architecture: LLVM ends its process."""
    total, bytes_ = vector.load(x, 0, 4), vector.reinterpret(vector.load(x, 0, 4), "int8", 16)
    product = vector.intrinsic(DOTPROD.intrinsic, "int32", 4, total, bytes_, bytes_)
    vector.store(out, 0, product, 4)


def test_kernels_that_crash_or_do_not_build_are_reported_and_others_measured():
    kernels = [kernel("copy", copy), kernel("crash", crash), kernel("foreign", foreign),
               kernel("again", copy)]  # fmt: skip
    with measurer(resolve("llvm")[1], None) as local:
        timings = dict(local.measure(kernels))
    assert sorted(timings) == [0, 1, 2, 3]
    assert all(0 < timings[i].seconds < 1e-4 for i in (0, 3))
    assert timings[1].seconds is None
    assert timings[1].error
    assert timings[2].error.startswith("not built")


def test_a_real_tuning_finds_no_slower_choices_and_ends(tasks, tmp_path):
    target = resolve("llvm")[1]
    point = run(tasks, tmp_path, Budget(None, 6), lambda: measurer(target, None))
    records = read(tmp_path)
    assert len(records) == point.trials == 6
    assert all(r.seconds and r.cost > 0 and r.machine_ok for r in map(Checked, records))
    assert 0 < point.best <= point.own


class Checked:
    def __init__(self, record):
        self.seconds, self.cost = record.seconds, record.cost
        self.machine_ok = record.target.startswith("llvm/") and record.target.count("/") == 3


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def process(*arguments):
    """A module of TVM in a process group of its own, ended as a whole."""
    child = subprocess.Popen(
        [sys.executable, "-m", *arguments], start_new_session=True, env=os.environ,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield child
    finally:
        kill(child)


def kill(child):
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def server(tracker):
    port = free_port()
    return process("tvm.exec.rpc_server", "--host", "127.0.0.1", "--port", str(port),
                   "--port-end", str(port + 1), "--tracker", f"{tracker.host}:{tracker.port}",
                   "--key", KEY)  # fmt: skip


@contextmanager
def tracked(servers):
    """A tracker and its servers, ready."""
    tracker = Tracker("127.0.0.1", free_port(), KEY)
    with ExitStack() as stack:
        stack.enter_context(
            process("tvm.exec.rpc_tracker", "--host", "127.0.0.1", "--port", str(tracker.port),
                    "--port-end", str(tracker.port + 1))
        )  # fmt: skip
        await_that(lambda: listening(tracker.port))
        children = [stack.enter_context(server(tracker)) for _ in range(servers)]
        await_that(lambda: tracker.servers() == servers)
        yield tracker, children


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def await_that(condition, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the tracker or its servers did not start"
        time.sleep(0.5)


def test_two_servers_one_of_them_killed_in_the_middle(tasks, tmp_path):
    target, trials = resolve("llvm")[1], 12
    with tracked(servers=2) as (tracker, children):
        deaths = []

        def report(point):
            if point.trials == 6 and not deaths:
                kill(children[0])
                deaths.append(point.trials)

        point = run(
            tasks, tmp_path, Budget(None, trials), lambda: measurer(target, tracker), report=report
        )
    assert deaths == [6]
    records = read(tmp_path)
    assert len(records) == point.trials == trials
    assert [r.error for r in records if r.seconds is None] == []


def test_no_tracker_and_no_server(monkeypatch):
    target = tvm.target.Target("llvm")
    nowhere = Tracker("127.0.0.1", free_port(), KEY)
    with pytest.raises(TuningError, match="no tracker answers"), measurer(target, nowhere):
        pass
    monkeypatch.setattr(measuring, "_WAIT_SECONDS", 0)
    with (
        tracked(servers=0) as (tracker, _),
        pytest.raises(TuningError, match="no server with key 'cpu'"),
        measurer(target, tracker),
    ):
        pass
