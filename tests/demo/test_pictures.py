import numpy as np

from hyq_tvm.demo.data import load_split
from hyq_tvm.demo.pictures import RAMP, picture, shrink


def test_shrinking_averages():
    image = np.zeros((32, 32), np.uint8)
    image[:2, :2] = [[0, 100], [200, 255]]
    small = shrink(image)
    assert small.shape == (16, 16)
    assert small[0, 0] == 139
    assert small[1:].max() == 0


def test_ramp_spans_black_to_white():
    image = np.zeros((32, 32), np.uint8)
    image[:, 16:] = 255
    lines = picture(image, colors=False).plain.splitlines()
    assert lines == [" " * 8 + "@" * 8] * 8


def test_every_grey_has_a_character():
    image = np.repeat(np.arange(256, dtype=np.uint8), 4).reshape(32, 32)
    assert set(picture(image, colors=False).plain) <= set(RAMP + "\n")


def test_colors_hold_both_pixels():
    image = np.zeros((32, 32), np.uint8)
    image[0:2] = 255
    text = picture(image, colors=True)
    assert text.plain.splitlines() == ["▀" * 16] * 8
    assert str(text.spans[0].style) == "rgb(255,255,255) on rgb(0,0,0)"


def test_a_digit_is_recognisable():
    split = load_split("test")
    zero = split.images[np.flatnonzero(split.labels == 0)[0]]
    lines = picture(zero, colors=False).plain.splitlines()
    middle = [line[6:10] for line in lines[3:5]]
    assert any("@" in line or "%" in line or "#" in line for line in lines)
    assert all(set(part) & set(" .:-") for part in middle)
