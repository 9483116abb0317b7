"""``python -m hyq_tvm.vta.isa [--check]``: write, or check, what the table generates."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hyq_tvm.vta.isa.document import document
from hyq_tvm.vta.isa.verilog import package

ROOT = Path(__file__).resolve().parents[3]
GENERATED = {
    Path("docs/isa.md"): document,
    Path("hyq_tvm/vta/rtl/hyq_vta_pkg.sv"): package,
}


def stale(root: Path = ROOT) -> list[Path]:
    """The generated files under ``root`` that are missing or differ from the table."""
    return [path for path, make in GENERATED.items() if _text(root / path) != make()]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the generated files, or with ``--check`` return 1 where one is not current."""
    parser = argparse.ArgumentParser(prog="python -m hyq_tvm.vta.isa", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; 1 if a file is stale")
    parser.add_argument("--root", type=Path, default=ROOT, help="the source checkout")
    options = parser.parse_args(arguments)
    outdated = stale(options.root)
    if options.check:
        for path in outdated:
            print(f"{path} is not current: run python -m hyq_tvm.vta.isa", file=sys.stderr)
        return 1 if outdated else 0
    for path in outdated:
        target = options.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(GENERATED[path](), encoding="utf-8")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
