"""The command line, ``hyq-tvm``."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 is success, 2 bad input (one line says what), 1 a bug."""
    from hyq_tvm.cli.commands import cli
    from hyq_tvm.cli.errors import one_line_errors

    with one_line_errors():
        cli.main(args=None if arguments is None else list(arguments), prog_name="hyq-tvm")
    sys.exit(0)
