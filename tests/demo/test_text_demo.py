"""The text demonstration: its lines, its tables; the whole of it where the model is installed."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from hyq_tvm import demo
from hyq_tvm.demo import text_data, text_lines
from hyq_tvm.demo.pipeline import Latency
from hyq_tvm.demo.text_demo import EXACT, FLOAT, INTEGER, LINEAR, TextOutcome, samples
from hyq_tvm.demo.text_show import accuracy_table, latency_table, picture, print_outcome
from hyq_tvm.errors import ArtifactError, UnsupportedModelError


def outcome():
    lines = text_data.load_lines("test")
    wrong = ["?" + text[1:] if row in (3, 50) else text for row, text in enumerate(lines.texts)]
    return TextOutcome(
        Path("model.onnx"),
        lines,
        float_texts=list(lines.texts),
        integer_texts=wrong,
        latency={name: Latency(1.0, 2.5) for name in (FLOAT, INTEGER, EXACT, LINEAR)},
        golden_integers=265000,
        seconds={"compile": 12.34},
    )


@pytest.mark.parametrize(("split", "count"), [("calib", 48), ("test", 100)])
def test_embedded_lines(split, count):
    lines = text_data.load_lines(split)
    assert len(lines) == count
    assert lines.pictures.shape == (count, text_lines.HEIGHT, text_lines.WIDTH, 3)
    assert all(lines.texts)
    for picture_, width in zip(lines.pictures, lines.widths, strict=True):
        assert picture_[:, :width].std() > 5
        assert not picture_[:, width:].any()
    assert lines.inputs().shape == (count, 3, text_lines.HEIGHT, text_lines.WIDTH)


def test_a_damaged_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(text_data, "FILE", tmp_path / "lines.npz")
    (tmp_path / "lines.npz").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match=r"lines\.npz"):
        text_data.load_lines("test")


def test_tables_and_samples():
    found = outcome()
    assert found.right == (1.0, 0.98)
    assert found.same == 0.98
    assert accuracy_table(found).rows[1][1] == "98.0 %"
    assert latency_table(found).rows[0] == (FLOAT, "2.50", "1.00")
    assert list(samples(found))[:2] == [3, 50]
    assert len(set(samples(found))) == 10
    shown = picture(found, 3)
    assert shown.title == f"read as {found.integer_texts[3]}"
    text = io.StringIO()
    print_outcome(Console(file=text, width=120), found)
    assert "265,000 output integers equal" in text.getvalue()
    assert found.integer_texts[3] in text.getvalue()


def test_without_the_recogniser_digits_are_shown(monkeypatch, tmp_path, capsys):
    def missing():
        raise UnsupportedModelError("not installed")

    monkeypatch.setattr(text_lines, "recogniser_file", missing)
    monkeypatch.setattr(demo, "_digits", lambda _console, report: Path(report))
    assert demo.main(tmp_path / "r.html") == 0
    assert "Digits instead of text: not installed" in capsys.readouterr().out


@pytest.mark.slow
def test_the_whole_demonstration(tmp_path, capsys):
    try:
        text_lines.recogniser_file()
    except UnsupportedModelError as error:
        pytest.skip(str(error))
    assert demo.main(tmp_path / "report.html") == 0
    out = capsys.readouterr().out
    assert "output integers equal the NumPy model's, bit for bit" in out
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for piece in ("Latency by operator", "read as", "before and after distribution scaling"):
        assert piece in page
    assert np.all([tag in page for tag in ("<svg", "data:image/png")])
