"""Thread counts come from what the process may use, not from TVM's guess."""

import os
from pathlib import Path

import pytest

from hyq_tvm import threads
from hyq_tvm.errors import ConfigError


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setenv(threads.COUNT, "2")
    monkeypatch.setenv(threads.BIND, "1")
    return monkeypatch


@pytest.mark.parametrize(
    ("quota", "expected"), [("150000 100000", 2), ("100000 100000", 1), ("50000 100000", 1)]
)
def test_a_container_quota_caps_the_count(tmp_path: Path, monkeypatch, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    limit = tmp_path / "cpu.max"
    limit.write_text(quota)
    assert threads.available_threads(limit) == expected


@pytest.mark.parametrize("text", ["max 100000", "garbage", "", "1 2 3"])
def test_without_a_readable_quota_the_affinity_decides(tmp_path: Path, monkeypatch, text):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 6})
    limit = tmp_path / "cpu.max"
    limit.write_text(text)
    assert threads.available_threads(limit) == 3
    assert threads.available_threads(tmp_path / "absent") == 3


def test_configure_respects_the_user(environment):
    environment.setenv(threads.COUNT, "7")
    threads.configure()
    assert threads.num_threads() == 7
    assert os.environ[threads.BIND] == "1"


def test_configure_unpins_threads_of_a_restricted_process(environment):
    environment.delenv(threads.COUNT)
    environment.delenv(threads.BIND)
    environment.setattr(os, "sched_getaffinity", lambda _: {1})
    environment.setattr(os, "cpu_count", lambda: 4)
    threads.configure()
    assert os.environ[threads.COUNT] == "1"
    assert os.environ[threads.BIND] == "0"


@pytest.mark.parametrize("text", ["", "0", "-1", "two", "1.5"])
def test_a_variable_that_is_no_count_is_named(environment, text):
    environment.setenv(threads.COUNT, text)
    with pytest.raises(ConfigError, match=threads.COUNT):
        threads.num_threads()


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", None, True])
def test_bad_counts_are_refused(environment, count):
    with pytest.raises(ConfigError, match="number of threads"):
        threads.set_num_threads(count)
    assert threads.num_threads() == 2


def test_the_count_reaches_the_environment(environment):
    threads.set_num_threads(1)
    assert threads.num_threads() == 1
