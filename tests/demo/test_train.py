"""The script that makes the weights and images."""

import numpy as np
import pytest
import torch

from hyq_tvm.demo import data, train
from hyq_tvm.demo.model import DigitsHybrid

pytest.importorskip("sklearn", reason="only the training script reads scikit-learn's digits")


def test_the_embedded_images_are_what_the_script_makes():
    splits = train.make_splits(*train.load_digits())
    for name in ("calib", "test"):
        images, labels = splits[name]
        stored = data.load_split(name)
        np.testing.assert_array_equal(labels.numpy(), stored.labels)
        # Resampling may differ by a grey level between processors.
        difference = train.to_bytes(images).astype(int) - stored.images
        assert np.mean(np.abs(difference) > 1) < 0.001


def test_corruption_is_bounded_and_repeatable():
    images = torch.rand((8, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    first, second = (
        train.corrupt(images, train.HARD, torch.Generator().manual_seed(1)) for _ in range(2)
    )
    np.testing.assert_array_equal(first.numpy(), second.numpy())
    assert first.shape == images.shape
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1
    assert not torch.equal(first, images)


def test_no_corruption_is_the_identity():
    images = torch.rand((4, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    nothing = train.Corruption(angle=0, shift=0, zoom=0, cover=0, noise=0, fade=0)
    result = train.corrupt(images, nothing, torch.Generator().manual_seed(1))
    np.testing.assert_allclose(result.numpy(), images.numpy(), atol=1e-5)


def test_posterized_images_have_few_levels_and_survive_bytes():
    images = train.posterize(torch.rand((2, 1, 32, 32), generator=torch.Generator().manual_seed(0)))
    assert len(images.unique()) == train.GREY_LEVELS
    again = torch.from_numpy(data.to_input(train.to_bytes(images)))
    np.testing.assert_allclose(again.numpy(), images.numpy(), atol=1e-7)


def test_saved_files_load(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = DigitsHybrid()
    images = torch.zeros((3, 1, 32, 32))
    train.save(tmp_path, model, {"test": (images, torch.tensor([1, 2, 3]))})
    monkeypatch.setattr(data, "DATA_FILE", tmp_path / "digits_data.npz")
    monkeypatch.setattr(data, "WEIGHTS_FILE", tmp_path / "digits_hybrid.npz")
    np.testing.assert_array_equal(data.load_split("test").labels, [1, 2, 3])
    weights = data.load_weights()
    np.testing.assert_array_equal(
        weights["stem.0.weight"], model.stem[0].weight.detach().half().float().numpy()
    )
