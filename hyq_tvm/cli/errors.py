"""Bad input ends in one line and exit code 2, never in a traceback."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from hyq_tvm.errors import HyqError

BAD_INPUT = 2


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print errors of users and of the system in one line each; warnings too."""
    shown = warnings.showwarning
    warnings.showwarning = _warn
    try:
        yield
    except (HyqError, OSError) as error:
        click.secho("error: ", fg="red", bold=True, nl=False, err=True)
        click.echo(" ".join(str(error).split()), err=True)
        sys.exit(BAD_INPUT)
    finally:
        warnings.showwarning = shown


def _warn(message: Any, *_: Any, **__: Any) -> None:
    click.secho("warning: ", fg="yellow", bold=True, nl=False, err=True)
    click.echo(" ".join(str(message).split()), err=True)
