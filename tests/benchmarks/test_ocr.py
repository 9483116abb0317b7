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


@pytest.mark.parametrize("widths", ["160", "320,100"])
def test_widths_are_checked(widths):
    with pytest.raises(SystemExit):
        ocr.parse(["--widths", widths])
