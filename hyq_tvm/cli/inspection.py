"""``hyq-tvm inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from hyq_tvm.artifact import Metadata
from hyq_tvm.errors import PlanError
from hyq_tvm.executable import load
from hyq_tvm.quantization.plan import WIDE, LayerPlan, QuantPlan, TensorPlan

COLUMNS = ("layer", "op", "shape", "bits", "scale", "zero", "alpha", "softmax", "SQNR dB", "margin")


@click.command("inspect")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--match", default="", metavar="TEXT", help="Only layers whose name holds TEXT.")
def inspect_command(path: Path, match: str) -> None:
    """Show PATH, an executable's folder or a plan.json, layer by layer. Runs none of its code.

    \b
    scale    of the layer's output, least..greatest where channels differ
    zero     the integer that stands for 0.0
    alpha    largest over smallest distribution scaling factor of the input channels
    SQNR     signal to quantization noise against float, where the plan has it
    margin   bits that the proven worst case leaves unused in the accumulator
    """
    console = _console()
    if path.is_dir():
        executable = load(path, run_code=False)
        metadata = executable.metadata
        _show_metadata(console, path, metadata)
        plan = executable.plan if metadata.outputs[0].integer_dtype else None
        if plan is not None:
            console.print(layer_table(plan, metadata.notes.get("layers", ()), match))
        return
    if path.suffix != ".json":
        raise PlanError(f"{path} is neither an executable's folder nor a plan.json")
    plan = QuantPlan.load(path)
    console.print(f"plan of model {plan.fingerprint[:12]}: {plan.config}")
    console.print(layer_table(plan, (), match))


def layer_table(plan: QuantPlan, notes: Any, match: str = "") -> Table:
    """One row for every layer or tensor whose name holds ``match``.

    notes: of ``Metadata.notes["layers"]``, in the program's order; without them the plan's.
    """
    noted = {row["name"]: row for row in notes}
    table = Table(*COLUMNS)
    for name in _names(plan, noted):
        if match in name:
            table.add_row(*_row(name, plan, noted.get(name, {})))
    return table


def _names(plan: QuantPlan, noted: dict[str, Any]) -> list[str]:
    planned = [*plan.tensors, *plan.layers]
    return list(dict.fromkeys([*noted, *planned]))


def _row(name: str, plan: QuantPlan, note: dict[str, Any]) -> tuple[str, ...]:
    tensor = plan.tensors.get(name)
    layer = plan.layers.get(name.removesuffix(WIDE))
    margin = note.get("margin_bits")
    sqnr = dict(plan.notes.get("sqnr", {})).get(name)
    return (
        name,
        note.get("op") or (layer.op if layer else ""),
        "x".join(map(str, note.get("shape", ()))),
        *_tensor_cells(tensor),
        *_layer_cells(layer if not name.endswith(WIDE) else None),
        "" if sqnr is None else f"{sqnr:.1f}",
        "" if margin is None else f"{margin:.1f}",
    )


def _tensor_cells(tensor: TensorPlan | None) -> tuple[str, str, str]:
    if tensor is None:
        return "", "", ""
    low, high = min(tensor.scale), max(tensor.scale)
    scale = f"{low:.3g}" if low == high else f"{low:.3g}..{high:.3g}"
    return str(tensor.bits), scale, str(tensor.zero_point)


def _layer_cells(layer: LayerPlan | None) -> tuple[str, str]:
    if layer is None:
        return "", ""
    alpha = f"{max(layer.alpha) / min(layer.alpha):.3g}" if layer.alpha else ""
    softmax = f"{layer.softmax} {layer.softmax_weight_bits} bit" if layer.softmax else ""
    return alpha, "float" if layer.exclude else softmax


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
    console.print(facts)
