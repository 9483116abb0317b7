import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import calibration_memory
from benchmarks.calibration_memory import watched


def test_images_do_not_depend_on_the_batch_and_peaks_are_noted(monkeypatch):
    monkeypatch.setattr(calibration_memory, "EVERY", 4)
    peaks = {}
    one = np.concatenate(list(watched(10, 8, 1, peaks)))
    assert one.shape == (10, 3, 8, 8)
    assert sorted(peaks) == [4, 8]
    assert all(0 < peak < 64 for peak in peaks.values())
    np.testing.assert_array_equal(one, np.concatenate(list(watched(10, 8, 4, {}))))


@pytest.mark.parametrize(("peak", "status"), [(3.9, 0), (4.1, 1)])
def test_too_much_memory_is_a_failure(tmp_path, monkeypatch, capsys, peak, status):
    found = {"peak_gib": {1000: peak}}
    monkeypatch.setattr(calibration_memory, "measure", lambda *_: found)
    assert calibration_memory.main(["--out", str(tmp_path)]) == status
    written = (tmp_path / "calibration_memory-mobilevit_xxs.json").read_text()
    assert json.loads(written) == {"peak_gib": {"1000": peak}}
    assert str(peak) in capsys.readouterr().out


@pytest.mark.slow
def test_a_thousand_images_take_less_than_4_gib(tmp_path):
    pytest.importorskip("timm", exc_type=(ImportError, RuntimeError))
    command = [sys.executable, "-m", "benchmarks.calibration_memory", "--out", str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == 0
    found = json.loads((tmp_path / "calibration_memory-mobilevit_xxs.json").read_text())
    assert found["peak_gib"]["1000"] < 4
    assert found["peak_gib"]["1000"] - found["peak_gib"]["200"] < 0.2
