import numpy as np
import pytest

from hyq_tvm.demo import text_lines
from hyq_tvm.errors import ConfigError, UnsupportedModelError

ALPHABET = text_lines.Alphabet(("", "a", "b", " "))


def scores(*classes):
    return np.eye(4, dtype=np.float32)[list(classes)]


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        ((0, 0), ""),
        ((1, 1, 2), "ab"),
        ((1, 0, 1), "aa"),
        ((1, 3, 3, 2), "a b"),
        ((2, 2, 0, 0), "b"),
    ],
)
def test_ctc_merges_repetitions_and_drops_blanks(classes, text):
    assert ALPHABET.text(scores(*classes)) == text
    assert ALPHABET.texts(scores(*classes)[None]) == [text]


def test_lines_are_normalised_and_end_in_zeros():
    pictures = np.full((2, text_lines.HEIGHT, 320, 3), 255, np.uint8)
    pictures[..., 0] = 0
    found = text_lines.normalised(pictures, [3, 16], 16)
    assert found.shape == (2, 3, text_lines.HEIGHT, 16)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0, 0, :, :3], -1)
    np.testing.assert_array_equal(found[0, 1:, :, :3], 1)
    assert not found[0, :, :, 3:].any()
    assert found[1].all()
    with pytest.raises(ConfigError, match="17 columns does not fit into 16"):
        text_lines.normalised(pictures, [3, 17], 16)


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("ab", "ba", 2)],
)
def test_edit_distance(a, b, edits):
    assert text_lines.edit_distance(a, b) == text_lines.edit_distance(b, a) == edits


def test_spaces_do_not_count():
    assert text_lines.exact_matches(["a b", "ab"], ["ab", "ac"]).tolist() == [True, False]
    assert text_lines.character_accuracy(["a b", "ab"], ["ab", "ac"]) == pytest.approx(3 / 4)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(text_lines, "DISTRIBUTION", "no-such-package")
    with pytest.raises(UnsupportedModelError, match="no-such-package"):
        text_lines.recogniser_file()
