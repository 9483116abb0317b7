"""Trained models with their images: what accuracy is measured on.

``digits`` comes with the package. The others live in a folder ``shared`` beside the checkout;
without it they are skipped with a reason.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from hyq_tvm.demo import data as digits_data
from hyq_tvm.demo.model import load_model as load_digits

SHARED = Path(__file__).resolve().parents[2] / "shared"
CIFAR_SIZE = 64
CIFAR_MEAN, CIFAR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VIT_RESIZE, VIT_SIZE = 248, 224


class UnavailableError(Exception):
    """The model or its images are not on this machine; the message says what is missing."""


@dataclass(frozen=True, eq=False)
class RealModel:
    """A model in evaluation mode, float32 images [N,C,H,W] in batches, and classes [N].

    ``calibration`` and ``test`` make fresh iterators of arrays [n,C,H,W], so that no more than
    a batch of decoded images is in memory.
    """

    name: str
    module: Any
    labels: NDArray[np.int64]
    calibration: Callable[[], Iterator[NDArray[np.float32]]]
    test: Callable[[], Iterator[NDArray[np.float32]]]

    def example(self, batch: int = 1) -> Any:
        """A float32 tensor [batch,C,H,W] to trace the model with."""
        image = torch.from_numpy(next(self.calibration())[:1])
        return image.expand(batch, -1, -1, -1).contiguous()


def _batches(
    count: int, load: Callable[[slice], NDArray[np.float32]], size: int
) -> Callable[[], Iterator[NDArray[np.float32]]]:
    def batches() -> Iterator[NDArray[np.float32]]:
        for start in range(0, count, size):
            yield load(slice(start, start + size))

    return batches


def digits(split: str = "test") -> RealModel:
    """The demonstration's model on its clean or hard test images."""
    test, calibration = digits_data.load_split(split), digits_data.load_split("calib")
    return RealModel(
        name="digits" if split == "test" else f"digits_{split}",
        module=load_digits(),
        labels=test.labels.astype(np.int64),
        calibration=_batches(
            len(calibration), lambda s: digits_data.to_input(calibration.images[s]), 32
        ),
        test=_batches(len(test), lambda s: digits_data.to_input(test.images[s]), 64),
    )


def normalise(
    images: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]
) -> NDArray[np.float32]:
    """RGB uint8 [N,H,W,3] -> float32 [N,3,H,W], ``(x / 255 - mean) / std``."""
    scaled = images.astype(np.float32) / np.float32(255)
    centred = (scaled - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(centred.transpose(0, 3, 1, 2), dtype=np.float32)


def mobilevit_cifar() -> RealModel:
    """MobileViT-XXS trained on CIFAR-10, 64x64 input; 5,000 test images."""
    source = _need(SHARED / "models" / "mobilevit_cifar10.py")
    with np.load(_need(SHARED / "data" / "cifar10.npz")) as arrays:
        images = {name: arrays[name] for name in arrays.files}
    spec = importlib.util.spec_from_file_location("mobilevit_cifar10", source)
    if spec is None or spec.loader is None:
        raise UnavailableError(f"{source} is not a Python file")
    definition = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(definition)

    def enlarge(chosen: NDArray[np.uint8]) -> NDArray[np.float32]:
        size = (CIFAR_SIZE, CIFAR_SIZE)
        large = [
            np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
            for image in chosen
        ]
        return normalise(np.stack(large), CIFAR_MEAN, CIFAR_STD)

    return RealModel(
        name="mobilevit_cifar",
        module=definition.load(),
        labels=images["test_labels"],
        calibration=_batches(512, lambda s: enlarge(images["calib_images"][s]), 64),
        test=_batches(len(images["test_labels"]), lambda s: enlarge(images["test_images"][s]), 100),
    )


def vit_tiny() -> RealModel:
    """ViT-Tiny/16 of timm at 224 on 650 ImageNet validation images, calibrated on 125 others."""
    weights = _need(SHARED / "models" / "vit_tiny_imagenet.npz")
    folder = _need(SHARED / "data" / "imagenet_val")
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    calibration = sorted(_need(SHARED / "data" / "imagenet_calib").glob("*.jpg"))
    model = import_timm().create_model("vit_tiny_patch16_224", pretrained=False)
    with np.load(weights) as arrays:
        model.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays.files})
    return RealModel(
        name="vit_tiny",
        module=model.eval(),
        labels=np.array([int(row["label"]) for row in rows], dtype=np.int64),
        calibration=_batches(len(calibration), lambda s: vit_images(calibration[s]), 25),
        test=_batches(
            len(rows), lambda s: vit_images([folder / row["file"] for row in rows[s]]), 50
        ),
    )


def vit_images(files: list[Path]) -> NDArray[np.float32]:
    """JPEGs with the shorter side at 248 (bicubic), the middle 224x224, mean = std = 0.5."""
    images = []
    for path in files:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        ratio = VIT_RESIZE / min(image.size)
        width, height = (round(side * ratio) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - VIT_SIZE) // 2, (height - VIT_SIZE) // 2
        images.append(np.asarray(image.crop((left, top, left + VIT_SIZE, top + VIT_SIZE))))
    return normalise(np.stack(images), (0.5,) * 3, (0.5,) * 3)


def import_timm() -> Any:
    """timm, also beside a torchvision without compiled operators.

    torchvision's Python half refuses to import when ``nms`` and ``qnms`` are not registered;
    their schemas are all it asks for.
    """
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            library.define(f"{operator}(Tensor dets, Tensor scores, float threshold) -> Tensor")
    _KEEP.append(library)
    try:
        import timm
    except ImportError as error:
        raise UnavailableError(f"timm cannot be imported: {error}") from error
    return timm


_KEEP: list[Any] = []
"""Libraries whose schemas vanish when they are collected."""

MODELS: dict[str, Callable[[], RealModel]] = {
    "digits": digits,
    "digits_hard": lambda: digits("hard"),
    "mobilevit_cifar": mobilevit_cifar,
    "vit_tiny": vit_tiny,
}


def _need(path: Path) -> Path:
    if not path.exists():
        raise UnavailableError(f"{path} is missing")
    return path
