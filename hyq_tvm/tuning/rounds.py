"""Tuning for a GPU that cannot be reached: candidates go there, records come back.

A round is a folder of candidates: ``prepare`` proposes and builds them here, with what all rounds
before it taught; ``python -m hyq_tvm.gpu_timing`` measures them there; ``take`` adds the records
to the log.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from hyq_tvm.errors import TuningError
from hyq_tvm.targets.cuda import CudaTarget
from hyq_tvm.tuning.gpu import Folder
from hyq_tvm.tuning.log import Log
from hyq_tvm.tuning.search import BATCH, Search, Trial
from hyq_tvm.tuning.tasks import Task
from schedules.recorded import Record, read, serves

TRIALS = 64
"""Candidates of a round where nothing else is said."""


def prepare(
    tasks: Sequence[Task], log: Path, folder: Path, trials: int, target: CudaTarget, seed: int = 0
) -> int:
    """Write up to ``trials`` candidates to ``folder``, which is not there yet; how many there are.

    Those that cannot be built go to ``log`` as failures. Raises ``TuningError`` where there is
    nothing left to measure, or a folder cannot be read or written.
    """
    if not tasks:
        raise TuningError("the module has nothing to tune: no operator's rule has a choice")
    if folder.exists():
        raise TuningError(f"{folder} exists: choose another folder for this round")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise TuningError(f"{folder} cannot be written: {error}") from error
    try:
        count = _fill(tasks, log, Folder(staging / "round", target), trials, seed)
        if not count:
            raise TuningError(f"every choice was measured: the records in {log} are complete")
        (staging / "round").rename(folder)
    except OSError as error:
        raise TuningError(f"{folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(staging)
    return count


def _fill(tasks: Sequence[Task], log: Path, made: Folder, trials: int, seed: int) -> int:
    search = Search(tasks, seed)
    with Log(log) as known:
        learn(search, known.records())
        ahead = search.ahead()
        while batch := list(islice(ahead, min(BATCH, trials - len(made)))):
            blanks = [tasks[t.task].record(t.number, None, "", 0.0) for t in batch]
            kernels = [tasks[t.task].kernel(t.number) for t in batch]
            described = [_described(blank) for blank in blanks]
            errors = made.add(list(zip(kernels, described, strict=True)))
            for blank, error in zip(blanks, errors, strict=True):
                if error:
                    known.append(replace(blank, error=error))
    made.write()
    return len(made)


def _described(record: Record) -> dict[str, object]:
    """What a measurement elsewhere copies; its target is the card's there."""
    return {"workload": record.workload, "target": record.target, "rule": record.rule,
            "choice": dict(record.choice)}  # fmt: skip


def learn(search: Search, records: Sequence[Record]) -> None:
    """Tell a search what records say of its tasks, whatever card of the target they are of."""
    for number, progress in enumerate(search.tasks):
        task = progress.task
        numbers = {task.record(n, None, "", 0.0).way: n for n in range(len(task.choices))}
        found = [
            (Trial(number, numbers[record.way]), record.seconds)
            for record in records
            if record.workload == task.key
            and serves(record.target, task.machine)
            and record.way in numbers
        ]
        if found:
            search.tell(*zip(*found, strict=True))


def take(folders: Sequence[Path], log: Path) -> int:
    """Add the records of ``folders`` that are not in ``log`` yet; how many those were.

    Raises ``TuningError``.
    """
    found = [record for folder in folders for record in read(Path(folder))]
    with Log(log) as known:
        there = {record.line() for record in known.records()}
        new = {record.line(): record for record in found if record.line() not in there}
        for record in new.values():
            known.append(record)
    return len(new)
