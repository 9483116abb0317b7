"""What a random model is made of, as plain data that a file can hold and a person can cut down.

A step's own random choices (sizes, strides, weights) come from its own seed and fit themselves to
the tensor it finds, so that any step can be taken out and the rest still is a model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

VERSION = 1
LENGTHS = (1, 2, 3, 5, 7, 8, 11, 13)
CHANNELS = (1, 2, 3, 5, 7, 8, 12, 16, 17, 23)
BATCHES = (1, 1, 1, 2, 3, 4, 5, 7, 8)
KINDS = {
    "conv": 6, "depthwise": 4, "grouped": 2, "activation": 4, "batch_norm": 2, "group_norm": 3,
    "pool": 2, "squeeze": 2, "residual": 4, "concat": 3, "multiply": 1, "upsample": 1, "pad": 1,
    "shuffle": 1, "linear": 3, "perceptron": 3, "layer_norm": 3, "attention": 6, "class_token": 1,
    "separable_attention": 1, "windows": 1, "softmax": 1, "slice": 1, "mean": 1,
}  # fmt: skip
HEADS = ("as_is", "mean", "mean_linear", "flat_linear", "two")
CHOICES: Mapping[str, tuple[Any, ...]] = {
    "scaling": ("qads", "qads", "smoothquant", "qads_paper", None),
    "softmax": ("linear_pot", "linear_pot", "linear_pot", "linear", "table", "poly2", "hyq"),
    "activation_bits": (8, 8, 8, 8, 6, 4),
    "weight_bits": (8, 8, 8, 8, 6, 4),
    "widths": ("auto", "auto", "auto", "uniform"),
    "observer": ("auto", "auto", "minmax", "percentile", "mse"),
    "residual_bits": ("auto", "auto", 8, 16),
    "softmax_weight_bits": ("auto", "auto", 8, 16),
    "table_bits": ("auto", "auto", 8, 12),
}


@dataclass(frozen=True)
class Step:
    """One block. source, other: numbers of earlier steps whose tensors it reads, 0 is the input.

    Where that step is gone, the nearest one before it stands in.
    """

    number: int
    kind: str
    source: int
    other: int
    seed: int


@dataclass(frozen=True)
class Recipe:
    """A random model, its configuration and its data. config: fields of ``QuantConfig``."""

    seed: int
    batch: int
    channels: int
    height: int
    width: int
    head: str
    steps: tuple[Step, ...]
    config: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Readable JSON; ``from_json`` gives the same recipe."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The inverse; raises ``ValueError`` on another version."""
        data = json.loads(text)
        if data.pop("version") != VERSION:
            raise ValueError(f"a recipe of version {VERSION} is wanted")
        return cls(**{**data, "steps": tuple(Step(**step) for step in data["steps"])})

    def save(self, path: Path) -> None:
        """Write a reproducer."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_json(), encoding="utf-8")


def random_recipe(seed: int) -> Recipe:
    """The recipe of a seed: 1 to 6 steps, small and odd sizes, any configuration."""
    rng = np.random.default_rng(seed)
    names, weights = zip(*KINDS.items(), strict=True)
    odds = np.array(weights) / sum(weights)
    steps = []
    for number in range(1, int(rng.integers(2, 8))):
        recent = number - 1 if rng.random() < 0.8 else int(rng.integers(0, number))
        kind, other = str(rng.choice(names, p=odds)), int(rng.integers(0, number))
        steps.append(Step(number, kind, recent, other, int(rng.integers(1 << 31))))
    config = {name: _pick(rng, values) for name, values in CHOICES.items()}
    plain = rng.random() < 0.4
    return Recipe(
        seed=seed,
        batch=_pick(rng, BATCHES),
        channels=_pick(rng, CHANNELS[:8]),
        height=_pick(rng, LENGTHS),
        width=_pick(rng, LENGTHS),
        head=_pick(rng, HEADS),
        steps=tuple(steps),
        config={**({} if plain else config), "samples": 128},
    )


def _pick(rng: np.random.Generator, values: tuple[Any, ...]) -> Any:
    return values[int(rng.integers(len(values)))]
