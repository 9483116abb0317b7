"""Coverage-guided fuzzing of what reads files: plans, metadata, tuning records, device programs.

``python -m benchmarks.fuzz_parsers --parser plan --seconds 60`` (needs the extra ``fuzz``)

Inputs that reach new code are kept in ``--corpus`` and changed again. Anything but a value or an
exception of our own ends the run with the input in a file ``crash-...``. Checksums are put right
first: what they guard must be safe without them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

OURS = ["hyq_tvm.quantization.plan", "hyq_tvm.quantization.config", "hyq_tvm.artifact"]
OURS += ["schedules.recorded", "hyq_tvm.vta.program", "hyq_tvm.vta.verify", "hyq_tvm.vta.arch"]


def _plan() -> tuple[Callable[[bytes], Any], bytes]:
    from hyq_tvm.quantization.plan import QuantPlan
    from tests.trust.malformed import PLAN

    return lambda data: QuantPlan.from_json(data.decode(errors="replace")), PLAN.to_json().encode()


def _record() -> tuple[Callable[[bytes], Any], bytes]:
    from schedules import recorded

    good = recorded.Record("w", "t", "r", {"a": 1}, 1.5).line().encode()
    return lambda data: recorded._parse(data.decode(errors="replace"), "file"), good


def _sealed(data: bytes) -> bytes:
    """Metadata with its checksum put right, where it is an object at all."""
    from hyq_tvm import artifact

    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return data
    if isinstance(document, dict):
        document["checksum"] = artifact._own_checksum(document)
    return json.dumps(document).encode()


def _metadata() -> tuple[Callable[[bytes], Any], bytes]:
    from hyq_tvm import artifact
    from tests.test_artifact import write

    folder = Path(tempfile.mkdtemp()) / "m"
    write(folder)
    file = folder / artifact.METADATA
    good = file.read_bytes()

    def read(data: bytes) -> Any:
        file.write_bytes(_sealed(data))
        return artifact.read_artifact(folder)

    return read, good


def _program() -> tuple[Callable[[bytes], Any], bytes]:
    from hyq_tvm.vta.program import Program
    from tests.vta.streams import program

    good = program().to_bytes()[:-32]

    def read(data: bytes) -> Any:
        length = struct.unpack_from("<I", data, 12)[0] if len(data) >= 16 else 0
        body = good[:12] + struct.pack("<I", min(length, max(len(data) - 16, 0))) + data[16:]
        return Program.from_bytes(body + hashlib.sha256(body).digest())

    return read, good


PARSERS = {"plan": _plan, "record": _record, "metadata": _metadata, "program": _program}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parser", choices=sorted(PARSERS), default="plan")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="default: a new folder")
    options = parser.parse_args()
    import atheris

    with atheris.instrument_imports(include=OURS):
        read, good = PARSERS[options.parser]()
    from hyq_tvm.errors import HyqError

    def once(data: bytes) -> None:
        try:
            read(data)
        except HyqError:
            return

    corpus = options.corpus or Path(tempfile.mkdtemp())
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "good").write_bytes(good)
    limits = [f"-max_total_time={options.seconds}", "-timeout=10", "-max_len=8192"]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
