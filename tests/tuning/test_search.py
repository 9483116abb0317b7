"""The search: every choice in the end, good ones early, the same way for the same seed."""

import numpy as np
import pytest
import tvm

from hyq_tvm.errors import TuningError
from hyq_tvm.tuning import extract
from hyq_tvm.tuning.cost_model import CostModel
from hyq_tvm.tuning.search import BATCH, Search
from schedules.application import workloads
from tests.tuning.networks import TARGET, block


@pytest.fixture(scope="module")
def tasks():
    return extract(block()[0], TARGET)


def smooth(task, number):
    """Time with a single valley, as a cost model can learn it."""
    sizes = np.log2(1 + np.array([*vars(task.choices[number]).values()], float))
    return 1e-6 * float(np.exp(np.abs(sizes - sizes.size / 2).sum()))


def explore(tasks, seed, batches):
    search, path = Search(tasks, seed), []
    for number, batch in enumerate(search.batches()):
        if number == batches:
            break
        path += batch
        search.tell(batch, [smooth(tasks[t.task], t.number) for t in batch])
    return search, path


def test_operators_that_are_alike_are_one_task(tasks):
    keys = [task.key for task in tasks]
    assert len(set(keys)) == len(keys) == 4
    assert {task.rule.name for task in tasks} == {"dense", "depthwise"}
    assert sum(task.count for task in tasks) == 4


def test_two_layers_of_one_kind_count_twice(monkeypatch):
    module = block()[0]
    twice = [w for w in workloads(module) for _ in range(2)]
    monkeypatch.setattr("schedules.application.workloads", lambda module: twice)
    assert {task.count for task in extract(module, TARGET)} == {2}


def test_a_target_without_choices_is_refused():
    with pytest.raises(TuningError, match="'c'"):
        extract(block()[0], tvm.target.Target("c"))


def test_the_rules_own_choices_come_first(tasks):
    _, path = explore(tasks, 0, 1)
    assert [(t.task, t.number) for t in path] == [(i, 0) for i in range(len(tasks))]


def test_the_same_seed_goes_the_same_way_and_another_one_another(tasks):
    first, second, other = (explore(tasks, seed, 12)[1] for seed in (0, 0, 1))
    assert first == second != other


def test_every_choice_is_measured_in_the_end(tasks):
    search, path = explore(tasks, 0, None)
    assert all(not progress.left for progress in search.tasks)
    assert {(t.task, t.number) for t in path} == {
        (i, n) for i, task in enumerate(tasks) for n in range(len(task.choices))
    }
    optimum = [min(smooth(t, n) for n in range(len(t.choices))) for t in tasks]
    assert search.seconds[1] == pytest.approx(sum(optimum))


def test_the_model_finds_good_choices_with_a_fraction_of_the_measurements(tasks):
    search, path = explore(tasks, 0, 16)
    assert len(path) <= 16 * BATCH < sum(len(t.choices) for t in tasks) / 4
    for progress in search.tasks:
        times = sorted(smooth(progress.task, n) for n in range(len(progress.task.choices)))
        found = smooth(progress.task, progress.best)
        assert found <= times[len(times) // 50]


def test_failures_are_never_best_and_never_tried_again(tasks):
    search = Search(tasks[:1], 0)
    tried = []
    for batch in search.batches():
        tried += [t.number for t in batch if t.number]
        search.tell(batch, [1e-5 if t.number % 2 == 0 else None for t in batch])
    assert search.tasks[0].best % 2 == 0
    failures = [n for n in tried if n % 2]
    assert len(failures) == len(set(failures)) > 0


def test_time_is_spent_where_time_is(tasks):
    """Of two tasks that both gain with every batch, the slow one is searched more."""
    search = Search(tasks[2:4], 0)
    spent = [0, 0]
    for turns, batch in enumerate(search.batches()):
        if turns == 20:
            break
        for trial in batch:
            spent[trial.task] += 1
        search.tell(batch, [(1e-3, 1e-5)[t.task] * 0.9**turns for t in batch])
    assert spent[0] > 4 * spent[1]


def test_cost_models_learn_ratios_and_repeat_themselves():
    generator = np.random.default_rng(0)
    features = generator.uniform(0, 4, (200, 3))
    ratios = np.exp(features[:, 0] - features[:, 1])
    models = [CostModel(seed=5), CostModel(seed=5)]
    assert not models[0].predict(np.ones((1, 3))).any()
    for model in models:
        for row, ratio in zip(features, ratios, strict=True):
            model.add(row, ratio)
    held = generator.uniform(0, 4, (50, 3))
    first, second = (model.predict(held) for model in models)
    np.testing.assert_array_equal(first, second)
    assert np.corrcoef(first, held[:, 0] - held[:, 1])[0, 1] > 0.95
