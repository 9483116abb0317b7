"""The group of commands; each is imported when it is called."""

from __future__ import annotations

from importlib import import_module

import click

import hyq_tvm

_HOMES = {
    "quantize": "hyq_tvm.cli.build",
    "compile": "hyq_tvm.cli.build",
    "tune": "hyq_tvm.cli.tuning",
    "merge": "hyq_tvm.cli.tuning",
    "run": "hyq_tvm.cli.use",
    "eval": "hyq_tvm.cli.evaluate",
    "inspect": "hyq_tvm.cli.inspection",
    "report": "hyq_tvm.cli.report",
    "demo": "hyq_tvm.cli.demonstration",
}

_SUMMARIES = {
    "quantize": "Calibrate a float model and write its plan.",
    "compile": "Compile a model to an integer-only executable.",
    "tune": "Measure faster ways to compute a model and keep them as records.",
    "merge": "Put folders of tuning records together.",
    "run": "Run an executable on images or arrays.",
    "eval": "Measure accuracy on labelled images, against the float model too.",
    "inspect": "Show an executable or a plan, layer by layer.",
    "report": "Write one HTML page about an executable.",
    "demo": "Quantize, compile and run an embedded model; needs no download.",
}


class _LazyGroup(click.Group):
    """Help appears at once: TVM takes seconds to import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _HOMES:
            return None
        return _command(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_SUMMARIES.items()))


def _command(name: str) -> click.Command:
    command = getattr(import_module(_HOMES[name]), f"{name}_command")
    if not isinstance(command, click.Command):
        raise TypeError(f"{name} is not a command")
    return command


@click.group(
    cls=_LazyGroup,
    epilog="Start with: hyq-tvm demo. Every command explains itself: hyq-tvm compile --help.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(hyq_tvm.__version__, prog_name="hyq-tvm")
def cli() -> None:
    """Compile CNN-transformer hybrids to integer-only INT8 programs.

    \b
    A model goes through three steps:
      1. quantize   images without labels decide scales and scaling factors -> plan.json
      2. compile    model + plan -> a folder with an integer-only program
      3. run, eval  images -> classes; accuracy against the float model

    compile does steps 1 and 2 at once when it gets --calibration instead of --plan.
    """
