"""Named timm models: weights from files, preprocessing, refusals."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.frontend.models import named_model

pytest.importorskip("safetensors", reason="timm is not installed")
NAME = "mobilevit_xxs"


@pytest.fixture(scope="module")
def built():
    pytest.importorskip("huggingface_hub", reason="timm is not installed")
    return named_model(NAME, image_size=64)


def test_the_model_is_ready_and_knows_its_preprocessing(built):
    model, preprocessing = built
    assert not model.training
    assert preprocessing.size == (64, 64)
    assert (preprocessing.mean, preprocessing.std) == ((0.0,) * 3, (1.0,) * 3)
    assert preprocessing.interpolation == "bicubic"
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors"])
def test_checkpoints_are_read_and_say_how_many_classes(built, tmp_path, suffix):
    state = {k: v.clone() for k, v in built[0].state_dict().items()}
    state["head.fc.weight"], state["head.fc.bias"] = torch.randn(7, 320), torch.randn(7)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".npz":
        np.savez(path, **{k: v.numpy() for k, v in state.items()})
    elif suffix == ".pt":
        torch.save({"state_dict": state}, path)
    else:
        from safetensors.torch import save_file

        save_file(state, path)
    model, _ = named_model(NAME, path)
    assert torch.equal(model.state_dict()["head.fc.weight"], state["head.fc.weight"])


def test_a_size_is_given_to_models_that_need_one():
    model, preprocessing = named_model("deit_tiny_patch16_224", image_size=96)
    assert preprocessing.size == (96, 96)
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 96, 96)).shape == (1, 1000)


def test_refusals(tmp_path, built):
    with pytest.raises(UnsupportedModelError, match="no model 'mobilevit_xx'; similar: mobilevit"):
        named_model("mobilevit_xx")
    with pytest.raises(UnsupportedModelError, match="no such checkpoint"):
        named_model(NAME, tmp_path / "absent.pt")
    path = tmp_path / "text.pt"
    path.write_text("not weights")
    with pytest.raises(UnsupportedModelError, match="not a readable checkpoint"):
        named_model(NAME, path)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UnsupportedModelError, match="holds no state dictionary"):
        named_model(NAME, tmp_path / "list.pt")
    state = dict(built[0].state_dict())
    del state["stem.conv.weight"]
    torch.save(state, tmp_path / "part.pt")
    with pytest.raises(UnsupportedModelError, match=r"missing \['stem\.conv\.weight'\]"):
        named_model(NAME, tmp_path / "part.pt")
    state["stem.conv.weight"] = torch.zeros(2, 2)
    torch.save(state, tmp_path / "shape.pt")
    with pytest.raises(UnsupportedModelError, match=r"does not fit[\s\S]*stem\.conv\.weight"):
        named_model(NAME, tmp_path / "shape.pt")


def test_without_timm_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UnsupportedModelError, match=r"hyq-tvm\[models\]"):
        named_model(NAME)
