"""Many recipes one after the other, in a process that may crash or hang without ending the rest."""

from __future__ import annotations

import json
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.fuzzing.recipe import Recipe, random_recipe
from benchmarks.fuzzing.shrink import shrink

OK, REFUSED = "ok", "refused"
PATIENCE = 180.0
"""Seconds after which a graph counts as hanging."""
GRAPHS_A_PROCESS = 60
"""A fresh process now and then: what compiled code holds is given back."""
STEPS_LEARNED = 50
"""Of the learned scaling, a fifth of the usual: any plan will do to be compiled."""


@dataclass(frozen=True)
class Record:
    """One line of the log. verdict: ok, refused, or the kind of failure; detail: its message."""

    seed: int
    verdict: str
    detail: str = ""
    seconds: float = 0.0
    predicted_db: float = 0.0
    measured_db: float = 0.0
    vta: bool = False

    @property
    def failed(self) -> bool:
        """Whether something that must hold does not."""
        return self.verdict not in (OK, REFUSED)


class Worker:
    """A process that checks recipes; replaced when it dies, hangs or has done enough."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._process: Any = None
        self._done = 0

    def check(self, recipe: Recipe, targets: tuple[str, ...]) -> dict[str, Any]:
        """The fields of a ``Record``."""
        if self._process is None or self._done >= GRAPHS_A_PROCESS:
            self._start()
        self._done += 1
        self._pipe.send((recipe, targets))
        if not self._pipe.poll(self._patience):
            self.close()
            return {"verdict": "Hang", "detail": f"no answer after {self._patience} s"}
        try:
            return dict(self._pipe.recv())
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self.close()
            return {"verdict": "Crash", "detail": f"the process ended with {code}"}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def _start(self) -> None:
        self.close()
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._done = 0


def _serve(pipe: Any) -> None:
    from benchmarks.fuzzing.check import check
    from hyq_tvm.quantization import distribution_scaling as scaling

    scaling.learned = partial(scaling.learned, iterations=STEPS_LEARNED)
    warnings.simplefilter("ignore")
    while True:
        recipe, targets = pipe.recv()
        pipe.send(_judged(lambda r=recipe, t=targets: check(r, t)))


def _judged(run: Callable[[], Any]) -> dict[str, Any]:
    try:
        outcome = run()
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is a finding
        text = str(error).strip()
        return {"verdict": type(error).__name__, "detail": text[:300] + " ... " + text[-100:]}
    measured = {"predicted_db": outcome.predicted_db, "measured_db": round(outcome.measured_db, 2)}
    if outcome.refused:
        return {"verdict": REFUSED, "detail": outcome.refused[:300]}
    return {"verdict": OK, **measured}


def run(
    seeds: Iterable[int], log: Path, vta_every: int = 0, minutes: float | None = None
) -> Iterator[Record]:
    """Check the seeds that the log does not hold as passed; every record is logged at once.

    vta_every: also run on the accelerator's simulator for every so many seeds; 0 never.
    """
    passed = {record.seed for record in read(log) if not record.failed}
    end = None if minutes is None else time.monotonic() + 60 * minutes
    worker = Worker()
    try:
        for seed in seeds:
            if end is not None and time.monotonic() > end:
                return
            if seed not in passed:
                vta = bool(vta_every) and seed % vta_every == 0
                record = _checked(worker, seed, vta)
                _append(log, record)
                yield record
    finally:
        worker.close()


def _checked(worker: Worker, seed: int, vta: bool) -> Record:
    start = time.monotonic()
    found = worker.check(random_recipe(seed), targets(vta))
    seconds = round(time.monotonic() - start, 2)
    return Record(seed, **found, seconds=seconds, vta=vta)


def targets(vta: bool) -> tuple[str, ...]:
    """Where a graph runs."""
    return ("llvm", "vta") if vta else ("llvm",)


def read(log: Path) -> list[Record]:
    """The latest record of every seed."""
    if not log.exists():
        return []
    lines = log.read_text(encoding="utf-8").splitlines()
    records = (Record(**json.loads(line)) for line in lines if _whole(line))
    return list({record.seed: record for record in records}.values())


def reproduce(record: Record, folder: Path) -> Path:
    """Shrink a failure to a file of the folder that fails in the same way."""
    worker = Worker()

    def fails(recipe: Recipe) -> bool:
        return bool(worker.check(recipe, targets(record.vta))["verdict"] == record.verdict)

    try:
        small = shrink(random_recipe(record.seed), fails)
    finally:
        worker.close()
    path = folder / f"{record.verdict.lower()}-{record.seed}.json"
    small.save(path)
    return path


def _whole(line: str) -> bool:
    """Not what is left of a line when the machine goes down."""
    return line.startswith("{") and line.endswith("}")


def _append(log: Path, record: Record) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    torn = log.exists() and not log.read_bytes().endswith(b"\n")
    with log.open("a", encoding="utf-8") as file:
        file.write("\n" * torn + json.dumps(asdict(record)) + "\n")
