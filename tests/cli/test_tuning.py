"""``hyq-tvm tune``, ``merge`` and ``compile --records``."""

import json
import shutil

import pytest

from hyq_tvm import gpu_timing
from hyq_tvm.targets import cuda_toolchain
from schedules.recorded import read
from tests.cli import test_cli

hyq, work = test_cli.hyq, test_cli.work


def test_tune_goes_on_compile_takes_the_records_and_merge_joins_them(hyq, work, tmp_path):
    records, plan = tmp_path / "records", tmp_path / "plan.json"
    images = ("--calibration", work / "images")
    assert hyq("quantize", work / "model.pt2", *images, "-o", plan)[0] == 0
    command = ("tune", work / "model.pt2", "--plan", plan, "--records", records)
    code, out, err = hyq(*command, "--trials", 2)
    assert (code, err) == (0, "")
    assert f"--records {records}" in out
    assert len(read(records)) == 2
    assert hyq(*command, "--trials", 3)[0] == 0
    assert len(read(records)) == 3
    tuned = tmp_path / "tuned.hyq"
    options = ("--plan", plan, "--records", records, "-o", tuned)
    assert hyq("compile", work / "model.pt2", *options)[0] == 0
    shutil.copytree(records, tmp_path / "copy")
    merged = ("merge", records, tmp_path / "copy", "-o", tmp_path / "all")
    assert "3 records" in hyq(*merged)[1]
    assert "exists" in hyq(*merged)[2]
    assert len(read(tmp_path / "all")) == 3


def test_rounds_for_a_gpu_elsewhere(hyq, work, tmp_path):
    if cuda_toolchain._nvrtc_library() is None and cuda_toolchain._nvcc() is None:
        pytest.skip("neither NVRTC nor nvcc is installed")
    records, place = tmp_path / "records", tmp_path / "round"
    images = ("--calibration", work / "images")
    target = ("--target", '{"kind": "cuda", "arch": "sm_90"}')
    command = ("tune", work / "model.pt2", *images, "--records", records, *target)
    code, out, err = hyq(*command, "--split", place, "--trials", 2)
    assert (code, err) == (0, "")
    assert f"{place}: carry it" in out
    index = gpu_timing.read_index(place)
    measured = [{**c["record"], "target": "cuda/sm_90/NVIDIA H200", "seconds": 1e-6, "error": "",
                 "cost": 0.1} for c in index["candidates"]]  # fmt: skip
    (place / gpu_timing.RESULTS).write_text("".join(json.dumps(r) + "\n" for r in measured))
    assert "2 records more" in hyq("merge", place, "-o", records, "--append")[1]
    assert len(read(records)) == len(measured) == 2
    assert "exists" in hyq(*command, "--split", place)[2]
    assert "--append" in hyq("merge", place, "-o", records, "--append", "--best")[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--trials", "0"), "0 is not in the range"),
        (("--minutes", "0"), "0"),
        (("--tracker", "nowhere", "--trials", "1"), "host:port"),
        (("--tracker", "here:9190", "--trials", "1"), "key"),
        (("--target", "vax", "--trials", "1"), "vax"),
    ],
)
def test_mistakes_are_found_before_anything_is_calibrated(hyq, work, tmp_path, arguments, message):
    command = ("tune", work / "model.pt2", "--records", tmp_path / "records")
    code, _, err = hyq(*command, *arguments)
    assert code == 2
    assert message in err
    assert not (tmp_path / "records").exists()


def test_damaged_records_are_named(hyq, work, tmp_path):
    file = tmp_path / "measurements.jsonl"
    file.write_text("nonsense\n")
    code, _, err = hyq("compile", work / "model.pt2", "--calibration", work / "images",
                       "--records", tmp_path, "-o", tmp_path / "model.hyq")  # fmt: skip
    assert code == 2
    assert f"{file}, line 1" in err
