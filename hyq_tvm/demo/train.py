"""Makes the demonstration's weights and images: ``python -m hyq_tvm.demo.train``.

Needs torch and scikit-learn (for its copy of the digits); a few minutes on two cores. The seeds
are fixed, so the same versions on the same processor give the same files.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hyq_tvm.demo.data import DATA_FILE, SIZE, WEIGHTS_FILE
from hyq_tvm.demo.model import DigitsHybrid

SEED = 20250715
TEST_IMAGES = 597
CALIBRATION_IMAGES = 128
HARD_COPIES = 2
GREY_LEVELS = 8
"""Grey levels of the corrupted images: few, because noise does not compress."""


@dataclass(frozen=True)
class Corruption:
    """Upper limits of random changes: angle in degrees, shift in pixels, the side of a covering
    square in pixels, and the standard deviation of the noise on images in [0, 1].
    """

    angle: float
    shift: float
    zoom: float
    cover: int
    noise: float
    fade: float


TRAINING = Corruption(angle=15, shift=3, zoom=0.12, cover=12, noise=0.25, fade=0.5)
HARD = Corruption(angle=25, shift=3.5, zoom=0.15, cover=16, noise=0.4, fade=0.7)


def corrupt(images: Tensor, limits: Corruption, random: torch.Generator) -> Tensor:
    """Images [N,1,32,32] in [0, 1] turned, shifted, faded, covered and noisy, in [0, 1] again."""
    count = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=random) * (high - low) + low

    angle = uniform(-limits.angle, limits.angle) * (math.pi / 180)
    zoom = uniform(1 - limits.zoom, 1 + limits.zoom)
    shift_x, shift_y = (uniform(-limits.shift, limits.shift) * (2 / SIZE) for _ in range(2))
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    rows = torch.stack((cos, -sin, shift_x, sin, cos, shift_y), dim=1).reshape(count, 2, 3)
    grid = nn.functional.affine_grid(rows, list(images.shape), align_corners=False)
    images = nn.functional.grid_sample(images, grid, align_corners=False)
    images = images * uniform(1 - limits.fade, 1)[:, None, None, None]
    images = torch.where(
        _cover(count, limits.cover, random), uniform(0, 0.6)[:, None, None, None], images
    )
    sigma = uniform(0, limits.noise)[:, None, None, None]
    return (images + sigma * torch.randn(images.shape, generator=random)).clamp(0, 1)


def _cover(count: int, side: int, random: torch.Generator) -> Tensor:
    """One square an image, [N,1,32,32] bool; a third of the images has none."""
    sides = torch.randint(side // 3, side + 1, (count, 1, 1, 1), generator=random)
    sides = sides * (torch.rand((count, 1, 1, 1), generator=random) > 1 / 3)
    top, left = (torch.randint(0, SIZE, (count, 1, 1, 1), generator=random) for _ in range(2))
    y, x = torch.arange(SIZE).reshape(1, 1, -1, 1), torch.arange(SIZE).reshape(1, 1, 1, -1)
    inside: Tensor = (y >= top) & (y < top + sides) & (x >= left) & (x < left + sides)
    return inside


def posterize(images: Tensor) -> Tensor:
    """Images in [0, 1] on ``GREY_LEVELS`` levels, each a multiple of 1/255."""
    levels = (images * (GREY_LEVELS - 1)).round() / (GREY_LEVELS - 1)
    return (levels * 255).round() / 255


def load_digits() -> tuple[Tensor, Tensor]:
    """The 1,797 digits, float32 [N,1,32,32] in [0, 1], shuffled by the seed, and their classes."""
    from sklearn.datasets import load_digits as read

    digits = read()
    order = np.random.RandomState(SEED).permutation(len(digits.target))
    small = torch.from_numpy(digits.images[order] / 16).float()[:, None]
    large = nn.functional.interpolate(small, (SIZE, SIZE), mode="bilinear", align_corners=False)
    return (large * 255).round() / 255, torch.from_numpy(digits.target[order]).long()


def train(images: Tensor, labels: Tensor, epochs: int, batch: int = 64) -> DigitsHybrid:
    """AdamW, one cycle of learning rates; returns the averaged weights, rounded to float16."""
    torch.manual_seed(SEED)
    random = torch.Generator().manual_seed(SEED)
    model = DigitsHybrid()
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99), use_buffers=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.05)
    steps = len(images) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, epochs * steps, pct_start=0.15)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(epochs):
        start, total = time.perf_counter(), 0.0
        order = torch.randperm(len(images), generator=random)
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            loss = loss_of(model(corrupt(images[chosen], TRAINING, random)), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
            total += loss.item()
        seconds = time.perf_counter() - start
        print(
            f"epoch {epoch + 1:3d}/{epochs}: loss {total / steps:.4f}, {seconds:.1f} s", flush=True
        )
    model.load_state_dict({k: v.half().float() for k, v in average.module.state_dict().items()})
    model.eval()
    return model


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images whose highest logit is their class."""
    return float((model(images).argmax(1) == labels).float().mean())


def to_bytes(images: Tensor) -> NDArray[np.uint8]:
    """Images [N,1,H,W] in [0, 1] as uint8 [N,H,W]."""
    array: NDArray[np.uint8] = (images[:, 0] * 255).round().to(torch.uint8).numpy()
    return array


def make_splits(images: Tensor, labels: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Calibration, clean and hard test images with their classes, by name of the split.

    Calibration takes unseen variants of training images, every second one as it is.
    """
    test, test_labels = images[:TEST_IMAGES], labels[:TEST_IMAGES]
    chosen = images[TEST_IMAGES:][:CALIBRATION_IMAGES]
    random = torch.Generator().manual_seed(SEED + 1)
    hard = posterize(corrupt(test.repeat(HARD_COPIES, 1, 1, 1), HARD, random))
    calibration = posterize(corrupt(chosen, TRAINING, random))
    calibration[::2] = chosen[::2]
    return {
        "calib": (calibration, labels[TEST_IMAGES:][:CALIBRATION_IMAGES]),
        "test": (test, test_labels),
        "hard": (hard, test_labels.repeat(HARD_COPIES)),
    }


def save(folder: Path, model: DigitsHybrid, splits: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Write both files: images as uint8, weights as float16."""
    arrays: dict[str, Any] = {}
    for name, (images, labels) in splits.items():
        arrays[f"{name}_images"] = to_bytes(images)
        arrays[f"{name}_labels"] = labels.numpy().astype(np.uint8)
    np.savez_compressed(folder / DATA_FILE.name, **arrays)
    weights: dict[str, Any] = {
        name: value.numpy().astype(np.float16)
        for name, value in model.state_dict().items()
        if value.ndim
    }
    np.savez_compressed(folder / WEIGHTS_FILE.name, **weights)


def main() -> None:
    """Train, measure on every split, write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--out", type=Path, default=DATA_FILE.parent, help="folder of the files")
    options = parser.parse_args()

    images, labels = load_digits()
    splits = make_splits(images, labels)
    model = train(images[TEST_IMAGES:], labels[TEST_IMAGES:], options.epochs)
    for name, (pixels, classes) in splits.items():
        print(f"{name}: {len(classes)} images, top-1 {accuracy(model, pixels, classes):.2%}")
    save(options.out, model, splits)
    print(f"wrote {DATA_FILE.name} and {WEIGHTS_FILE.name} to {options.out}")


if __name__ == "__main__":
    main()
