"""The examples, each as a user starts it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hyq_tvm
from benchmarks.real_models import UnavailableError, import_timm

ROOT = Path(hyq_tvm.__file__).parents[1]


BESIDE_ANY_TORCHVISION = """
import runpy, sys
from benchmarks.real_models import import_timm
import_timm()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(folder, name, *arguments, start=()):
    done = subprocess.run(
        [sys.executable, *start, str(ROOT / "examples" / name), *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_onnx_model(tmp_path):
    torch, _ = pytest.importorskip("torch"), pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 5)
    )
    torch.onnx.export(
        model.eval(), (torch.zeros(1, 3, 8, 8),), str(tmp_path / "m.onnx"), dynamo=True,
        input_names=["x"], external_data=False, verbose=False,
    )  # fmt: skip
    out = run(tmp_path, "onnx_model.py", "m.onnx", "--shape", "x=1,3,8,8", "--target-drop", 5)
    assert "outputs [[1, 5]]" in out
    assert hyq_tvm.load(tmp_path / "onnx_model.hyq").metadata.integer_only


@pytest.mark.slow
def test_a_timm_model(tmp_path):
    try:
        import_timm()
    except UnavailableError as error:
        pytest.skip(str(error))
    start = ("-c", BESIDE_ANY_TORCHVISION)
    out = run(tmp_path, "timm_model.py", "--model", "mobilevit_xxs", "--size", 64, start=start)
    assert "integer-only True" in out


@pytest.mark.slow
def test_tuning(tmp_path):
    out = run(tmp_path, "tuning.py", "--trials", 2)
    assert "tuned: " in out
    assert list((tmp_path / "records").iterdir())
