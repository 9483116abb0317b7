"""What ``hyq-tvm eval`` is made of: labels, batches, the log of predictions."""

import json

import numpy as np
import pytest
from PIL import Image

from hyq_tvm.arrays import ImageArray, ReadyArray
from hyq_tvm.cli.eval_data import Batches, labels_of
from hyq_tvm.cli.eval_log import PredictionLog
from hyq_tvm.errors import CalibrationError, InputError
from hyq_tvm.images import ImageFolder, Preprocessing

PREPARE = Preprocessing(size=(4, 4), mean=(0, 0, 0), std=(1, 1, 1))
PICTURES = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Seven pictures in the subfolders cat and ant."""
    for index, picture in enumerate(PICTURES):
        place = tmp_path / ("ant" if index < 3 else "cat")
        place.mkdir(exist_ok=True)
        Image.fromarray(picture).save(place / f"{index}.png")
    return tmp_path


def sources(folder):
    prepared = np.stack([PREPARE(Image.fromarray(picture)) for picture in PICTURES])
    return ImageFolder(folder, PREPARE), ImageArray(PICTURES, PREPARE), ReadyArray(prepared)


@pytest.mark.parametrize("start", [0, 3, 6, 7])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_batches_go_on_anywhere(folder, start, size):
    expected = ReadyArray(sources(folder)[2].inputs).inputs[start:]
    for source in sources(folder):
        found = list(Batches(source, size, workers=3).starting_at(start))
        assert [number for number, _ in found] == list(range(start, 7, size))
        got = np.concatenate([batch for _, batch in found]) if found else expected
        np.testing.assert_array_equal(got, expected)


def test_a_damaged_picture_is_named(folder):
    (folder / "cat" / "4.png").write_bytes(b"nothing")
    with pytest.raises(CalibrationError, match=r"4\.png is not a readable image"):
        list(Batches(ImageFolder(folder, PREPARE), 2, workers=2).starting_at(0))


def test_labels_of_subfolders(folder):
    images = ImageFolder(folder, PREPARE)
    np.testing.assert_array_equal(labels_of(images, None, None), [0] * 3 + [1] * 4)
    names = folder / "names.txt"
    names.write_text("cat a domestic cat\nbee\nant\n")
    np.testing.assert_array_equal(labels_of(images, None, names), [2] * 3 + [0] * 4)
    names.write_text("bee\nant\n")
    with pytest.raises(InputError, match="'cat', which --classes does not list"):
        labels_of(images, None, names)
    names.write_text("ant\nant\n")
    with pytest.raises(InputError, match="twice"):
        labels_of(images, None, names)
    with pytest.raises(InputError, match="cannot be read"):
        labels_of(images, None, folder / "absent.txt")


@pytest.mark.parametrize("separator", [" ", ",", "\t", "  "])
def test_labels_of_a_text_file(folder, separator):
    images = ImageFolder(folder, PREPARE)
    table = folder / "val.txt"
    keys = ["ant/0.png", "1.png", "2", "3.png", "4.png", "cat/5.png", "6.png"]
    table.write_text("".join(f"{k}{separator}{10 + i}\n" for i, k in enumerate(keys)))
    np.testing.assert_array_equal(labels_of(images, str(table), None), np.arange(10, 17))
    names = folder / "names.txt"
    names.write_text("first\nsecond\n")
    table.write_text("".join(f"{k}{separator}second\n" for k in keys))
    np.testing.assert_array_equal(labels_of(images, str(table), names), [1] * 7)
    table.write_text(f"0.png{separator}1\n")
    with pytest.raises(InputError, match=r"lacks 6 of the images, such as '1\.png'"):
        labels_of(images, str(table), None)
    with pytest.raises(InputError, match="must be their folder"):
        labels_of(ImageArray(PICTURES, PREPARE), str(table), None)


def test_labels_of_arrays(tmp_path):
    images = ImageArray(PICTURES, PREPARE)
    np.save(tmp_path / "y.npy", np.arange(9))
    np.testing.assert_array_equal(labels_of(images, str(tmp_path / "y.npy"), None), np.arange(7))
    np.save(tmp_path / "y.npy", np.arange(9.0))
    with pytest.raises(InputError, match="integer labels, got float64"):
        labels_of(images, str(tmp_path / "y.npy"), None)


def batch(*firsts):
    return {
        "float": np.array([[f] for f in firsts]),
        "integer": np.array([[f + 1] for f in firsts]),
    }


def test_a_log_goes_on_after_a_cut(tmp_path):
    path = tmp_path / "val.log"
    log = PredictionLog(path, {"data": "val"}, ["float", "integer"])
    assert len(log) == 0
    log.append(batch(1, 2))
    log.append(batch(3))
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])  # killed while the last line was written
    log = PredictionLog(path, {"data": "val"}, ["float", "integer"])
    assert len(log) == 2
    log.append(batch(3))
    assert path.read_bytes() == whole
    log = PredictionLog(path, {"data": "val"}, ["float", "integer"])
    np.testing.assert_array_equal(log.classes("integer"), [[2], [3], [4]])
    np.testing.assert_array_equal(log.classes("float"), [[1], [2], [3]])


def test_a_log_of_something_else_is_refused(tmp_path):
    path = tmp_path / "val.log"
    PredictionLog(path, {"data": "val"}, ["integer"])
    for subject, models in (({"data": "test"}, ["integer"]), ({"data": "val"}, ["float"])):
        with pytest.raises(InputError, match="another evaluation"):
            PredictionLog(path, subject, models)
    first = json.loads(path.read_text())
    path.write_text(json.dumps(first) + '\n{"other": [[1]]}\n')
    with pytest.raises(InputError, match="damaged"):
        PredictionLog(path, {"data": "val"}, ["integer"])
    path.write_text("not JSON\n")
    with pytest.raises(InputError, match="no log of predictions"):
        PredictionLog(path, {"data": "val"}, ["integer"])


def test_without_a_file_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = PredictionLog(None, {}, ["float", "integer"])
    log.append(batch(5))
    np.testing.assert_array_equal(log.classes("float"), [[5]])
    assert list(tmp_path.iterdir()) == []
