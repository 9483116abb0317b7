"""``hyq-tvm inspect``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from hyq_tvm.artifact import Metadata, library_file, unpacked_bytes
from hyq_tvm.cli import options
from hyq_tvm.cli.use import known_preprocessing
from hyq_tvm.errors import ConfigError, PlanError
from hyq_tvm.executable import Executable, load
from hyq_tvm.images import Preprocessing
from hyq_tvm.quantization.plan import QuantPlan
from hyq_tvm.report.data import LayerRow, number, scale_text, tenths

COLUMNS = ("layer", "op", "shape", "bits", "scale", "zero", "alpha", "softmax", "SQNR dB", "margin")


@click.command("inspect", epilog=options.MODEL_HELP)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--match", default="", metavar="TEXT", help="Only layers whose name holds TEXT.")
@click.option("--model", help="The float MODEL, see below: adds the column SQNR.")
@click.option("--data", metavar="IMAGES", help=f"For SQNR: {options.IMAGES_HELP}.")
@click.option(
    "--images",
    "limit",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="How many of them; the integer program runs in NumPy, which is slow.",
)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Weights of a timm model.")
@click.option("--input-shape", "input_shapes", multiple=True, metavar="[NAME=]N,C,H,W")
@options.preprocessing_options
def inspect_command(path: Path, match: str, model: str | None, **values: Any) -> None:
    """Show PATH, an executable's folder or a plan.json, layer by layer. Runs none of its code.

    \b
    scale    of the layer's output, least ... greatest where channels differ
    zero     the integer that stands for 0.0
    alpha    largest over smallest distribution scaling factor of the input channels
    SQNR     signal to quantization noise against float, all noise made before included
    margin   bits that the proven worst case leaves unused in the accumulator

    \b
      hyq-tvm inspect model.hyq
      hyq-tvm inspect model.hyq --model model.pt2 --data images/
    """
    if bool(model) != bool(values["data"]):
        raise ConfigError("SQNR needs both --model and --data")
    console = _console()
    executable = load(path, run_code=False) if path.is_dir() else None
    if executable is not None:
        _show_metadata(console, path, executable.metadata)
        if not executable.output_spec[0].integer_dtype:
            return
    plan = executable.plan if executable else _plan(path, console)
    if model:
        known = known_preprocessing(executable) if executable else None
        rows = _measured_rows(model, plan, known, values)
    else:
        rows = _known_rows(plan, executable)
    console.print(layer_table([row for row in rows if match in row.name]))
    console.print(plan_summary(plan))


def plan_summary(plan: QuantPlan) -> str:
    """What the planner expects of the whole model, in one line."""
    expected = {
        "simulated on calibration images": plan.notes.get("simulated_sqnr_db"),
        "estimated": plan.notes.get("predicted_sqnr_db"),
    }
    known = [f"{how} {decibels} dB" for how, decibels in expected.items() if decibels is not None]
    errors = plan.notes.get("softmax_max_dp") or {}
    if errors:
        worst = max(errors, key=errors.__getitem__)
        known.append(f"greatest error of a softmax {errors[worst]} ({worst})")
    return "Outputs: " + (", ".join(known) or "the plan says nothing of its quality")


def layer_table(rows: Sequence[LayerRow]) -> Table:
    """One line a row; figures that nobody measured are dashes."""
    table = Table()
    for title in COLUMNS:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(
            row.name,
            row.op,
            "x".join(map(str, row.shape)),
            number(row.bits),
            scale_text(row.scale),
            number(row.zero_point),
            number(row.alpha_spread),
            row.softmax,
            tenths(row.sqnr_db),
            tenths(row.margin_bits),
        )
    return table


def _plan(path: Path, console: Console) -> QuantPlan:
    if path.suffix != ".json":
        raise PlanError(f"{path} is neither an executable's folder nor a plan.json")
    plan = QuantPlan.load(path)
    console.print(f"plan of model {plan.fingerprint[:12]}: {plan.config}")
    return plan


def _known_rows(plan: QuantPlan, executable: Executable | None) -> list[LayerRow]:
    """Rows of the instructions that the metadata list, else of what the plan names."""
    noted = executable.metadata.notes.get("layers") if executable else None
    if noted:
        return [_row(plan, entry["name"], entry) for entry in noted]
    return [_row(plan, name, {}) for name in dict.fromkeys([*plan.tensors, *plan.layers])]


def _row(plan: QuantPlan, name: str, note: Mapping[str, Any]) -> LayerRow:
    tensor, layer = plan.tensors.get(name), plan.layers.get(name)
    return LayerRow(
        name=name,
        op=note.get("op", layer.op if layer else ""),
        shape=note.get("shape", ()),
        scale=tensor.scale if tensor else (),
        zero_point=tensor.zero_point if tensor else None,
        bits=tensor.bits if tensor else None,
        alpha=note.get("alpha", layer.alpha if layer else ()),
        softmax=note.get("softmax", layer.softmax if layer else ""),
        margin_bits=note.get("margin_bits"),
    )


def _measured_rows(
    model: str, plan: QuantPlan, known: Preprocessing | None, values: dict[str, Any]
) -> list[LayerRow]:
    from hyq_tvm.arrays import open_images
    from hyq_tvm.cli.models import load_model
    from hyq_tvm.quantization.calibrate import runs
    from hyq_tvm.quantization.lowering import lower
    from hyq_tvm.report.inspection import integer_sqnr, layer_rows
    from relay_passes.extract_graph import extract_graph

    shapes = options.parse_shapes(values["input_shapes"])
    loaded = load_model(model, values["checkpoint"], shapes)
    prepare = options.preprocessing(values, loaded.size, known or loaded.preprocessing)
    graph = extract_graph(loaded.module)
    program = lower(graph, plan)
    images = open_images(values["data"], prepare, values["limit"])
    batches = (run for run, _ in islice(runs(images, graph.inputs[0].shape), values["limit"]))
    return layer_rows(program, plan, integer_sqnr(program, graph, plan, batches))


def _console() -> Console:
    """The terminal; a pipe or a file gets lines long enough for the table."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def _show_metadata(console: Console, path: Path, metadata: Metadata) -> None:
    kind = "integer-only" if metadata.integer_only else "with float computation"
    console.print(f"[bold]{path}[/bold]: {kind}")
    facts = Table(show_header=False, box=None)
    facts.add_row("target", str(dict(metadata.target)))
    facts.add_row("processor", f"{metadata.machine}: {', '.join(metadata.features) or 'any'}")
    facts.add_row("made with", ", ".join(f"{k} {v}" for k, v in metadata.versions.items()))
    for spec in metadata.inputs:
        facts.add_row("input", f"{spec.name} {list(spec.shape)} {spec.dtype}")
    for spec in metadata.outputs:
        integers = f", integers {spec.integer_dtype}" if spec.integer_dtype else ""
        facts.add_row("output", f"{spec.name} {list(spec.shape)} {spec.dtype}{integers}")
    for operator in metadata.float_operators:
        facts.add_row("float", operator)
    for key in ("compile_seconds", "peak_memory_mib"):
        if key in metadata.notes:
            facts.add_row(key.replace("_", " "), str(metadata.notes[key]))
    if "activation_bytes" in metadata.notes:
        facts.add_row("activations", f"{metadata.notes['activation_bytes']:,} bytes during a run")
    facts.add_row("size", _size(path))
    console.print(facts)


def _size(folder: Path) -> str:
    """Bytes of an artefact's files, and what packing its library saved."""
    library = library_file(folder)
    total = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    stored, plain = library.stat().st_size, unpacked_bytes(library)
    packed = f" packed from {plain:,}" if stored != plain else ""
    return f"{total:,} bytes, {library.name} {stored:,}{packed}"
