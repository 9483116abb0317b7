"""The emulated GPU."""

from __future__ import annotations

import ctypes
import os

import pytest

from hyq_tvm import cuda_device
from hyq_tvm.targets import cuda_toolchain
from tests.schedules.cuda import emulator


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    """A GPU ``sm_90`` on the CPU: present, and what this process compiles for."""
    reason = emulator.missing()
    if reason:
        pytest.skip(reason)
    monkeypatch.setenv("HYQ_EMULATOR", "1")
    monkeypatch.setattr(cuda_toolchain, "compiler", emulator.EmulatedCompiler)
    loaded = emulator.driver()
    # Processes that a test starts have it too.
    folders = [str(emulator.libraries()), os.environ.get("LD_LIBRARY_PATH", "")]
    monkeypatch.setenv("LD_LIBRARY_PATH", ":".join(filter(None, folders)))
    cuda_device.ensure_loaded()
    return loaded


@pytest.fixture(params=["in order", "reversed"])
def any_order(
    request: pytest.FixtureRequest, gpu: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> ctypes.CDLL:
    """The same, its threads in both orders: code that lacks a barrier fails in one of them."""
    if request.param == "reversed":
        monkeypatch.setenv("HYQ_EMULATOR_REVERSED", "1")
    return gpu
