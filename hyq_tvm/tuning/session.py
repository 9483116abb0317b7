"""A tuning: the search, what measures for it, and the folder that keeps what was measured."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from hyq_tvm.errors import TuningError
from hyq_tvm.tuning.log import Log
from hyq_tvm.tuning.measure import Measurer, Timing
from hyq_tvm.tuning.search import Search, Trial
from hyq_tvm.tuning.tasks import Task
from schedules.recorded import Record


@dataclass(frozen=True)
class Budget:
    """When to stop: after so many minutes or measurements, whichever comes first.

    What a killed tuner measured into the same folder counts, so that the same command ends where
    it would have ended.
    """

    minutes: float | None = 30
    trials: int | None = None

    def __post_init__(self) -> None:
        if self.minutes is None and self.trials is None:
            raise TuningError("a tuning without end: give minutes or trials")
        if (self.minutes is not None and not self.minutes > 0) or (
            self.trials is not None and self.trials < 1
        ):
            raise TuningError(f"minutes={self.minutes}, trials={self.trials}: must be positive")

    def room(self, point: Point) -> int | None:
        """How many measurements may follow; None for any number."""
        if self.minutes is not None and point.clock >= 60 * self.minutes:
            return 0
        return None if self.trials is None else self.trials - point.trials


@dataclass(frozen=True)
class Point:
    """The state after a measurement.

    clock: seconds of measuring so far. trials: measurements. own, best: seconds of all tuned
    operators together, with the rules' own choices and with the best ones found; 0 before each
    was measured once.
    """

    clock: float = 0.0
    trials: int = 0
    own: float = 0.0
    best: float = 0.0


Report = Callable[[Point], None]


def run(
    tasks: Sequence[Task],
    folder: Path,
    budget: Budget,
    measuring: Callable[[], AbstractContextManager[Measurer]],
    seed: int = 0,
    report: Report = lambda point: None,
) -> Point:
    """Search until the budget is spent or every choice measured; records go to ``folder``.

    measuring: opens what measures; called once, and only if something has to be measured.
    Raises ``TuningError``.
    """
    if not tasks:
        raise TuningError("the module has nothing to tune: no operator's rule has a choice")
    search, point = Search(tasks, seed), Point()
    with Log(folder) as log, _Source(tasks, log, measuring) as source:
        for batch in search.batches():
            room = budget.room(point)
            trials = batch if room is None else batch[:room]
            times: dict[int, float | None] = {}
            for number, record in source.records(trials):
                times[number] = record.seconds
                point = Point(point.clock + record.cost, point.trials + 1, point.own, point.best)
                report(point)
            if not trials:
                break
            search.tell(trials, [times[i] for i in range(len(trials))])
            if all(progress.seconds for progress in search.tasks):
                point = Point(point.clock, point.trials, *search.seconds)
                report(point)
    return point


class _Source:
    """Records of trials: those of the folder first, in their order, then measured ones."""

    def __init__(
        self,
        tasks: Sequence[Task],
        log: Log,
        measuring: Callable[[], AbstractContextManager[Measurer]],
    ) -> None:
        self._tasks = tasks
        self._log = log
        self._measuring = measuring
        self._measurer: Measurer | None = None
        self._stack = ExitStack()
        self._known: dict[Any, deque[Record]] = {}
        for record in log.records():
            self._known.setdefault((record.key, record.way), deque()).append(record)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stack.close()

    def records(self, trials: Sequence[Trial]) -> Iterator[tuple[int, Record]]:
        """Number and record of each trial, written down before it is given."""
        missing = []
        for i, trial in enumerate(trials):
            blank = self._tasks[trial.task].record(trial.number, None, "", 0.0)
            known = self._known.get((blank.key, blank.way))
            if known:
                yield i, known.popleft()
            else:
                missing.append(i)
        if missing:
            yield from self._measured(trials, missing)

    def _measured(
        self, trials: Sequence[Trial], missing: Sequence[int]
    ) -> Iterator[tuple[int, Record]]:
        start = time.monotonic()
        if self._measurer is None:
            self._measurer = self._stack.enter_context(self._measuring())
        wanted = [trials[i] for i in missing]
        kernels = [self._tasks[t.task].kernel(t.number) for t in wanted]
        for i, timing in self._measurer.measure(kernels):
            now = time.monotonic()
            record = self._record(wanted[i], timing, now - start)
            start = now
            self._log.append(record)
            yield missing[i], record

    def _record(self, trial: Trial, timing: Timing, cost: float) -> Record:
        task = self._tasks[trial.task]
        return task.record(trial.number, timing.seconds, timing.error, round(cost, 3))


class Bar:
    """Best-so-far and time left on a terminal, nothing elsewhere; ``report`` for ``run``."""

    def __init__(self, budget: Budget, show: bool = True) -> None:
        by_trials = budget.trials is not None
        self._trials = by_trials
        self._bar = tqdm(
            total=budget.trials if by_trials else round(60 * (budget.minutes or 0)),
            unit="trial" if by_trials else "s",
            desc="tuning",
            disable=None if show else True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._bar.close()

    def __call__(self, point: Point) -> None:
        """Move to ``point``."""
        if point.best:
            times = f"{point.own * 1e3:.3f} -> {point.best * 1e3:.3f} ms"
            self._bar.set_postfix_str(times, refresh=False)
        place = point.trials if self._trials else min(round(point.clock), self._bar.total)
        self._bar.update(place - self._bar.n)
