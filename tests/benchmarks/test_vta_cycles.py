"""The command that measures models on the accelerator's cycle model."""

import json

import pytest

from benchmarks import vta_cycles
from tests.integer_modules import dense_module


def test_the_command_prints_and_draws(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(vta_cycles, "quantized", lambda name: dense_module())
    assert vta_cycles.main(["mobilevit_xxs", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "mobilevit_xxs: 0.00 ms at 200 MHz" in printed
    assert "utilisation" in printed
    data = json.loads((tmp_path / "vta_cycles.json").read_text())
    assert 0 < data["results"][0]["simulator_seconds"] < 1
    (row,) = data["results"]
    assert row["cycles"] > 0
    assert 0 < row["utilisation"] <= row["gemm_utilisation"] <= 1
    assert data["config"]["LOG_BLOCK"] == 4
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"vta_cycles.json", "vta_mobilevit_xxs.svg", "vta_mobilevit_xxs_part.svg"}


def test_tuned_tiles_stand_beside_the_own(monkeypatch, tmp_path):
    monkeypatch.setattr(vta_cycles, "quantized", lambda name: dense_module())
    tuning = ["--tune", "1", "--records", str(tmp_path / "records")]
    assert vta_cycles.main(["mobilevit_xxs", "--out", str(tmp_path), *tuning]) == 0
    own, tuned = json.loads((tmp_path / "vta_cycles.json").read_text())["results"]
    assert tuned["model"] == "mobilevit_xxs_tuned"
    assert 0 < tuned["cycles"] <= own["cycles"]
    assert list((tmp_path / "records" / "mobilevit_xxs").iterdir())


def test_models_that_are_not_there_are_skipped(monkeypatch, tmp_path, capsys):
    def absent(name):
        raise vta_cycles.UnavailableError("timm is missing")

    monkeypatch.setattr(vta_cycles, "quantized", absent)
    assert vta_cycles.main(["mobilevit_s", "--out", str(tmp_path)]) == 1
    assert "mobilevit_s: skipped, timm is missing" in capsys.readouterr().err


def test_unknown_models_are_refused(capsys):
    with pytest.raises(SystemExit):
        vta_cycles.main(["resnet"])
    assert "choose from" in capsys.readouterr().err
