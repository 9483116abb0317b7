"""The MODEL argument: files of PyTorch and ONNX, and timm's models by name."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyq_tvm import frontend
from hyq_tvm.errors import ConfigError, UnsupportedModelError
from hyq_tvm.images import Preprocessing
from hyq_tvm.module_facts import input_specs

NAMED = "timm:"
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A float Relax module, and the preprocessing that it is known to want."""

    module: Any
    preprocessing: Preprocessing | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures that the model reads, (1, 1) where it reads none."""
        shape = input_specs(self.module)[0].shape
        return (shape[2], shape[3]) if len(shape) == 4 else (1, 1)


def load_model(model: str, checkpoint: Path | None, shapes: Shapes) -> LoadedModel:
    """Import MODEL.

    shapes: by input name; ``""`` stands for the only input. Raises ``UnsupportedModelError`` or
    ``ConfigError`` naming the file, the format or the option that does not fit.
    """
    if model.startswith(NAMED):
        return _named(model.removeprefix(NAMED), checkpoint, shapes)
    if checkpoint is not None:
        raise ConfigError(f"--checkpoint is for {NAMED}NAME; {model} holds its weights itself")
    file = Path(model)
    readers = {".pt2": _exported, ".onnx": _onnx}
    if file.suffix not in readers:
        raise UnsupportedModelError(
            f"{model}: give a file ending in {' or '.join(readers)}, or {NAMED}NAME"
        )
    if not file.is_file():
        raise UnsupportedModelError(f"{model} does not exist")
    return readers[file.suffix](file, shapes)


def _exported(file: Path, shapes: Shapes) -> LoadedModel:
    if shapes:
        raise ConfigError(f"--input-shape: {file} has fixed shapes, export it with other ones")
    if not zipfile.is_zipfile(file):
        raise UnsupportedModelError(
            f"{file} is no exported PyTorch program: save one with torch.export.save"
        )
    import torch

    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.CRITICAL)  # torch logs a traceback of what the exception says as well
    try:
        program = torch.export.load(file)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnsupportedModelError(f"{file} is no exported PyTorch program: {reason}") from error
    finally:
        log.setLevel(level)
    return LoadedModel(frontend.from_torch(program))


def _onnx(file: Path, shapes: Shapes) -> LoadedModel:
    if "" in shapes:
        raise ConfigError("--input-shape: write NAME=N,C,H,W for an ONNX model")
    return LoadedModel(frontend.from_onnx(os.fspath(file), input_shapes=dict(shapes)))


def _named(name: str, checkpoint: Path | None, shapes: Shapes) -> LoadedModel:
    """A timm model, traced with ``--input-shape`` or one picture of timm's own size."""
    import torch

    shape = shapes.get("")
    if set(shapes) - {""} or (shape and (len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3])):
        raise ConfigError(f"--input-shape: {NAMED}{name} reads square pictures, write N,3,S,S")
    module, prepare = frontend.named_model(name, checkpoint, shape[2] if shape else None)
    example = torch.zeros(shape or (1, 3, *prepare.size))
    return LoadedModel(frontend.from_torch(module, (example,)), prepare)
