"""The GPU suite from artefacts to report, on the emulated GPU, and without launching anything."""

import json
import shutil
import time

import pytest
import torch

from benchmarks import gpu_artefacts, gpu_check, gpu_peers, gpu_report, gpu_suite, gpu_tvm
from benchmarks.gpu_artefacts import Wanted
from benchmarks.gpu_cases import OpCase
from hyq_tvm import cuda_device, from_torch, gpu_timing, targets
from hyq_tvm.targets import cuda_toolchain
from schedules.recorded import read
from tests.schedules.cuda.conftest import gpu  # noqa: F401  a fixture

CASES = (OpCase("softmax", 3, 2, 20), OpCase("attention", 3, 2, 17, 16))
BY_NAME = {case.name: case for case in CASES}
FLASH = "torch FlashAttention fp16"


def prepared(path, models=(), candidates=0):
    target = targets.resolve({"kind": "cuda", "arch": "sm_90"})[1]
    wanted = Wanted(models, [1], CASES, candidates, peers=False)
    gpu_artefacts.prepare(path, target, wanted)
    return path


@pytest.fixture
def folder(gpu, tmp_path):  # noqa: F811
    return prepared(tmp_path / "carried")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(gpu_suite, "_SECONDS", 0.01)


def peers(command, seconds):
    """What processes of peers would answer on a GPU."""
    assert seconds > 0
    if command[0] == "operators":
        return [{"torch softmax float16": 2e-3}, {FLASH: 1e-3}], ""
    return ([], "out of time") if command[0] == "model" else ([{command[1]: 5e-3}], "")


def test_everything_from_a_model_to_a_report(gpu, quick, monkeypatch, tmp_path):  # noqa: F811
    place, output = prepared(tmp_path / "carried", ["digits"], candidates=4), tmp_path / "results"
    index = json.loads((place / "index.json").read_text())
    index["peers"].append({"name": "digits", "batch": 1, "folder": "x", "error": ""})
    index["operators"][0]["peers"] = [{"folder": "y", "dtype": "float16", "error": ""}]
    (place / "index.json").write_text(json.dumps(index))
    monkeypatch.setattr(gpu_peers, "ask", peers)
    monkeypatch.setattr(gpu_suite, "BY_NAME", BY_NAME)
    monkeypatch.setattr(gpu_suite.run, "__defaults__", (BY_NAME, True))
    gpu_suite.main([str(place), "--output", str(output)])
    record = json.loads((output / "gpu.json").read_text())
    (model,) = record["models"]
    assert model["exact"]
    assert model["peers"] == {gpu_peers.TVM: 5e-3, gpu_peers.TORCH: "skipped: out of time"}
    assert [item["exact"] for item in record["operators"]] == [True, True]
    softmax = {"torch softmax float16": 2e-3, "TVM softmax float16": 5e-3}
    assert [o["peers"] for o in record["operators"]] == [softmax, {FLASH: 1e-3}]
    assert record["tuning"]["measured"] == record["tuning"]["candidates"] == 4
    assert all(w["best"] <= w["own"] for w in record["tuning"]["workloads"])
    text = (output / "gpu.md").read_text()
    assert "| digits, batch 1 | yes |" in text
    assert "4 of 4 candidates measured, 0 failed." in text
    assert all((output / name).stat().st_size > 1000 for name in ("gpu.svg", "tuning.svg"))
    assert len(read(output / "records")) == 4


def test_operators_are_measured_and_exact(folder, quick):
    record = gpu_suite.run(folder, 5, BY_NAME, peers=False)
    assert [item["exact"] for item in record["operators"]] == [True, True]
    assert all(item["seconds"] > 0 for item in record["operators"])
    assert record["host"]["architecture"] == "sm_90"
    assert record["tuning"]["note"] == "no candidates were prepared"
    assert gpu_report.report(record).count("| yes |") == 2
    assert json.loads(json.dumps(record)) == record


def test_peers_that_are_not_there_say_why():
    answers, _ = gpu_peers.ask(["model", "digits", "1", "0.01"], 300)
    reason = answers[0][gpu_peers.TORCH] if answers else ""
    assert reason.startswith("skipped: ") or torch.cuda.is_available()


def test_peers_end_with_their_time_and_keep_what_they_answered(monkeypatch, tmp_path):
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\necho '{\"a\": 1.5}'\necho noise\nexec sleep 100\n")
    slow.chmod(0o755)
    monkeypatch.setattr(gpu_peers.sys, "executable", str(slow))
    started = time.monotonic()
    assert gpu_peers.ask(["model"], 1) == ([{"a": 1.5}], "out of time")
    assert time.monotonic() - started < 30
    assert gpu_peers.ask(["model"], -1) == ([], "out of time")


