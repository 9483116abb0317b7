"""The demonstration as a user runs it, in a process and a folder of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hyq_tvm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    checkout = str(Path(hyq_tvm.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "hyq_tvm.demo", "--digits"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": checkout},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, folder


def shares(text, row):
    line = next(line for line in text.splitlines() if row in line and "%" in line)
    return [float(share) for share in re.findall(r"([\d.]+) %", line)]


def test_integers_are_as_accurate_as_float(run):
    exact, integer, same = shares(run[0], "│ clean")
    assert exact >= 98
    assert integer >= exact - 0.4
    assert same >= 99
    exact, integer, same = shares(run[0], "│ turned")
    assert integer >= exact - 1
    assert same >= 97.5


def test_output_integers_equal_the_golden_model(run):
    assert "80 output integers equal the NumPy model's, bit for bit" in run[0]


def test_it_leaves_the_report_and_nothing_else(run):
    text, folder = run
    assert [path.name for path in folder.iterdir()] == ["hyq-tvm-report.html"]
    assert "hyq-tvm-report.html" in text
    page = (folder / "hyq-tvm-report.html").read_text(encoding="utf-8")
    for piece in ("attention", "hybrid1.blocks.0", "before and after distribution scaling", "<svg"):
        assert piece in page
