"""Options that several commands share, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from hyq_tvm import documents
from hyq_tvm.errors import ConfigError
from hyq_tvm.images import Preprocessing
from hyq_tvm.quantization.config import (
    BITS,
    OBSERVERS,
    SCALINGS,
    SOFTMAX_KINDS,
    WIDTHS,
    QuantConfig,
)

F = TypeVar("F", bound=Callable[..., Any])

MODEL_HELP = """\b
MODEL is one of
  model.pt2      a PyTorch program saved with torch.export.save
  model.onnx     an ONNX model
  timm:NAME      a model of the timm library, with --checkpoint for its weights
"""

IMAGES_HELP = "a folder of pictures, file.npy, or file.npz:NAME (uint8 pictures or float32 inputs)"


def model_options(command: F) -> F:
    """How to read MODEL."""
    options = (
        click.argument("model"),
        click.option(
            "--checkpoint",
            type=click.Path(path_type=Path),
            help="Weights of a timm model: .npz, .safetensors, .pt or .pth.",
        ),
        click.option(
            "--input-shape",
            "input_shapes",
            multiple=True,
            metavar="[NAME=]N,C,H,W",
            help="Shape of an input that the model leaves open, such as 1,3,224,224. "
            "The first number is the batch that kernels are made for.",
        ),
    )
    return _all(command, options)


def preprocessing_options(command: F) -> F:
    """How pictures become inputs."""
    options = (
        click.option(
            "--resize",
            type=int,
            help="Scale the short side to this many pixels, then cut the centre; 0 squeezes the "
            "picture to the input's size.  [default: the model's own, else 0]",
        ),
        click.option("--mean", metavar="R,G,B", help="Subtracted from values in [0, 1]."),
        click.option("--std", metavar="R,G,B", help="Divides them then; default: ImageNet's both."),
        click.option("--interpolation", help="nearest, bilinear, bicubic or lanczos."),
    )
    return _all(command, options)


def calibration_options(command: F) -> F:
    """Images and choices of a quantization."""
    options = (
        click.option("--calibration", metavar="IMAGES", help=f"Without labels: {IMAGES_HELP}."),
        click.option(
            "--images", "limit", type=click.IntRange(1), help="Use only the first so many."
        ),
        click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            help="JSON with fields of QuantConfig, overrides included; options here win over it.",
        ),
        click.option(
            "--scaling",
            type=click.Choice(["none", *filter(None, SCALINGS)]),
            help="Per-channel distribution scaling.  [default: qads]",
        ),
        click.option(
            "--softmax",
            type=click.Choice(SOFTMAX_KINDS),
            help="Integer exponential of attention.  [default: linear_pot]",
        ),
        click.option(
            "--activation-bits",
            type=click.Choice([str(bits) for bits in BITS]),
            help="Width of activations.  [default: 8]",
        ),
        click.option(
            "--weight-bits",
            type=click.Choice([str(bits) for bits in BITS]),
            help="Width of weights.  [default: 8]",
        ),
        click.option(
            "--widths",
            type=click.Choice(WIDTHS),
            help="Of all other tensors: 8 bits and more, or --activation-bits.  [default: auto]",
        ),
        click.option(
            "--observer",
            type=click.Choice(OBSERVERS),
            help="How value ranges are chosen.  [default: auto, by output error]",
        ),
    )
    return _all(command, options)


def quant_config(values: Mapping[str, Any]) -> QuantConfig:
    """The configuration that the options of ``calibration_options`` describe."""
    config = _config_of_file(values["config_file"])
    changes: dict[str, Any] = {}
    if values["scaling"] is not None:
        changes["scaling"] = None if values["scaling"] == "none" else values["scaling"]
    for name in ("softmax", "observer", "widths"):
        if values[name] is not None:
            changes[name] = values[name]
    for name in ("activation_bits", "weight_bits"):
        if values[name] is not None:
            changes[name] = int(values[name])
    return replace(config, **changes)


def preprocessing(
    values: Mapping[str, Any], size: tuple[int, int], known: Preprocessing | None
) -> Preprocessing:
    """How pictures become inputs of ``size``: the options, else what is ``known`` of the model."""
    base = known or Preprocessing(size=size)
    changes: dict[str, Any] = {"size": size}
    for name in ("resize", "interpolation"):
        if values[name] is not None:
            changes[name] = values[name]
    for name in ("mean", "std"):
        if values[name] is not None:
            changes[name] = _three_numbers(name, values[name])
    return replace(base, **changes)


def parse_target(text: str) -> str | dict[str, Any]:
    """``llvm`` or JSON such as ``{"kind": "llvm", "mcpu": "znver4"}``."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        options = documents.parse(text)
    except ValueError as error:
        raise ConfigError(f"--target {text!r} is not JSON: {error}") from error
    return dict(options)


def parse_shapes(texts: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """``("x=1,3,48,320",)`` -> ``{"x": (1, 3, 48, 320)}``; a shape without a name is ``""``."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, numbers = text.rpartition("=")
        parts = numbers.split(",")
        if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
            raise ConfigError(f"--input-shape {text!r}: write positive numbers, as in 1,3,224,224")
        shapes[name] = tuple(int(part) for part in parts)
    return shapes


def _config_of_file(file: Path | None) -> QuantConfig:
    if file is None:
        return QuantConfig()
    try:
        data = documents.parse(documents.read_text(file))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--config {file} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"--config {file} is no JSON object")
    try:
        return QuantConfig.from_dict(data)
    except (TypeError, AttributeError, ConfigError) as error:
        raise ConfigError(f"--config {file}: {error}") from error


def _three_numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--{name} {text!r}: write numbers, as in 0.5,0.5,0.5") from error
    if len(numbers) not in (1, 3):
        raise ConfigError(f"--{name} {text!r}: write one number or three, as in 0.5,0.5,0.5")
    return numbers * (3 // len(numbers))


def _all(command: F, options: tuple[Callable[[F], F], ...]) -> F:
    for option in reversed(options):
        command = option(command)
    return command