def test_what_does_not_fit_the_minutes_is_named(folder):
    record = gpu_suite.run(folder, -1, BY_NAME)
    assert all(item["skipped"] == "out of time" for item in record["operators"])
    assert all(i["peers"] == {"PyTorch": "skipped: out of time"} for i in record["operators"])
    assert "out of time" in gpu_report.report(record)


def test_sections_end_with_their_shares(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(gpu_suite.time, "monotonic", lambda: now[0])
    clock, lefts = gpu_suite.Clock(10), []
    for section in gpu_suite.SHARES:
        clock.start(section)
        lefts.append(clock.left)
        now[0] += 30
    assert lefts == pytest.approx([60, 120, 240, 270, 480])
    assert sum(gpu_suite.SHARES.values()) == pytest.approx(1)
    assert clock.left == pytest.approx(600 - 5 * 30)


def test_a_wrong_result_shows(folder, quick, monkeypatch):
    monkeypatch.setattr(OpCase, "constants", _other(OpCase.constants))
    record = gpu_suite.run(folder, 5, BY_NAME, peers=False)
    assert record["operators"][1]["exact"] is False
    assert "| NO |" in gpu_report.report(record)


def test_an_empty_folder_and_a_missing_gpu_are_clear(folder, monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match="gpu_artefacts makes it"):
        gpu_suite.main([str(tmp_path)])
    monkeypatch.delenv("HYQ_EMULATOR")
    with pytest.raises(SystemExit, match="no NVIDIA GPU"):
        gpu_suite.main([str(folder)])


def test_a_dry_run_without_gpu_finds_what_is_missing(monkeypatch, tmp_path, capsys):
    """With NVIDIA's compiler, on a machine without GPU: everything but launching."""
    if cuda_toolchain._nvrtc_library() is None and cuda_toolchain._nvcc() is None:
        pytest.skip("neither NVRTC nor nvcc is installed")
    monkeypatch.delenv("HYQ_EMULATOR", raising=False)
    place = prepared(tmp_path / "carried", ["digits"], candidates=2)
    gpu_suite.main([str(place), "--check"])
    assert "is complete" in capsys.readouterr().out
    assert "pip download" in (place / "CARRY.md").read_text()
    assert len(list((place / "runtime").iterdir())) == 3
    shutil.rmtree(place / "op-softmax-3x2x20x20")
    (place / "runtime" / cuda_device.LIBRARY).unlink()
    (place / "round" / gpu_timing.INDEX).write_text("{}")
    (place / "digits-b1" / "lib.so").write_bytes(b"cut")
    wrong = gpu_check.check(place)
    assert len(wrong) == 4
    with pytest.raises(SystemExit, match="digits-b1"):
        gpu_suite.main([str(place), "--check"])


class Layers(torch.nn.Module):
    """A convolution and a layer that are large enough for tensor cores."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(96, 128, 3, padding=1)
        self.dense = torch.nn.Linear(128, 384)

    def forward(self, x):
        return self.dense(self.conv(x).flatten(2).transpose(1, 2))


def test_tvms_own_build_is_machine_code_with_tensor_cores(tmp_path):
    if cuda_toolchain._nvcc() is None:
        pytest.skip("no nvcc is installed")
    target = targets.resolve({"kind": "cuda", "arch": "sm_80"})[1]
    module = from_torch(Layers().eval(), (torch.zeros(1, 96, 16, 16),))
    gpu_tvm.export(gpu_tvm.half(module), target, tmp_path / "tvm")
    assert list(cuda_device.cubins_beside(tmp_path / "tvm" / "lib.so")) == ["sm_80"]
    text = (tmp_path / "tvm" / "lib.so").read_bytes()
    assert text.count(b"mma_sync") >= 2
    assert (tmp_path / "tvm" / "kernels.sm_80.cubin").read_bytes().startswith(b"\x7fELF")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_exact_softmax_is_a_peer_too(gpu, dtype, tmp_path):  # noqa: F811
    if cuda_toolchain._nvcc() is None:
        pytest.skip("no nvcc is installed")
    target = targets.resolve({"kind": "cuda", "arch": "sm_90"})[1]
    gpu_tvm.export(gpu_tvm.softmax((3, 2, 20, 20), dtype), target, tmp_path)
    assert (tmp_path / "kernels.sm_90.cubin").read_bytes().startswith(b"\x7fELF")
    assert b"expf" in (tmp_path / "lib.so").read_bytes() or dtype == "float16"


def test_a_build_that_fails_is_a_missing_peer(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    target = targets.resolve({"kind": "cuda", "arch": "sm_80"})[1]
    module = from_torch(torch.nn.Linear(4, 4).eval(), (torch.zeros(1, 4),))
    with pytest.raises(gpu_peers.MissingPeerError, match="TVM cannot build it"):
        gpu_tvm.export(gpu_tvm.half(module), target, tmp_path / "tvm")


def _other(constants):
    def changed(self):
        made = constants(self)
        return [made[0] // 2, *made[1:]]

    return changed
