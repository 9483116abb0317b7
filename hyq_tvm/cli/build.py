"""``hyq-tvm quantize`` and ``hyq-tvm compile``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

import hyq_tvm
from hyq_tvm.arrays import ImageSource, open_images
from hyq_tvm.cli import options
from hyq_tvm.errors import CalibrationError, ConfigError
from hyq_tvm.executable import Executable
from hyq_tvm.images import Preprocessing
from hyq_tvm.quantization.plan import QuantPlan

if TYPE_CHECKING:
    import tvm

    from hyq_tvm.cli.models import LoadedModel

_OUTPUT = click.Path(path_type=Path)


@click.command("quantize", epilog=options.MODEL_HELP)
@options.model_options
@options.calibration_options
@options.preprocessing_options
@click.option(
    "--target-drop",
    type=click.FloatRange(0, 100, min_open=True, max_open=True),
    metavar="POINTS",
    help="Raise bits, at the least cost, until top-1 is expected to lose no more than that.",
)
@click.option("--output", "-o", type=_OUTPUT, default=Path("plan.json"), show_default=True)
def quantize_command(model: str, output: Path, **values: Any) -> None:
    """Calibrate MODEL and write its plan: every scale, zero point and scaling factor.

    The plan is JSON to read and edit: exclude a layer, force 16 bits, choose an observer. Compile
    with it:

    \b
      hyq-tvm quantize model.pt2 --calibration images/ -o plan.json
      hyq-tvm compile  model.pt2 --plan plan.json -o model.hyq
      hyq-tvm quantize model.pt2 --calibration images/ --activation-bits 6 --target-drop 0.5
    """
    from hyq_tvm.module_facts import plan_text

    quantized = load_quantized(model, values)
    plan = QuantPlan.from_json(plan_text(quantized))
    plan.save(output)
    console = Console()
    if "target_drop" in plan.notes:
        _explain(console, plan.notes["target_drop"])
    console.print(f"{output}: {len(plan.layers)} layers, {len(plan.tensors)} tensors")


@click.command("compile", epilog=options.MODEL_HELP)
@options.model_options
@options.calibration_options
@options.preprocessing_options
@click.option("--plan", type=_OUTPUT, help="A plan of hyq-tvm quantize, instead of --calibration.")
@click.option(
    "--target",
    default="llvm",
    show_default=True,
    help='"llvm" is this machine; or JSON, such as {"kind": "llvm", "mcpu": "x86-64-v3"}.',
)
@click.option(
    "--allow-float", multiple=True, metavar="LAYER", help="Let this layer compute in float."
)
@click.option("--records", type=_OUTPUT, help="A folder that hyq-tvm tune wrote.")
@click.option("--output", "-o", type=_OUTPUT, required=True, help="The folder to write.")
def compile_command(model: str, output: Path, **values: Any) -> None:
    """Compile MODEL to an executable that computes with integers only.

    \b
    With --calibration the model is quantized first:
      hyq-tvm compile model.onnx --calibration images/ --resize 256 -o model.hyq
      hyq-tvm run model.hyq cat.jpg

    Without --calibration and --plan only the softmax becomes linear; the rest stays in float.
    """
    from hyq_tvm.targets import resolve

    config = options.quant_config(values)
    target = options.parse_target(values["target"])
    resolve(target)
    plan = _plan(values)
    loaded = _load(model, values)
    images, prepare = None, options.preprocessing(values, loaded.size, loaded.preprocessing)
    if values["calibration"]:
        images, prepare = _calibration(values, loaded)
    executable = hyq_tvm.compile(
        loaded.module,
        target,
        images,
        config if images is not None else None,
        values["records"],
        allow_float=values["allow_float"],
        plan=plan,
        preprocess=prepare,
    )
    executable.save(output)
    _summarize(executable, output)


def load_quantized(model: str, values: dict[str, Any]) -> tvm.IRModule:
    """The integer module of MODEL, by ``--plan`` where there is one, else ``--calibration``."""
    config = options.quant_config(values)
    plan = _plan(values)
    loaded = _load(model, values)
    if plan is not None:
        return hyq_tvm.quantize(loaded.module, plan=plan)
    images, prepare = _calibration(values, loaded)
    return hyq_tvm.quantize(
        loaded.module,
        images,
        config,
        preprocess=prepare,
        target_drop=values.get("target_drop"),
    )


def _load(model: str, values: dict[str, Any]) -> LoadedModel:
    from hyq_tvm.cli.models import load_model

    shapes = options.parse_shapes(values["input_shapes"])
    return load_model(model, values["checkpoint"], shapes)


def _calibration(values: dict[str, Any], loaded: LoadedModel) -> tuple[ImageSource, Preprocessing]:
    if not values["calibration"]:
        raise CalibrationError("--calibration is missing: name some 100 images without labels")
    prepare = options.preprocessing(values, loaded.size, loaded.preprocessing)
    return open_images(values["calibration"], prepare, values["limit"]), prepare


def _plan(values: dict[str, Any]) -> QuantPlan | None:
    if values.get("plan") is None:
        return None
    if values["calibration"]:
        raise ConfigError("--plan and --calibration exclude each other: a plan is calibrated")
    return QuantPlan.load(values["plan"])


def _explain(console: Console, note: dict[str, Any]) -> None:
    """What a wanted drop made of the plan."""
    console.print(
        f"top-1 is expected to lose {note['expected_points']:.2f} points "
        f"(wanted: at most {note['wanted_points']:g}); "
        f"{100 * note['changed_answers']:.1f} % of the answers change"
    )
    for entry in note["raised"]:
        console.print(
            f"  {entry['name']}: {entry['change']}, takes away {100 * entry['noise_share']:.1f} % "
            f"of the error for {entry['cost_bytes']:.0f} bytes"
        )


def _summarize(executable: Executable, output: Path) -> None:
    console = Console()
    metadata = executable.metadata
    size = sum(file.stat().st_size for file in output.iterdir()) / 2**20
    kind = "integer-only" if metadata.integer_only else "with float computation"
    console.print(f"[bold]{output}[/bold]: {kind}, {size:.1f} MiB")
    for operator in metadata.float_operators:
        console.print(f"  float: {operator}")
    notes = metadata.notes
    console.print(
        f"  compiled for {metadata.target.get('mcpu', metadata.target['kind'])} in "
        f"{notes['compile_seconds']:.1f} s, at most {notes['peak_memory_mib']:.0f} MiB of memory"
    )
