"""The weights and images that the package carries."""

import numpy as np
import pytest
import torch

from hyq_tvm.demo import data
from hyq_tvm.demo.model import INPUT_SHAPE, DigitsHybrid, load_model
from hyq_tvm.errors import ArtifactError


@pytest.mark.parametrize(("name", "count"), [("calib", 128), ("test", 597), ("hard", 1194)])
def test_splits(name, count):
    split = data.load_split(name)
    assert split.images.shape == (count, 32, 32)
    assert split.images.dtype == split.labels.dtype == np.uint8
    assert len(split) == count
    assert set(split.labels) == set(range(10))


def test_calibration_shares_no_image_with_the_test():
    calib, test = data.load_split("calib"), data.load_split("test")
    tested = {image.tobytes() for image in test.images}
    assert not any(image.tobytes() in tested for image in calib.images)


def test_input_is_scaled_to_one():
    images = np.array([[[0, 255], [51, 102]]], dtype=np.uint8)
    x = data.to_input(images)
    assert x.dtype == np.float32
    assert x.shape == (1, 1, 2, 2)
    np.testing.assert_array_equal(x[0, 0], np.float32([[0, 1], [0.2, 0.4]]))


@pytest.mark.parametrize(("name", "least", "most"), [("test", 0.985, 1.0), ("hard", 0.85, 0.93)])
def test_float_accuracy(name, least, most):
    split = data.load_split(name)
    with torch.inference_mode():
        logits = load_model()(torch.from_numpy(data.to_input(split.images)))
    accuracy = float(np.mean(logits.argmax(1).numpy() == split.labels))
    assert least <= accuracy <= most


def test_model_fits_a_small_download():
    assert data.WEIGHTS_FILE.stat().st_size < 600_000
    assert data.DATA_FILE.stat().st_size < 800_000
    assert 60_000 < sum(p.numel() for p in DigitsHybrid().parameters()) < 150_000


def test_model_has_all_operator_classes():
    modules = {type(module).__name__ for module in load_model().modules()}
    assert {"Conv2d", "BatchNorm2d", "SiLU", "LayerNorm", "Linear"} <= modules
    assert any(m.groups > 1 for m in load_model().modules() if isinstance(m, torch.nn.Conv2d))
    assert load_model()(torch.zeros(INPUT_SHAPE)).shape == (1, 10)


def test_unknown_split_is_named():
    with pytest.raises(ArtifactError, match="no split 'train'"):
        data.load_split("train")


@pytest.mark.parametrize("content", [None, b"", b"not an archive", b"PK\x03\x04 truncated"])
def test_damaged_files_are_named(tmp_path, monkeypatch, content):
    path = tmp_path / "digits_hybrid.npz"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(data, "WEIGHTS_FILE", path)
    with pytest.raises(ArtifactError, match=r"digits_hybrid\.npz.*hyq_tvm\.demo\.train"):
        data.load_weights()


def test_weights_of_another_model_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "digits_hybrid.npz"
    np.savez(path, **{"stem.0.weight": np.zeros((16, 1, 3, 3), np.float16)})
    monkeypatch.setattr(data, "WEIGHTS_FILE", path)
    with pytest.raises(ArtifactError, match="another model"):
        load_model()
