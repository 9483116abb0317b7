"""The simulator's kernels in C, compiled with address and undefined-behaviour checks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ("test_kernels.py", "test_simulator.py", "test_fuzz.py", "test_codegen_attention.py")
FLAGS = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
BEYOND = """
import numpy as np
from hyq_tvm.vta.arch import TINY
from hyq_tvm.vta.isa import instruction
from hyq_tvm.vta.isa.encoding import decode, encode
from hyq_tvm.vta.kernels_native import NativeKernels
from hyq_tvm.vta.machine import Machine
machine = Machine.create(TINY, 64)
run = {"y_size": 1, "x_size": 1, "length": 9}
row = decode(encode([instruction("LOAD", memory="ACC", dram=1 << 20, **run)]))
NativeKernels(machine).execute(row.ctypes.data)
"""


@pytest.fixture(name="environment", scope="module")
def sanitized(tmp_path_factory):
    """An environment whose kernels are checked; the library comes before Python's own memory."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no C compiler was found")
    found = subprocess.run(
        [compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    library = Path(found.stdout.strip())
    if not library.is_file():
        pytest.skip(f"{compiler} has no address sanitizer")
    return {
        **os.environ,
        "LD_PRELOAD": str(library.resolve()),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",
        "HYQ_TVM_VTA_CFLAGS": FLAGS,
        "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")),
        "PYTHONMALLOC": "malloc",
    }


def run(environment, *arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )


@pytest.mark.slow
def test_kernels_stay_inside_their_memory(environment):
    files = [str(ROOT / "tests" / "vta" / name) for name in TESTS]
    done = run(
        environment, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", *files
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "passed" in done.stdout
    kernels = list(Path(environment["XDG_CACHE_HOME"]).rglob("kernels-*.so"))
    assert any(b"__asan_init" in path.read_bytes() for path in kernels)


@pytest.mark.slow
def test_the_checks_see_what_no_verifier_let_through(environment):
    done = run(environment, "-c", BEYOND)
    assert done.returncode != 0
    assert "AddressSanitizer" in done.stderr
