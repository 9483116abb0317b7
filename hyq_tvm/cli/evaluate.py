"""``hyq-tvm eval``."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from hyq_tvm.arrays import open_images
from hyq_tvm.cli import options
from hyq_tvm.cli.eval_data import Batches, Labels, labels_of
from hyq_tvm.cli.eval_log import PredictionLog
from hyq_tvm.cli.use import known_preprocessing, picture_size
from hyq_tvm.errors import InputError
from hyq_tvm.executable import Executable, load
from hyq_tvm.images import BATCH, Preprocessing
from hyq_tvm.report.comparison import FIVE, Comparison, compare, score

Run = Callable[[NDArray[np.float32]], Any]
"""A model: batch to logits [n, classes], or to several outputs of which they are the first."""

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("eval", epilog=options.MODEL_HELP)
@click.argument("executable", type=click.Path(path_type=Path))
@click.option("--data", required=True, metavar="IMAGES", help=options.IMAGES_HELP + ".")
@click.option(
    "--labels",
    metavar="FILE",
    help="Class numbers: file.npy, file.npz:NAME, or a .csv or .txt with lines PICTURE CLASS. A "
    "folder has labels.csv, or one subfolder a class.",
)
@click.option("--classes", type=_FILE, help="Names of subfolders, one a line, in class order.")
@click.option("--model", help="The float MODEL to compare with, see below.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Weights of a timm model.")
@click.option("--input-shape", "input_shapes", multiple=True, metavar="[NAME=]N,C,H,W")
@click.option("--images", "limit", type=click.IntRange(1), help="Use only the first so many.")
@click.option("--batch", type=click.IntRange(1), default=BATCH, show_default=True)
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Readers.")
@click.option("--resume", type=_FILE, help="Keep predictions here; a killed run goes on from it.")
@click.option("--output", "-o", type=_FILE, help="Write all figures to this JSON file.")
@options.preprocessing_options
def eval_command(
    executable: Path, data: str, labels: str | None, model: str | None, **values: Any
) -> None:
    """Measure the accuracy of EXECUTABLE on labelled images.

    \b
    With --model the float model sees the same images: how many answers changed, and whether
    that is more than chance (95 % intervals, McNemar's test):
      hyq-tvm eval model.hyq --data val/ --model model.pt2
      hyq-tvm eval model.hyq --data test.npz:images --labels test.npz:labels
      hyq-tvm eval model.hyq --data val/ --labels val.txt --resume val.log --workers 4
    """
    loaded = load(executable)
    prepare = _preprocessing(loaded, values)
    images = open_images(data, prepare, values["limit"])
    truth = labels_of(images, labels, values["classes"])
    runs: dict[str, Run] = {"float": _float_run(model, values)} if model else {}
    runs["integer"] = loaded
    subject = {
        "executable": _digest(loaded),
        "model": model,
        "data": data,
        "labels": hashlib.sha256(truth.tobytes()).hexdigest(),
        "preprocessing": prepare.to_dict(),
    }
    log = PredictionLog(values["resume"], json.loads(json.dumps(subject)), list(runs))
    seconds = _predict(runs, Batches(images, values["batch"], values["workers"]), log)
    found = {name: log.classes(name) for name in runs}
    figures = _figures(truth, found, seconds)
    if values["output"] is not None:
        text = json.dumps(figures, indent=1) + "\n"
        values["output"].write_text(text, encoding="utf-8")
    _show(figures)


def _preprocessing(executable: Executable, values: dict[str, Any]) -> Preprocessing:
    known = known_preprocessing(executable)
    if len(executable.input_spec[0].shape) != 4:
        return known or Preprocessing(size=(1, 1))  # arrays that are ready need none
    return options.preprocessing(values, picture_size(executable), known)


def _digest(executable: Executable) -> str:
    """What tells one integer program from another."""
    spec = [str(s) for s in (*executable.input_spec, *executable.output_spec)]
    plan = executable.plan.to_json() if executable.output_spec[0].integer_dtype else ""
    return hashlib.sha256("\n".join([*spec, plan]).encode()).hexdigest()


def _float_run(model: str, values: dict[str, Any]) -> Run:
    from hyq_tvm.cli.models import load_model
    from hyq_tvm.quantization.calibrate import runs
    from hyq_tvm.quantization.float_executor import FloatExecutor
    from relay_passes.extract_graph import extract_graph

    shapes = options.parse_shapes(values["input_shapes"])
    graph = extract_graph(load_model(model, values["checkpoint"], shapes).module)
    executor = FloatExecutor(graph)
    shape = graph.inputs[0].shape

    def run(batch: NDArray[np.float32]) -> Any:
        parts = [executor.run(part)[0].numpy()[:new] for part, new in runs([batch], shape)]
        return np.concatenate(parts)

    return run


def _predict(runs: Mapping[str, Run], batches: Batches, log: PredictionLog) -> dict[str, float]:
    """Fill ``log``; seconds an image that every model took in this call."""
    done = len(log)
    spent = dict.fromkeys(runs, 0.0)
    with tqdm(total=len(batches), initial=done, unit="image", disable=None) as bar:
        for _, batch in batches.starting_at(done):
            classes = {}
            for name, run in runs.items():
                start = time.perf_counter()
                logits = run(batch)
                spent[name] += time.perf_counter() - start
                classes[name] = _best(logits)
            log.append(classes)
            bar.update(len(batch))
    new = len(log) - done
    return {name: seconds / new for name, seconds in spent.items()} if new else {}


def _best(output: Any) -> NDArray[np.int64]:
    """The five (or one) best classes of logits [n, classes], best first; ties: the lower class."""
    logits = output[0] if isinstance(output, tuple) else output
    if logits.ndim != 2:
        raise InputError(f"outputs of shape {list(logits.shape)} are no class scores")
    count = FIVE if logits.shape[1] > FIVE else 1
    order = np.argsort(-logits.astype(np.float64), axis=1, kind="stable")
    return order[:, :count].astype(np.int64)


def _figures(
    truth: Labels, found: Mapping[str, NDArray[np.int64]], seconds: Mapping[str, float]
) -> dict[str, Any]:
    scores = {name: asdict(score(classes, truth)) for name, classes in found.items()}
    figures: dict[str, Any] = {"scores": scores, "milliseconds": {}, "comparison": None}
    figures["milliseconds"] = {name: 1e3 * value for name, value in seconds.items()}
    if "float" in found:
        figures["comparison"] = compare(found["float"], found["integer"], truth).to_dict()
    return figures


def _show(figures: Mapping[str, Any]) -> None:
    scores, times = figures["scores"], figures["milliseconds"]
    table = Table(title=f"{scores['integer']['images']} images")
    for title in ("", "top-1 %", "95 % interval", "top-5 %", "right", "ms an image"):
        table.add_column(title, justify="right" if title else "left")
    for name, found in scores.items():
        low, high = found["interval"]
        table.add_row(
            name,
            f"{100 * found['top1']:.2f}",
            f"{100 * low:.2f} .. {100 * high:.2f}",
            "–" if found["top5"] is None else f"{100 * found['top5']:.2f}",
            str(found["right"]),
            f"{times[name]:.2f}" if name in times else "–",
        )
    console = Console()
    console.print(table)
    if figures["comparison"] is not None:
        console.print(_verdict(Comparison(**figures["comparison"])))


def _verdict(found: Comparison) -> str:
    low, high = found.interval
    real = "more than chance" if found.mcnemar_p < 0.05 else "no more than chance"
    return (
        f"integer and float say the same on {100 * found.agreement:.2f} % of the images\n"
        f"top-1 changes by {100 * found.change:+.2f} points "
        f"(95 %: {100 * low:+.2f} .. {100 * high:+.2f}); "
        f"{found.lost} answers lost, {found.won} won: {real} (McNemar p = {found.mcnemar_p:.3g})"
    )
