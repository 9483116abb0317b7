"""Pictures become arrays: geometry, normalisation, order, and files that are none."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hyq_tvm.arrays import ImageArray, ReadyArray, open_images, read_array
from hyq_tvm.errors import CalibrationError, ConfigError, InputError
from hyq_tvm.images import ImageFolder, Preprocessing, read_image, read_labels

PLAIN = Preprocessing(size=(4, 6), mean=(0, 0, 0), std=(1, 1, 1), interpolation="nearest")


def picture(height: int = 4, width: int = 6, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def folder_of(path: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed=seed).save(path / name)
    return path


def test_values_are_scaled_and_channels_come_first():
    array = PLAIN(picture())
    assert (array.shape, array.dtype) == ((3, 4, 6), np.float32)
    assert array.flags.c_contiguous
    expected = np.asarray(picture(), np.float32).transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_array_equal(array, expected)


def test_channels_are_normalised_one_by_one():
    mean, std = (0.5, 0.25, 0.125), (0.5, 2.0, 4.0)
    array = Preprocessing(size=(4, 6), mean=mean, std=std)(picture())
    plain = PLAIN(picture())
    for channel in range(3):
        expected = (plain[channel] - np.float32(mean[channel])) / np.float32(std[channel])
        np.testing.assert_array_equal(array[channel], expected)


def test_the_short_side_is_scaled_and_the_centre_is_cut():
    tall = Image.new("RGB", (10, 40))
    for row in range(40):
        for column in range(10):
            tall.putpixel((column, row), (row, column, 0))
    prepare = Preprocessing((10, 10), 10, (0, 0, 0), (1, 1, 1), "nearest")
    array = np.rint(prepare(tall) * 255)
    np.testing.assert_array_equal(array[0, :, 0], np.arange(15, 25))
    np.testing.assert_array_equal(array[1, 0], np.arange(10))


def test_without_resize_the_picture_is_squeezed():
    assert Preprocessing((8, 5))(picture(31, 17)).shape == (3, 8, 5)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_colour_mode_becomes_three_channels(mode):
    assert PLAIN(picture().convert(mode)).shape == (3, 4, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (0, 4)}, "size="),
        ({"size": (4,)}, "size="),
        ({"resize": 5}, "resize=5"),
        ({"std": (1, 0, 1)}, "std is positive"),
        ({"mean": (1, 0)}, "three numbers"),
        ({"interpolation": "magic"}, "choose one of"),
    ],
)
def test_impossible_preprocessing_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Preprocessing(**{"size": (4, 6), **changes})


def test_preprocessing_survives_json():
    import json

    before = Preprocessing((4, 6), 8, (1, 2, 3), (4, 5, 6), "lanczos")
    assert Preprocessing.from_dict(json.loads(json.dumps(before.to_dict()))) == before


@pytest.mark.parametrize("data", [{}, {"size": [1, 1], "colour": 1}])
def test_a_foreign_preprocessing_is_refused(data):
    with pytest.raises(ConfigError, match="not a preprocessing"):
        Preprocessing.from_dict(data)


def test_a_folder_is_read_in_order_and_again(tmp_path):
    folder = folder_of(tmp_path, "b.png", "a/z.PNG", "c.jpeg", "d.png", "a/y.bmp")
    (tmp_path / "notes.txt").write_text("no picture")
    images = ImageFolder(folder, PLAIN, batch=2)
    assert [file.name for file in images.files()] == ["y.bmp", "z.PNG", "b.png", "c.jpeg", "d.png"]
    assert len(images) == 5
    batches = list(images)
    assert [len(batch) for batch in batches] == [2, 2, 1]
    np.testing.assert_array_equal(batches[0][1], PLAIN(picture(seed=1)))
    np.testing.assert_array_equal(np.concatenate(batches), np.concatenate(list(images)))


def test_a_limit_takes_the_first(tmp_path):
    folder = folder_of(tmp_path, "a.png", "b.png", "c.png")
    assert [f.name for f in ImageFolder(folder, PLAIN, limit=2).files()] == ["a.png", "b.png"]


def test_folders_without_images_are_named(tmp_path):
    with pytest.raises(CalibrationError, match="holds no images"):
        ImageFolder(tmp_path, PLAIN)
    with pytest.raises(CalibrationError, match="is not a folder"):
        ImageFolder(tmp_path / "absent", PLAIN)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(20)])
def test_files_that_are_no_picture_are_named(tmp_path, content):
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(CalibrationError, match=r"broken\.png is not a readable image"):
        list(ImageFolder(tmp_path, PLAIN))


def test_a_truncated_picture_is_named(tmp_path):
    picture(200, 200).save(tmp_path / "cut.jpg")
    data = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(CalibrationError, match=r"cut\.jpg"):
        read_image(tmp_path / "cut.jpg", PLAIN)


def test_labels_come_from_the_table(tmp_path):
    folder = folder_of(tmp_path, "a.png", "b.png")
    (folder / "labels.csv").write_text("file,label\nb.png,7\na.png,3\n")
    assert read_labels(folder, ImageFolder(folder, PLAIN).files()).tolist() == [3, 7]


def test_a_table_that_lacks_an_image_is_named(tmp_path):
    folder = folder_of(tmp_path, "a.png", "b.png")
    (folder / "labels.csv").write_text("file,label\nb.png,7\na.png,cat\n")
    with pytest.raises(InputError, match=r"lacks 1 of the images, such as 'a\.png'"):
        read_labels(folder, ImageFolder(folder, PLAIN).files())


def test_labels_come_from_subfolders(tmp_path):
    folder = folder_of(tmp_path, "dog/1.png", "cat/2.png", "dog/deep/3.png")
    assert read_labels(folder, ImageFolder(folder, PLAIN).files()).tolist() == [0, 1, 1]


def test_a_folder_without_labels_is_named(tmp_path):
    folder = folder_of(tmp_path, "a.png", "dog/b.png")
    with pytest.raises(InputError, match="neither"):
        read_labels(folder, ImageFolder(folder, PLAIN).files())


def test_pictures_in_an_array_are_prepared(tmp_path):
    pictures = np.stack([np.asarray(picture(seed=s)) for s in range(3)])
    np.savez(tmp_path / "d.npz", images=pictures, labels=np.arange(3))
    images = open_images(f"{tmp_path}/d.npz:images", PLAIN, limit=2)
    assert isinstance(images, ImageArray)
    np.testing.assert_array_equal(
        np.concatenate(list(images)), [PLAIN(picture(seed=s)) for s in range(2)]
    )


def test_grey_pictures_in_an_array_get_three_channels(tmp_path):
    np.save(tmp_path / "grey.npy", np.zeros((2, 4, 6), np.uint8))
    (batch,) = open_images(str(tmp_path / "grey.npy"), PLAIN)
    assert batch.shape == (2, 3, 4, 6)


def test_ready_inputs_are_taken_as_they_are(tmp_path):
    inputs = np.random.default_rng(0).normal(size=(19, 5)).astype("float32")
    np.save(tmp_path / "x.npy", inputs)
    ready = open_images(str(tmp_path / "x.npy"), PLAIN)
    assert isinstance(ready, ReadyArray)
    assert [len(batch) for batch in ready] == [16, 3]
    np.testing.assert_array_equal(np.concatenate(list(ready)), inputs)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3)), "float64"),
        (np.zeros((2, 3), np.uint8), "uint8"),
        (np.zeros(3, np.float32), "axis 0 counts images"),
        (np.zeros((0, 4, 6, 3), np.uint8), "axis 0 counts images"),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(InputError, match=message):
        open_images(str(tmp_path / "x.npy"), PLAIN)


def test_missing_and_ambiguous_arrays_are_named(tmp_path):
    np.savez(tmp_path / "d.npz", a=np.zeros(1), b=np.zeros(1))
    for source in (f"{tmp_path}/d.npz", f"{tmp_path}/d.npz:c"):
        with pytest.raises(InputError, match=r"\['a', 'b'\].*d\.npz:NAME"):
            read_array(source)
    with pytest.raises(InputError, match="does not exist"):
        read_array(str(tmp_path / "absent.npy"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"text"])
def test_files_that_are_no_arrays_are_named(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.npz is neither"):
        read_array(str(tmp_path / "x.npz"))


def test_pickles_are_never_loaded(tmp_path):
    np.save(tmp_path / "p.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"p\.npy is neither"):
        read_array(str(tmp_path / "p.npy"))
