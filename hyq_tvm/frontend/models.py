"""Models by their timm names, with weights from the user's own files; nothing is downloaded."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.images import Preprocessing

_REMEDY = "install it with: pip install 'hyq-tvm[models]'"
_SCHEMAS: list[Any] = []
"""Keeps the operator schemas below registered."""


def named_model(
    name: str, checkpoint: str | Path | None = None, image_size: int | None = None
) -> tuple[torch.nn.Module, Preprocessing]:
    """A timm model in evaluation mode and the preprocessing it was trained with.

    checkpoint: a local state dictionary (``.npz``, ``.safetensors`` or anything ``torch.load``
        takes with ``weights_only``); without one the weights are random. Its last layer says how
        many classes there are.
    image_size: height and width in pixels, where they should not be timm's own.

    Raises ``UnsupportedModelError`` when timm is missing, when it does not know the name or the
    size, and when the checkpoint cannot be read or does not fit, naming the tensors.
    """
    timm = _timm()
    if not timm.is_model(name):
        close = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:8])
        raise UnsupportedModelError(f"timm has no model {name!r}; similar: {close or 'none'}")
    state = None if checkpoint is None else _state(Path(checkpoint))
    model = _created(timm, name, state, image_size).eval()
    if state is not None:
        _load(model, state, Path(str(checkpoint)))
    return model, _preprocessing(timm, model, image_size)


def _timm() -> Any:
    """timm; with a torchvision whose compiled operators do not load, their schemas suffice."""
    try:
        import torchvision  # noqa: F401
    except ImportError as error:
        raise UnsupportedModelError(f"timm needs torchvision ({error}); {_REMEDY}") from error
    except (RuntimeError, OSError):
        _declare_torchvision_operators()
    try:
        import timm
    except ImportError as error:
        raise UnsupportedModelError(f"timm cannot be imported ({error}); {_REMEDY}") from error
    return timm


def _declare_torchvision_operators() -> None:
    for module in [m for m in sys.modules if m.split(".")[0] in ("torchvision", "timm")]:
        del sys.modules[module]
    if _SCHEMAS:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _SCHEMAS.append(library)


def _created(timm: Any, name: str, state: Any, image_size: int | None) -> torch.nn.Module:
    options: dict[str, Any] = {} if state is None else _classes(state)
    if image_size is None:
        return _model(timm, name, options)
    try:
        return _model(timm, name, {**options, "img_size": image_size})
    except TypeError:
        return _model(timm, name, options)  # convolutional stems take any size


def _model(timm: Any, name: str, options: dict[str, Any]) -> torch.nn.Module:
    try:
        model: torch.nn.Module = timm.create_model(name, pretrained=False, **options)
    except (AssertionError, ValueError, RuntimeError) as error:
        raise UnsupportedModelError(f"timm cannot build {name} with {options}: {error}") from error
    return model


def _classes(state: dict[str, torch.Tensor]) -> dict[str, int]:
    """The number of classes, from the bias or weight of the checkpoint's last layer."""
    heads = [t for key, t in state.items() if key.split(".")[0] in ("head", "fc", "classifier")]
    return {"num_classes": int(heads[-1].shape[0])} if heads and heads[-1].ndim else {}


def _state(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise UnsupportedModelError(f"{path}: no such checkpoint file")
    try:
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UnsupportedModelError(f"{path}: not a readable checkpoint ({error})") from error
    for key in ("state_dict", "model", "model_ema"):
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict):
        raise UnsupportedModelError(f"{path}: holds no state dictionary")
    return state


def _load(model: torch.nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UnsupportedModelError(f"{path} does not fit the model: {error}") from error
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise UnsupportedModelError(
            f"{path} does not fit the model: missing {missing[:5]}, unexpected {unexpected[:5]}"
        )


def _preprocessing(timm: Any, model: Any, image_size: int | None) -> Preprocessing:
    data = timm.data.resolve_model_data_config(model)
    height, width = (image_size, image_size) if image_size else data["input_size"][1:]
    squeezed = data.get("crop_mode", "center") == "squash"
    short = math.floor(max(height, width) / data["crop_pct"])
    return Preprocessing(
        size=(height, width),
        resize=0 if squeezed else short,
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        interpolation=data["interpolation"],
    )
