"""``hyq-tvm tune`` and ``hyq-tvm merge``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

import hyq_tvm
from hyq_tvm.cli import options
from hyq_tvm.cli.build import load_quantized
from hyq_tvm.errors import TuningError

_FOLDER = click.Path(path_type=Path)
_MERGED = "merged.jsonl"


@click.command("tune", epilog=options.MODEL_HELP)
@options.model_options
@options.calibration_options
@options.preprocessing_options
@click.option("--plan", type=_FOLDER, help="A plan of hyq-tvm quantize, instead of --calibration.")
@click.option(
    "--target",
    default="llvm",
    show_default=True,
    help='"llvm" is this machine; or JSON. With --tracker: what its servers are.',
)
@click.option("--records", type=_FOLDER, default=Path("records"), show_default=True)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Measure so long.  [default: 30, no limit with --trials]",
)
@click.option("--trials", type=click.IntRange(1), help="Make so many measurements.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--tracker", metavar="HOST:PORT", help="Measure on the servers of a TVM tracker.")
@click.option("--key", default="", help="Which servers of the tracker.")
@click.option(
    "--split",
    type=_FOLDER,
    help="Measure nothing: write candidates for a GPU elsewhere to this folder (64, or --trials).",
)
def tune_command(model: str, records: Path, **values: Any) -> None:
    """Measure faster ways to compute MODEL and keep them in a folder of records.

    \b
      hyq-tvm tune    model.pt2 --plan plan.json --minutes 30
      hyq-tvm compile model.pt2 --plan plan.json --records records/ -o model.hyq

    A tuning that was interrupted, or killed, goes on where it stopped when it is started again.
    Results of the model do not change.

    \b
    On other machines, one server each (all of one kind, named by the key):
      python -m tvm.exec.rpc_tracker --port 9190
      python -m tvm.exec.rpc_server --tracker HOST:9190 --key rack
      hyq-tvm tune model.pt2 --plan plan.json --tracker HOST:9190 --key rack \\
        --target '{"kind": "llvm", "mcpu": "znver4", "num-cores": 16}'

    \b
    On a GPU that cannot be reached, in rounds; each learns from those before it:
      hyq-tvm tune model.pt2 --plan plan.json --target '{"kind": "cuda", "arch": "sm_90"}' \\
        --split round1
      python -m hyq_tvm.gpu_timing round1     # there, without a compiler
      hyq-tvm merge round1 -o records --append
    """
    from hyq_tvm.targets import resolve
    from hyq_tvm.tuning import Tracker

    trials, minutes = values["trials"], values["minutes"]
    if minutes is None and trials is None:
        minutes = 30
    target = options.parse_target(values["target"])
    resolve(target)
    if values["tracker"] is not None:
        Tracker.parse(values["tracker"], values["key"])
    hyq_tvm.tune(
        load_quantized(model, values),
        target,
        records,
        minutes,
        trials=trials,
        seed=values["seed"],
        tracker=values["tracker"],
        key=values["key"],
        split=values["split"],
    )
    if values["split"] is not None:
        Console().print(f"{values['split']}: carry it, and python -m hyq_tvm.gpu_timing there")
        return
    Console().print(f"{records}: use it with hyq-tvm compile --records {records}")


@click.command("merge")
@click.argument("folders", nargs=-1, required=True, type=_FOLDER)
@click.option("--output", "-o", type=_FOLDER, required=True, help="A folder that is not there yet.")
@click.option("--best", is_flag=True, help="Keep only the fastest choices.")
@click.option("--append", is_flag=True, help="Add to a folder of records that is there.")
def merge_command(folders: tuple[Path, ...], output: Path, best: bool, append: bool) -> None:
    """Put the tuning records of FOLDERS together into one folder."""
    from hyq_tvm.tuning import merge, take

    if best and append:
        raise TuningError("--best makes a folder of its own: leave --append out")
    if append:
        Console().print(f"{output}: {take(folders, output)} records more")
        return
    if output.exists():
        raise TuningError(f"{output} exists: choose another folder")
    count = merge(folders, output / _MERGED, best=best)
    Console().print(f"{output}: {count} records")
