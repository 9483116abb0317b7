"""Models whose latency is measured, and their compiled programs in a folder.

Weights are random, activations of BatchNorm models normalised by one batch of noise: latency does
not depend on either. Plans are cheap for the same reason: four noise images, min-max ranges, no
distribution scaling. ``digits`` has its trained weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import hyq_tvm
from benchmarks.real_models import import_timm
from hyq_tvm.demo.model import load_model as load_digits

SEED = 0
CALIBRATION = 4


@dataclass(frozen=True)
class LatencyModel:
    """A torch model in evaluation mode and the shape of one input sample."""

    name: str
    sample: tuple[int, ...]
    make: Callable[[], Any]

    def images(self, batch: int, seed: int = SEED) -> NDArray[np.float32]:
        """Noise [batch, *sample]."""
        noise = np.random.default_rng(seed).standard_normal((batch, *self.sample))
        return noise.astype(np.float32)

    def module(self) -> Any:
        """The model with its weights, the same ones every time."""
        torch.manual_seed(SEED)
        made = self.make().eval()
        _settle(made, torch.from_numpy(self.images(CALIBRATION)))
        return made


def _settle(module: Any, images: Any) -> None:
    """Statistics of every BatchNorm become those of ``images``, so that activations stay sane."""
    norms = [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        module(images)
    for norm in norms:
        norm.eval()


def _timm(name: str) -> Callable[[], Any]:
    return lambda: import_timm().create_model(name, pretrained=False)


MODELS = {
    model.name: model
    for model in (
        LatencyModel("mobilevit_s", (3, 256, 256), _timm("mobilevit_s")),
        LatencyModel("mobilevit_xxs", (3, 256, 256), _timm("mobilevit_xxs")),
        LatencyModel("vit_tiny", (3, 224, 224), _timm("vit_tiny_patch16_224")),
        LatencyModel("deit_tiny", (3, 224, 224), _timm("deit_tiny_patch16_224")),
        LatencyModel("digits", (1, 32, 32), load_digits),
    )
}


def imported(model: LatencyModel, batch: int) -> Any:
    """The float Relax module, traced with ``batch`` samples."""
    return hyq_tvm.from_torch(model.module(), (torch.from_numpy(model.images(batch)),))


def quantized(model: LatencyModel, batch: int) -> Any:
    """The integer module under the cheap plan described above."""
    config = hyq_tvm.QuantConfig(observer="minmax", scaling=None)

    def batches() -> Iterator[NDArray[np.float32]]:
        for seed in range(CALIBRATION):
            yield model.images(batch, seed)

    return hyq_tvm.quantize(imported(model, batch), batches(), config, progress=False)


def integer_program(model: LatencyModel, batch: int, cache: Path, fresh: bool = False) -> Any:
    """The compiled INT8 model, from the folder ``cache`` if it is there and not ``fresh``."""
    place = cache / f"{model.name}-int8-b{batch}"
    if fresh or not place.exists():
        cache.mkdir(parents=True, exist_ok=True)
        hyq_tvm.compile(quantized(model, batch)).save(place)
    return hyq_tvm.load(place)
