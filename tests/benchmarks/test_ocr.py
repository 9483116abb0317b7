import numpy as np
import pytest

from benchmarks import ocr
from hyq_tvm.demo.text_lines import Alphabet

LINES = ocr.Lines(np.zeros((3, 48, 320, 3), np.uint8), np.array([100, 192, 193]), ["a", "b", "ab"])


def test_lines_go_to_the_narrowest_width_that_holds_them():
    found = ocr.by_width(LINES, (96, 192, 320))
    assert {width: rows.tolist() for width, rows in found.items()} == {
        96: [],
        192: [0, 1],
        320: [2],
    }


def test_texts_come_back_in_order_and_are_judged():
    alphabet, seen = Alphabet(("", "a", "b")), []

    def runtime(best):
        def run(x):
            seen.append(x.shape)
            return np.eye(3, dtype=np.float32)[best][None]

        return run

    runs = {192: runtime([1, 1]), 320: runtime([1, 2])}
    found = ocr.read(runs, LINES, alphabet, "test")
    assert found[0] == ["a", "a", "ab"]
    assert seen == [(1, 3, 48, 192), (1, 3, 48, 192), (1, 3, 48, 320)]
    result = ocr.judge("ours", runs, found, ["a", "b", "ab"], LINES)
    assert (result.exact, result.widths) == (pytest.approx(2 / 3), (192, 320))
    assert result.change == pytest.approx(-1 / 3)
    assert result.characters == pytest.approx(3 / 4)
    assert "| ours | 3 | 66.7 " in ocr.markdown([result])


def test_results_are_kept(tmp_path):
    result = ocr.judge("x", {320: None}, (["a", "b", "ab"], 1.5), ["a", "b", "a"], LINES)
    ocr.write(tmp_path, {"x": result})
    ((name, found),) = ocr.load_results(tmp_path / "ocr.json").items()
    assert name == "x"
    assert found.same_text == result.same_text
    assert list(found.widths) == [320]
    assert ocr.load_results(tmp_path / "absent.json") == {}


def test_every_choice_of_widths_has_its_own_float_row(tmp_path, monkeypatch, capsys):
    """Measuring at several widths must not change what single-width results are compared with."""
    right = {(320,): ["a", "x", "x"], (192, 320): ["a", "b", "x"]}

    def judged(name, options, found, exact):
        runs = dict.fromkeys(options.widths)
        return ocr.judge(name, runs, (found, 1.0), exact, LINES, integer_only=True)

    def float_result(options, test):
        exact = right[options.widths]
        return judged(ocr.float_name(options.widths), options, exact, exact), exact

    monkeypatch.setattr(ocr, "load_lines", lambda split: LINES)
    monkeypatch.setattr(ocr, "float_result", float_result)
    monkeypatch.setattr(
        ocr,
        "our_result",
        lambda options, name, test, exact: judged(name, options, ["a"] * 3, exact),
    )
    for widths in ("320", "192,320"):
        assert ocr.main(["--only", "ours", "--widths", widths, "--out", str(tmp_path)]) == 0
    found = ocr.load_results(tmp_path / "ocr.json")
    assert {name: round(3 * r.exact) for name, r in found.items()} == {
        "float32": 1,
        "hyq_tvm, defaults, widths 320": 1,
        "float32, widths 192/320": 2,
        "hyq_tvm, defaults, widths 192/320": 1,
    }
    assert found["hyq_tvm, defaults, widths 320"].change == 0
    assert found["hyq_tvm, defaults, widths 192/320"].change == pytest.approx(-1 / 3)


@pytest.mark.parametrize("widths", ["160", "320,100"])
def test_widths_are_checked(widths):
    with pytest.raises(SystemExit):
        ocr.parse(["--widths", widths])
