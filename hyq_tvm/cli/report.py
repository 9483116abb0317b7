"""``hyq-tvm report``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from hyq_tvm.arrays import open_images
from hyq_tvm.artifact import library_file
from hyq_tvm.cli import options
from hyq_tvm.cli.use import known_preprocessing
from hyq_tvm.errors import PlanError
from hyq_tvm.executable import Executable, load
from hyq_tvm.report import Card, LayerRow, Report, write_report

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("report", epilog=options.MODEL_HELP)
@click.argument("path", type=click.Path(path_type=Path, file_okay=False))
@click.option("--model", required=True, help="The float MODEL that it was made from, see below.")
@click.option("--data", required=True, metavar="IMAGES", help=f"{options.IMAGES_HELP}.")
@click.option(
    "--images",
    "limit",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="How many of them; the integer program runs in NumPy, which is slow.",
)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Weights of a timm model.")
@click.option("--input-shape", "input_shapes", multiple=True, metavar="[NAME=]N,C,H,W")
@click.option(
    "--attach",
    multiple=True,
    type=_FILE,
    help="What was measured elsewhere: .md with tables (peers, FPGA), .svg or .png (timelines).",
)
@click.option("--output", "-o", type=_FILE, default=Path("report.html"), show_default=True)
@options.preprocessing_options
def report_command(path: Path, model: str, output: Path, **values: Any) -> None:
    """Write one HTML page about PATH, an executable's folder: everything at a glance.

    The page needs no network: every layer with its grid, noise and spare bits; the channels before
    and after scaling; the error of the softmax kinds; latency by operator; and what is attached.

    \b
      hyq-tvm report model.hyq --model model.pt2 --data images/
      hyq-tvm report model.hyq --model model.pt2 --data images/ --attach peers.md --attach vta.svg
    """
    executable = load(path)
    if not executable.output_spec[0].integer_dtype:
        raise PlanError(f"{path} was compiled in float: there is nothing to report")
    with Console().status("inspecting every layer"):
        made = _report(path, executable, model, values)
    Console().print(f"Report: [bold]{write_report(output, made).resolve()}[/bold]", soft_wrap=True)


def _report(path: Path, executable: Executable, model: str, values: dict[str, Any]) -> Report:
    from hyq_tvm.cli.models import load_model
    from hyq_tvm.quantization.calibrate import runs
    from hyq_tvm.quantization.lowering import lower
    from hyq_tvm.report.attachments import attach
    from hyq_tvm.report.inspection import channel_ranges, integer_sqnr, layer_rows
    from hyq_tvm.report.latency import operator_times
    from hyq_tvm.report.softmax_curves import softmax_curves
    from relay_passes.extract_graph import extract_graph

    tables, pictures = attach(list(values["attach"]))
    shapes = options.parse_shapes(values["input_shapes"])
    loaded = load_model(model, values["checkpoint"], shapes)
    known = known_preprocessing(executable) or loaded.preprocessing
    prepare = options.preprocessing(values, loaded.size, known)
    graph, plan = extract_graph(loaded.module), executable.plan
    program = lower(graph, plan)
    images = open_images(values["data"], prepare, values["limit"])
    batches = [run for run, _ in islice(runs(images, graph.inputs[0].shape), values["limit"])]
    layers = layer_rows(program, plan, integer_sqnr(program, graph, plan, batches))
    times = operator_times(library_file(path), batches[0])
    return Report(
        title=f"{path.name}: a model in integers",
        lead="Noise is that of the integer program against the float model on "
        f"{sum(len(batch) for batch in batches)} images.",
        cards=tuple(_cards(executable, layers, sum(t.microseconds for t in times))),
        layers=layers,
        ranges=channel_ranges(graph, plan, batches),
        softmax=softmax_curves(),
        times=times,
        tables=tables,
        pictures=pictures,
        facts=_facts(executable),
    )


def _cards(executable: Executable, layers: list[LayerRow], microseconds: float) -> Iterator[Card]:
    known = [row for row in layers if row.sqnr_db is not None]
    if known:
        worst = min(known, key=lambda row: row.sqnr_db if row.sqnr_db is not None else 0.0)
        yield Card("Signal to noise at the end", f"{known[-1].sqnr_db:.1f} dB", known[-1].name)
        yield Card("Least of all layers", f"{worst.sqnr_db:.1f} dB", worst.name)
    margins = [row.margin_bits for row in layers if row.margin_bits is not None]
    if margins:
        yield Card("Spare accumulator bits", f"{min(margins):.1f}", "least of all layers, proven")
    yield Card("Operators", str(len(layers)), "pure data movement not counted")
    yield Card("Kernels of one run", f"{microseconds / 1e3:.2f} ms", "shortest times added up")
    predicted = executable.plan.notes.get("predicted_sqnr_db")
    if predicted is not None:
        yield Card("Predicted by the planner", f"{predicted:.1f} dB", "linear estimate")


def _facts(executable: Executable) -> tuple[tuple[str, str], ...]:
    metadata, config = executable.metadata, executable.plan.config
    target = executable.plan.notes.get("target_drop")
    wanted = () if target is None else (("Wanted drop", _drop_text(target)),)
    return (
        ("Date", date.today().isoformat()),
        ("Target", str(dict(metadata.target))),
        *metadata.versions.items(),
        ("Scaling", str(config.scaling)),
        ("Softmax", config.softmax),
        ("Observer", config.observer),
        ("Bits", f"activations {config.activation_bits}, weights {config.weight_bits}"),
        *wanted,
    )


def _drop_text(note: dict[str, Any]) -> str:
    raised = "; ".join(f"{entry['name']}: {entry['change']}" for entry in note["raised"])
    return (
        f"at most {note['wanted_points']:g} points of top-1, expected "
        f"{note['expected_points']:.2f}; raised: {raised or 'nothing'}"
    )
