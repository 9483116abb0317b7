"""Command lines and model files that cannot be: exit code 2, one line, no traceback, no output."""

import json

import numpy as np
import pytest

from hyq_tvm.cli import main
from tests.test_artifact import write
from tests.trust import malformed

MODEL_FILES = {
    **{f"{n}.onnx": d for n, d in malformed.NO_DOCUMENT.items()},
    **{f"{n}.pt2": d for n, d in malformed.NO_DOCUMENT.items()},
    "archive.pt2": b"PK\x05\x06" + bytes(18),
    "half.pt2": b"PK\x03\x04" + bytes(99),
    "model.tflite": b"TFL3",
    "model.pt": malformed.NO_DOCUMENT["pickle"],
}
LINES = [
    "",
    "--nonsense",
    "explode",
    "compile",
    "compile M",
    "compile M -o",
    "compile missing.onnx -o OUT",
    "compile missing.pt2 -o OUT",
    "compile timm:no_such_model -o OUT",
    "compile M -o OUT --target quantum",
    "compile M -o OUT --target {",
    'compile M -o OUT --target {"kind":"llvm","mcpu":"abacus"}',
    'compile M -o OUT --target {"kind":"llvm","nonsense":1}',
    'compile M -o OUT --target {"kind":3}',
    'compile M -o OUT --target {"kind":"vta","log_block":99}',
    'compile M -o OUT --target {"kind":"vta","nonsense":1}',
    "compile M -o OUT --plan missing.json",
    "compile M -o OUT --plan EMPTY",
    "compile M -o OUT --plan EMPTY --calibration x",
    "compile M -o OUT --config missing.json",
    "compile M -o OUT --config EMPTY",
    "compile M -o OUT --records missing",
    "compile M -o OUT --softmax hard",
    "compile M -o OUT --activation-bits 7",
    "compile M -o OUT --activation-bits nan",
    "compile M -o OUT --images 0",
    "compile M -o OUT --images 99999999999999999999x",
    "compile M -o OUT --mean 1,2",
    "compile M -o OUT --mean a,b,c",
    "compile M -o OUT --std 0,0,0",
    "compile M -o OUT --std nan,1,1",
    "compile M -o OUT --resize -3",
    "compile M -o OUT --input-shape 1,x,2",
    "compile M -o OUT --input-shape 0,3,2,2",
    "compile M -o OUT --input-shape -1",
    "compile M -o OUT --observer crystal",
    "compile M -o OUT --checkpoint w.npz",
    "quantize M",
    "quantize M --calibration missing",
    "quantize M --scaling twice",
    "tune M --minutes -1",
    "tune M --trials 0",
    "tune M --seed -1",
    "tune M --tracker nowhere",
    "tune M --target quantum",
    "merge missing -o OUT",
    "merge",
    "merge EMPTY -o OUT",
    "run missing x.npy",
    "run EMPTY x.npy",
    "run FOLDER x.npy",
    "run FOLDER",
    "run DAMAGED x.npy",
    "run FOLDER x.npy --top 0",
    "eval missing --data x.npy",
    "eval FOLDER",
    "eval FOLDER --data missing",
    "inspect missing",
    "inspect EMPTY",
    "inspect DAMAGED",
    "inspect PLAN --model M",
    "inspect PLAN --data x.npy",
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with the files that the command lines name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").write_bytes(b"")
    (tmp_path / "M").write_bytes(b"no model")
    (tmp_path / "PLAN.json").write_text(malformed.PLAN.to_json())
    np.save(tmp_path / "x.npy", np.zeros((4, 8), np.float32))
    write(tmp_path / "FOLDER")  # its library is no library
    write(tmp_path / "DAMAGED")
    (tmp_path / "DAMAGED" / "lib.so").write_bytes(b"other")
    return tmp_path


def refused(arguments: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert "Traceback" not in error
    assert error.strip()
    return error


@pytest.mark.parametrize("line", LINES)
def test_a_command_line_that_cannot_be(place, capsys, line):
    before = sorted(place.rglob("*"))
    refused(line.replace("PLAN", "PLAN.json").split(), capsys)
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("name", sorted(MODEL_FILES))
def test_a_model_file_that_is_none(place, capsys, name):
    (place / name).write_bytes(MODEL_FILES[name])
    shown = refused(["compile", name, "-o", "OUT"], capsys)
    assert name in shown
    assert not (place / "OUT").exists()


def test_a_configuration_with_an_override_of_nothing(place, capsys):
    (place / "c.json").write_text(json.dumps({"overrides": {"a": {"surprise": 1}}}))
    shown = refused(["compile", "M", "-o", "OUT", "--config", "c.json"], capsys)
    assert "surprise" in shown
