"""Noise of native code is dropped, everything else arrives."""

import os
from pathlib import Path

import pytest

from hyq_tvm import native_log

OPEN_FILES = Path("/proc/self/fd")


def test_noise_is_dropped_and_the_rest_passes(capfd):
    with native_log.filtered():
        os.write(2, b"before\n[12:00:00] x.cc:1: Warning: Scope Saving: \nafter\n")
    assert capfd.readouterr().err == "before\nafter\n"


def test_output_arrives_when_the_block_fails(capfd):
    def fail() -> None:
        os.write(2, b"a reason\n")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), native_log.filtered():
        fail()
    assert capfd.readouterr().err == "a reason\n"
    os.write(2, b"Warning: Scope Saving: outside\n")
    assert "outside" in capfd.readouterr().err


def test_no_file_descriptor_leaks(capfd):
    before = set(OPEN_FILES.iterdir())
    for _ in range(5):
        with native_log.filtered():
            os.write(2, b"x\n")
    assert set(OPEN_FILES.iterdir()) == before


def test_a_process_without_standard_error_works(monkeypatch):
    def closed(_):
        raise OSError("bad file descriptor")

    monkeypatch.setattr(os, "dup", closed)
    entered = False
    with native_log.filtered():
        entered = True
    assert entered
