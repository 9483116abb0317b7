"""Folders of records made one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from hyq_tvm.errors import TuningError
from schedules.recorded import Record, fastest, read


def merge(sources: Iterable[Path], file: Path, *, best: bool = False) -> int:
    """Write the records of all folders ``sources`` to ``file`` and return how many there are.

    Every line comes once, in the order of the sources. best: only the fastest choice of each
    workload and target, where there is more than one to compare. The file is complete or as it was
    before. Raises ``TuningError``.
    """
    lines = {record.line(): record for folder in sources for record in read(Path(folder))}
    records: list[Record] = list(lines.values())
    if best:
        compared = sorted(fastest(records).items())
        records = [found[0] for _, found in compared if len(found) > 1]
    staging = file.with_name(file.name + ".new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with staging.open("w", encoding="utf-8") as stream:
            stream.writelines(record.line() for record in records)
            stream.flush()
            os.fsync(stream.fileno())
        staging.replace(file)
    except OSError as error:
        raise TuningError(f"{file} cannot be written: {error}") from error
    return len(records)
