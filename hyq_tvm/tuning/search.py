"""The search: which choice of which task to measure next.

It is a function of the seed and of what was measured, and of nothing else: a tuner that starts
again with the measurements of a killed one goes the same way, without measuring them again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.tuning.cost_model import CostModel
from hyq_tvm.tuning.tasks import Task

BATCH = 8
"""Measurements between two looks at the cost model."""

_RANDOM = 2  # of a batch
_OWN = 0  # number of the rule's own choice
_GAIN = 0.995
_PATIENCE = 0.5
_HOPE = 0.02
"""The part of a task's time that may be saved where the model predicts nothing."""


@dataclass(frozen=True)
class Trial:
    """Choice ``number`` of task ``task``, to be measured."""

    task: int
    number: int


@dataclass
class Progress:
    """What is known of a task.

    seconds: the fastest measurement of each choice; None for a choice that fails. stale: batches
    since the last gain.
    """

    task: Task
    seconds: dict[int, float | None] = field(default_factory=dict)
    stale: int = 0

    @property
    def best(self) -> int:
        """The fastest choice; the rule's own before anything ran."""
        ran = [(seconds, n) for n, seconds in self.seconds.items() if seconds is not None]
        return min(ran)[1] if ran else _OWN

    @property
    def total(self) -> float:
        """Seconds of all its operators with the best choice; 0 before anything ran."""
        return self.task.count * (self.seconds.get(self.best) or 0.0)

    @property
    def own(self) -> float:
        """Seconds of all its operators with the rule's own choice; 0 where that did not run."""
        return self.task.count * (self.seconds.get(_OWN) or 0.0)

    def add(self, number: int, seconds: float | None) -> None:
        """One measurement; noise only ever adds time, so the fastest one counts."""
        before = self.seconds.get(number)
        if before is None or (seconds is not None and seconds < before):
            self.seconds[number] = seconds

    @property
    def left(self) -> list[int]:
        """Choices never measured."""
        return [n for n in range(len(self.task.choices)) if n not in self.seconds]


class Search:
    """Proposes trials in batches and learns from their times."""

    def __init__(self, tasks: Sequence[Task], seed: int) -> None:
        self.tasks = [Progress(task) for task in tasks]
        self._seed = seed
        self._batches = 0
        self._models: dict[str, CostModel] = {}

    def batches(self) -> Iterator[list[Trial]]:
        """Batches until every choice was measured; each must be told before the next is asked."""
        for start in range(0, len(self.tasks), BATCH):
            stop = min(start + BATCH, len(self.tasks))
            yield [Trial(i, _OWN) for i in range(start, stop)]
        while (number := self._next_task()) is not None:
            self._batches += 1
            yield self._batch(number)

    def ahead(self) -> Iterator[Trial]:
        """Choices never measured, the best ones first, where no times come back between them.

        The rules' own choices, then batches of tasks in turn: a task's worth is halved for every
        batch that it had.
        """
        yield from (Trial(i, _OWN) for i, p in enumerate(self.tasks) if _OWN in p.left)
        told = sum(len(p.seconds) for p in self.tasks)
        orders = [deque(self._order(i, told)) for i in range(len(self.tasks))]
        worths = [self._worth(p) for p in self.tasks]
        while any(orders):
            number = max((i for i, o in enumerate(orders) if o), key=lambda i: (worths[i], -i))
            worths[number] *= _PATIENCE
            for _ in range(min(BATCH, len(orders[number]))):
                yield Trial(number, orders[number].popleft())

    def tell(self, trials: Sequence[Trial], times: Sequence[float | None]) -> None:
        """The seconds of a batch, None for choices that failed."""
        before = {trial.task: self.tasks[trial.task].total for trial in trials}
        for trial, seconds in zip(trials, times, strict=True):
            self.tasks[trial.task].add(trial.number, seconds)
        for number, total in before.items():
            progress = self.tasks[number]
            progress.stale = (
                0 if progress.total < total * _GAIN or not total else progress.stale + 1
            )
            self._learn(progress, [t.number for t in trials if t.task == number])

    @property
    def seconds(self) -> tuple[float, float]:
        """Of all tasks together: with the rules' own choices, and with the best ones."""
        return sum(p.own for p in self.tasks), sum(p.total for p in self.tasks)

    def _order(self, number: int, told: int) -> list[int]:
        """A task's choices never measured: the fastest in prediction, now and then any."""
        progress = self.tasks[number]
        generator = np.random.default_rng([self._seed, told, number])
        left = generator.permutation([n for n in progress.left if n != _OWN]).tolist()
        if not left:
            return []
        predicted = self._model(progress.task).predict(progress.task.features[left])
        best = deque(left[i] for i in np.argsort(predicted, kind="stable"))
        any_ = deque(left)
        order: dict[int, None] = {}
        while best:
            source = any_ if len(order) % BATCH >= BATCH - _RANDOM else best
            if source:
                order.setdefault(int(source.popleft()))
            else:
                order.update(dict.fromkeys(best))
                best.clear()
        return list(order)

    def _worth(self, progress: Progress) -> float:
        """What may be won; of a task that never ran as much as of the others on average."""
        known = [p.total for p in self.tasks if p.total]
        mean = sum(known) / len(known) if known else 1.0
        return (progress.total or mean) * (_HOPE + self._gain(progress))

    def _next_task(self) -> int | None:
        """The task with the most time to win: slow, not stale, and with promising choices."""
        worth = [
            (p.total * (_HOPE + self._gain(p)) * _PATIENCE ** min(p.stale, 20), -i)
            for i, p in enumerate(self.tasks)
            if p.left
        ]
        return -max(worth)[1] if worth else None

    def _gain(self, progress: Progress) -> float:
        """The part of a task's time that the best choice is predicted to save, of those left."""
        best, own = progress.total, progress.own
        if not best or not own or not progress.left:
            return 0.0
        ratio = float(np.exp(self._predicted(progress).min())) * own / best
        return max(0.0, 1.0 - ratio)

    def _predicted(self, progress: Progress) -> NDArray[np.float64]:
        """For every choice left, the logarithm of its time over that of the rule's own."""
        return self._model(progress.task).predict(progress.task.features[progress.left])

    def _batch(self, number: int) -> list[Trial]:
        """The best choice and the rule's own once more, so that luck does not decide; new ones."""
        progress = self.tasks[number]
        again = sorted({_OWN, progress.best})
        left = progress.left
        order = [left[i] for i in np.argsort(self._predicted(progress), kind="stable")]
        generator = np.random.default_rng([self._seed, self._batches])
        room = BATCH - len(again)
        chosen = order[: room - _RANDOM]
        others = order[room - _RANDOM :]
        picked = generator.permutation(len(others))[:_RANDOM]
        return [Trial(number, n) for n in [*again, *chosen, *(others[i] for i in picked)]]

    def _learn(self, progress: Progress, numbers: Sequence[int]) -> None:
        own = progress.seconds.get(_OWN)
        if own is None:
            return
        model = self._model(progress.task)
        for number in numbers:
            seconds = progress.seconds[number]
            if seconds is not None:
                model.add(progress.task.features[number], seconds / own)

    def _model(self, task: Task) -> CostModel:
        return self._models.setdefault(task.rule.name, CostModel(self._seed))
