"""``hyq-tvm run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from hyq_tvm.arrays import read_array
from hyq_tvm.cli import options
from hyq_tvm.errors import ArtifactError, InputError
from hyq_tvm.executable import Executable, load
from hyq_tvm.images import Preprocessing, read_image


def known_preprocessing(executable: Executable) -> Preprocessing | None:
    """What the artefact says about pictures."""
    noted = executable.metadata.notes.get("preprocessing")
    return Preprocessing.from_dict(noted) if noted else None


def picture_size(executable: Executable) -> tuple[int, int]:
    """Height and width that the model reads; raises ``InputError`` when it reads no pictures."""
    shape = executable.input_spec[0].shape
    if len(shape) != 4 or len(executable.input_spec) != 1:
        raise InputError(f"the model reads arrays of shape {list(shape)}, not pictures: give .npy")
    return shape[2], shape[3]


@click.command("run")
@click.argument("executable", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, required=True)
@options.preprocessing_options
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Classes shown.")
@click.option("--integers", is_flag=True, help="Raw integers instead of float logits (.npy).")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write all outputs to this .npz: output0, output1, ...",
)
def run_command(
    executable: Path,
    inputs: tuple[str, ...],
    top: int,
    integers: bool,
    output: Path | None,
    **values: Any,
) -> None:
    """Run EXECUTABLE, a folder that hyq-tvm compile wrote, on INPUTS.

    \b
    INPUTS are pictures, or .npy / file.npz:NAME with float32 arrays in the model's shape:
      hyq-tvm run model.hyq cat.jpg dog.jpg --top 5
      hyq-tvm run model.hyq batch.npy -o logits.npz
    """
    loaded = load(executable)
    names, array = _inputs(loaded, inputs, values)
    results = loaded.run_integers(array) if integers else loaded(array)
    outputs = results if isinstance(results, tuple) else (results,)
    if output is not None:
        _write(output, outputs)
    _show(names, outputs[0], top)


def _inputs(
    executable: Executable, inputs: tuple[str, ...], values: dict[str, Any]
) -> tuple[list[str], NDArray[Any]]:
    if all(".npy" in name or ".npz" in name for name in inputs):
        arrays = [read_array(name) for name in inputs]
        shapes = {array.shape[1:] for array in arrays}
        if len(shapes) > 1:
            raise InputError(f"the arrays have different shapes: {sorted(shapes)}")
        names = [
            f"{name}[{row}]"
            for name, array in zip(inputs, arrays, strict=True)
            for row in range(len(array) if array.ndim else 0)
        ]
        return names, np.concatenate([np.atleast_1d(array) for array in arrays])
    size = picture_size(executable)
    prepare = options.preprocessing(values, size, known_preprocessing(executable))
    return list(inputs), np.stack([read_image(name, prepare) for name in inputs])


def _show(names: list[str], logits: NDArray[Any], top: int) -> None:
    if logits.ndim != 2 or len(logits) != len(names):
        Console().print(f"outputs of shape {list(logits.shape)}; write them with --output")
        return
    table = Table()
    for title in ("input", "class", "logit"):
        table.add_column(title, overflow="fold")
    for name, row in zip(names, logits, strict=True):
        best = np.argsort(-row.astype(np.float64), kind="stable")[:top]
        classes, values = ", ".join(map(str, best)), ", ".join(f"{row[c]:.4g}" for c in best)
        table.add_row(name, classes, values)
    Console().print(table)


def _write(path: Path, outputs: tuple[NDArray[Any], ...]) -> None:
    named: dict[str, Any] = {f"output{i}": array for i, array in enumerate(outputs)}
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            np.savez(file, **named)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ArtifactError(f"{path} cannot be written: {error}") from error
