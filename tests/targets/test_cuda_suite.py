"""The GPU suite from artefacts to report, on the emulated GPU."""

import json

import pytest

from benchmarks import gpu_artefacts, gpu_suite
from benchmarks.gpu_cases import OpCase
from hyq_tvm import targets
from tests.schedules.cuda.conftest import gpu  # noqa: F401  a fixture

CASES = (OpCase("softmax", 3, 2, 20), OpCase("attention", 3, 2, 17, 16))


def prepared(path, models=()):
    target = targets.resolve({"kind": "cuda", "arch": "sm_90"})[1]
    gpu_artefacts.prepare(path, target, models, [1], CASES)
    return path


@pytest.fixture
def folder(gpu, tmp_path):  # noqa: F811
    return prepared(tmp_path / "carried")


@pytest.mark.slow
def test_a_model_too(gpu, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setattr(gpu_suite, "_SECONDS", 0.01)
    place = prepared(tmp_path / "carried", ["digits"])
    (item,) = gpu_suite.run(place, 5, {case.name: case for case in CASES})["models"]
    assert item["exact"]
    assert item["seconds"] > 0
    assert item["peers"]["torch.compile fp16"].startswith("skipped")


def test_everything_is_measured_and_exact(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_suite, "_SECONDS", 0.01)
    by_name = {case.name: case for case in CASES}
    record = gpu_suite.run(folder, 5, by_name)
    items = record["operators"]
    assert [item["exact"] for item in items] == [True, True]
    assert all(item["seconds"] > 0 for item in items)
    assert record["host"]["architecture"] == "sm_90"
    assert all(text.startswith("skipped") for item in items for text in item["peers"].values())
    text = gpu_suite.report(record)
    assert text.count("| yes |") == 3
    assert gpu_suite.plot(record, tmp_path / "gpu.svg")
    assert json.loads(json.dumps(record)) == record


def test_what_does_not_fit_the_minutes_is_named(folder):
    record = gpu_suite.run(folder, -1, {case.name: case for case in CASES})
    assert all(item["skipped"] == "out of time" for item in record["operators"])
    assert "out of time" in gpu_suite.report(record)


def test_a_wrong_result_shows(folder, monkeypatch):
    monkeypatch.setattr(gpu_suite, "_SECONDS", 0.01)
    monkeypatch.setattr(OpCase, "constants", _other(OpCase.constants))
    record = gpu_suite.run(folder, 5, {case.name: case for case in CASES}, peers=False)
    assert record["operators"][1]["exact"] is False
    assert "| NO |" in gpu_suite.report(record)


def test_an_empty_folder_and_a_missing_gpu_are_clear(folder, monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match="gpu_artefacts makes it"):
        gpu_suite.main([str(tmp_path)])
    monkeypatch.delenv("HYQ_EMULATOR")
    with pytest.raises(SystemExit, match="no NVIDIA GPU"):
        gpu_suite.main([str(folder)])


def _other(constants):
    def changed(self):
        made = constants(self)
        return [made[0] // 2, *made[1:]]

    return changed
