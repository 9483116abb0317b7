"""Workers that hang or run out of memory, and Ctrl-C at any moment: the rest goes on."""

import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time

import cloudpickle
import pytest

from hyq_tvm.artifact import read_artifact
from hyq_tvm.targets import resolve
from hyq_tvm.tuning import measure as measuring
from hyq_tvm.tuning import measurer, workers
from schedules.llvm import vector
from tests.tuning.kernels import copy, kernel

LITTLE = 1 << 20
"""Bytes that a starving worker may still take."""


def endless(x, out):
    """Some hours of work that no compiler can foresee the result of."""
    with vector.loop(1 << 30), vector.loop(1 << 30) as i:
        place = vector.load(out, i % 64, 1) % 64
        vector.store(out, place, vector.load(x, place, 1) + vector.load(out, 63 - place, 1), 1)


def measured(*bodies):
    kernels = [kernel(body.__name__, body) for body in bodies]
    with measurer(resolve("llvm")[1], None) as local:
        return dict(local.measure(kernels))


def starving(x, out):
    """An ordinary kernel: its name alone makes the worker below take its memory away."""
    with vector.loop(64) as i:
        vector.store(out, i, vector.load(x, i, 1) + 1, 1)


def hanging(x, out):
    """One for whose name the worker below waits for ever."""
    with vector.loop(64) as i:
        vector.store(out, i, vector.load(x, i, 1) + 2, 1)


def troubled_build(module, target, path, seconds):
    """As on a machine whose memory is spent, and as where a compiler does not end."""
    name = str(module.attrs["name"])
    if name == "starving":
        resource.setrlimit(resource.RLIMIT_DATA, (LITTLE, LITTLE))
    if name == "hanging":
        target = Endless()
    return ORIGINAL(module, target, path, seconds)


class Endless:
    """A target that a compiler never gets done with."""

    def __enter__(self):
        time.sleep(3600)

    def __exit__(self, *error):
        pass


ORIGINAL = workers.build


@pytest.fixture
def by_value(monkeypatch):
    """This module's functions travel to the workers as the tuner's own do; modules have names."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    module = measuring._module
    monkeypatch.setattr(measuring, "_module", lambda k: module(k).with_attr("name", k.name))
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_a_kernel_that_never_ends_is_given_up_and_others_are_measured(monkeypatch):
    monkeypatch.setattr(measuring, "_RUN_SECONDS", 5)
    timings = measured(endless, copy)
    assert timings[0].seconds is None
    assert timings[0].error
    assert 0 < timings[1].seconds < 1e-3


def test_builders_without_memory_or_end_are_given_up_and_others_are_built(by_value, monkeypatch):
    monkeypatch.setattr(workers, "build", troubled_build)
    monkeypatch.setattr(measuring, "_BUILD_SECONDS", 20)
    timings = measured(starving, hanging, copy)
    assert timings[0].seconds is None
    assert timings[0].error.startswith("not built: ")
    assert timings[0].error != timings[1].error
    assert timings[1].error.startswith("not built: ")
    assert 0 < timings[2].seconds < 1e-3


def test_a_runner_without_memory_is_a_failure_of_its_kernel(monkeypatch):
    def starved(device, specs, repeat):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (1 << 20, 1 << 20))
        return [bytearray(1 << 30)]

    monkeypatch.setattr(workers, "local_arguments", starved)
    with measurer(resolve("llvm")[1], None) as local:
        timings = dict(local.measure([kernel("copy", copy)]))
    assert timings[0].seconds is None
    assert timings[0].error


WORK = """
    import sys
    from pathlib import Path
    import numpy as np
    import hyq_tvm
    from benchmarks.fuzzing.blocks import build
    from benchmarks.fuzzing.recipe import random_recipe
    folder = Path(sys.argv[1])
    print("begun", flush=True)
    network, module = build(random_recipe(10_000))
    data = np.random.default_rng(0).normal(size=network.input.shape).astype(np.float32)
    hyq_tvm.compile(hyq_tvm.quantize(module, data, progress=False)).save(folder / "result")
    print("done", flush=True)
"""


def work(folder):
    command = [sys.executable, "-c", textwrap.dedent(WORK), str(folder)]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ
    )
    assert child.stdout.readline() == "begun\n"
    return child


@pytest.mark.slow
def test_interrupted_at_any_moment_there_is_a_whole_result_or_none(tmp_path):
    start = time.monotonic()
    work(tmp_path / "first").wait()
    takes = time.monotonic() - start
    moments = random.Random(0)
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        child = work(folder)
        time.sleep(moments.uniform(0, takes))
        child.send_signal(signal.SIGINT)
        child.wait(timeout=60)
        assert {path.name for path in folder.iterdir()} <= {"result"}
        if (folder / "result").exists():
            read_artifact(folder / "result")
        elif number % 4 == 0:
            assert work(folder).wait() == 0
            read_artifact(folder / "result")
