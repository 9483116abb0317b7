"""``hyq-tvm eval``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from hyq_tvm.arrays import ImageSource, open_images, read_array
from hyq_tvm.cli import options
from hyq_tvm.cli.use import known_preprocessing, picture_size
from hyq_tvm.errors import InputError
from hyq_tvm.executable import Executable, load
from hyq_tvm.images import ImageFolder, Preprocessing, read_labels

Labels = NDArray[np.int64]


@click.command("eval", epilog=options.MODEL_HELP)
@click.argument("executable", type=click.Path(path_type=Path))
@click.option("--data", required=True, metavar="IMAGES", help=options.IMAGES_HELP + ".")
@click.option(
    "--labels",
    metavar="ARRAY",
    help="Class numbers, file.npy or file.npz:NAME; a folder has labels.csv (file,class) or one "
    "subfolder a class.",
)
@click.option("--model", help="The float MODEL to compare with, see below.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Weights of a timm model.")
@click.option("--input-shape", "input_shapes", multiple=True, metavar="[NAME=]N,C,H,W")
@click.option("--images", "limit", type=click.IntRange(1), help="Use only the first so many.")
@options.preprocessing_options
def eval_command(
    executable: Path, data: str, labels: str | None, model: str | None, **values: Any
) -> None:
    """Measure the accuracy of EXECUTABLE on labelled images.

    \b
    With --model the float model sees the same images, and agreement is reported:
      hyq-tvm eval model.hyq --data val/ --model model.pt2
      hyq-tvm eval model.hyq --data test.npz:images --labels test.npz:labels
    """
    loaded = load(executable)
    prepare = _preprocessing(loaded, values)
    images = open_images(data, prepare, values["limit"])
    truth = _labels(images, labels)
    start = time.perf_counter()
    integer = _classes(map(loaded, images), len(images), "integer")
    seconds = time.perf_counter() - start
    exact = _float_classes(model, values, images) if model else None
    _show(truth, integer, exact, seconds)


def _preprocessing(executable: Executable, values: dict[str, Any]) -> Preprocessing:
    known = known_preprocessing(executable)
    if len(executable.input_spec[0].shape) != 4:
        return known or Preprocessing(size=(1, 1))  # arrays that are ready need none
    return options.preprocessing(values, picture_size(executable), known)


def _labels(images: ImageSource, source: str | None) -> Labels:
    if source is not None:
        found = read_array(source)[: len(images)]
    elif isinstance(images, ImageFolder):
        found = read_labels(images.folder, images.files())
    else:
        raise InputError("--labels is missing: name an array of class numbers, file.npz:NAME")
    if found.ndim != 1 or found.dtype.kind not in "iu" or len(found) != len(images):
        raise InputError(
            f"{len(images)} images need as many integer labels, got {found.dtype} {found.shape}"
        )
    return found.astype(np.int64)


def _classes(outputs: Iterable[Any], total: int, title: str) -> Labels:
    """The class of every image, from batches of logits [n, classes]."""
    found = []
    with tqdm(total=total, desc=title, unit="image", disable=None) as bar:
        for output in outputs:
            logits = output[0] if isinstance(output, tuple) else output
            if logits.ndim != 2:
                raise InputError(f"outputs of shape {list(logits.shape)} are no class scores")
            found.append(logits.argmax(axis=1))
            bar.update(len(logits))
    return np.concatenate(found)


def _float_classes(model: str, values: dict[str, Any], images: ImageSource) -> Labels:
    from hyq_tvm.cli.models import load_model

    shapes = options.parse_shapes(values["input_shapes"])
    module = load_model(model, values["checkpoint"], shapes).module
    return _classes(_float_outputs(module, images), len(images), "float")


def _float_outputs(module: Any, images: ImageSource) -> Iterator[NDArray[np.float32]]:
    from hyq_tvm.quantization.calibrate import runs
    from hyq_tvm.quantization.float_executor import FloatExecutor
    from relay_passes.extract_graph import extract_graph

    graph = extract_graph(module)
    executor = FloatExecutor(graph)
    for batch, new in runs(images, graph.inputs[0].shape):
        yield executor.run(batch)[0].numpy()[:new]


def _show(truth: Labels, integer: Labels, exact: Labels | None, seconds: float) -> None:
    table = Table(title=f"{len(truth)} images")
    table.add_column("")
    for title in ("top-1 %", "right"):
        table.add_column(title, justify="right")
    rows = {"integer": integer} if exact is None else {"float": exact, "integer": integer}
    for name, classes in rows.items():
        right = int((classes == truth).sum())
        table.add_row(name, f"{100 * right / len(truth):.2f}", str(right))
    console = Console()
    console.print(table)
    if exact is not None:
        agreement = 100 * float((exact == integer).mean())
        console.print(f"integer and float say the same on {agreement:.2f} % of the images")
    console.print(f"{1e3 * seconds / len(truth):.2f} ms an image, reading pictures included")
