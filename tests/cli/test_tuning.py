"""``hyq-tvm tune``, ``merge`` and ``compile --records``."""

import shutil

import pytest

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
