"""Whether a folder of ``gpu_artefacts`` is whole: all that the GPU suite does but launching."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hyq_tvm import cuda_device, gpu_timing
from hyq_tvm.errors import HyqError
from hyq_tvm.executable import load


def check(folder: Path) -> list[str]:
    """Everything but launching: what is missing or damaged in a folder, on any machine."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    wrong = [_problem(lambda e=e: _check_model(folder, e)) for e in index["models"]]
    places = [folder / e["folder"] for e in index["operators"]]
    peers = [*index["peers"], *(p for e in index["operators"] for p in e["peers"])]
    places += [folder / e["folder"] for e in peers if not e["error"]]
    wrong += [_problem(lambda p=place: _check_library(p)) for place in places]
    if "round" in index:
        wrong.append(_problem(lambda: gpu_timing.read_index(folder / index["round"])))
    missing = [n for n in index["runtime"] if not (folder / "runtime" / n).is_file()]
    wrong += [f"{folder / 'runtime' / name} is missing" for name in missing]
    return [text for text in wrong if text]


def _problem(look: Callable[[], object]) -> str:
    try:
        look()
    except (HyqError, OSError, ValueError) as error:
        return str(error)
    return ""


def _check_model(folder: Path, entry: Mapping[str, Any]) -> None:
    exe = load(folder / entry["folder"], run_code=False)
    answers = np.load(folder / f"{entry['folder']}.logits.npy")
    shapes = list(exe.input_spec[0].shape), tuple(exe.output_spec[0].shape)
    if shapes != (entry["shape"], answers.shape) or not np.isfinite(answers).all():
        raise ValueError(f"{folder / entry['folder']}: its answers are of another model")


def _check_library(place: Path) -> None:
    library = place / "lib.so"
    cubins = cuda_device.cubins_beside(library)
    files = [library, *cubins.values()]
    if not cubins or not all(f.read_bytes().startswith(b"\x7fELF") for f in files):
        raise ValueError(f"{place}: a library or its machine code is missing or damaged")
