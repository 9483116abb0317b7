"""Random hybrids: what is compiled equals the golden model, and that is near to PyTorch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzzing import campaign
from benchmarks.fuzzing.blocks import BLOCKS, build
from benchmarks.fuzzing.check import Mismatch, check
from benchmarks.fuzzing.recipe import KINDS, Recipe, Step, random_recipe
from benchmarks.fuzzing.shrink import shrink

REPRODUCERS = sorted(Path(__file__).with_name("reproducers").glob("*.json"))
QUICK = range(10_000, 10_012)
pytestmark = pytest.mark.filterwarnings("ignore:computed by the CPU")


@pytest.mark.parametrize("seed", QUICK)
def test_a_random_hybrid_is_compiled_exactly(seed):
    outcome = check(random_recipe(seed))
    assert not outcome.refused


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(11_000, 11_040))
def test_more_random_hybrids_on_both_targets(seed):
    assert not check(random_recipe(seed), ("llvm", "vta")).refused


@pytest.mark.parametrize("path", REPRODUCERS, ids=lambda path: path.stem)
def test_what_once_failed_does_not_fail_again(path):
    targets = campaign.targets(path.stem.startswith("vta"))
    assert not check(Recipe.from_json(path.read_text()), targets).refused


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_block_computes_the_same_in_relax_and_in_pytorch(kind):
    from hyq_tvm.quantization.float_executor import FloatExecutor
    from relay_passes.extract_graph import extract_graph

    recipe = Recipe(7, 2, 6, 5, 4, "as_is", (Step(1, kind, 0, 0, 11), Step(2, kind, 1, 0, 12)))
    network, module = build(recipe)
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 4)).astype(np.float32)
    for ours, theirs in zip(
        FloatExecutor(extract_graph(module)).run(x), network.run(x), strict=True
    ):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-3, atol=1e-4)


def test_a_recipe_survives_its_file():
    recipe = random_recipe(5)
    assert Recipe.from_json(recipe.to_json()) == recipe
    with pytest.raises(ValueError, match="version"):
        Recipe.from_json(recipe.to_json().replace('"version": 1', '"version": 2'))


def test_recipes_are_of_their_seed_and_differ():
    assert random_recipe(1) == random_recipe(1)
    assert len({random_recipe(seed).to_json() for seed in range(50)}) == 50
    assert {step.kind for seed in range(300) for step in random_recipe(seed).steps} == set(BLOCKS)


def test_any_step_can_be_taken_out():
    recipe = random_recipe(10_003)
    for gone in recipe.steps:
        kept = tuple(step for step in recipe.steps if step is not gone)
        network, _ = build(replace(recipe, steps=kept))
        x = np.zeros(network.input.shape, np.float32)
        assert all(np.isfinite(output).all() for output in network.run(x))


def test_shrinking_keeps_what_fails():
    culprit = Step(9, "softmax", 0, 0, 1)
    recipe = random_recipe(10_001)
    big = replace(recipe, steps=(*recipe.steps, culprit), batch=8, height=13)
    small = shrink(big, lambda r: culprit in r.steps)
    assert small.steps == (culprit,)
    assert (small.batch, small.channels, small.height, small.width) == (1, 1, 1, 1)
    assert small.head == "as_is"


def test_a_mismatch_is_found_and_named(monkeypatch):
    monkeypatch.setattr(
        "hyq_tvm.executable.Executable.__call__", lambda self, x: np.zeros((1, 1), np.float32)
    )
    with pytest.raises(Mismatch, match="llvm, run 0, output 0"):
        check(random_recipe(QUICK[0]))


class Content:
    """A worker whom every recipe pleases."""

    def check(self, recipe, targets):
        return {"verdict": "ok"}

    def close(self):
        pass


def test_a_campaign_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(campaign, "Worker", Content)
    log = tmp_path / "log.jsonl"
    first = list(campaign.run(range(10_000, 10_001), log))
    assert [(r.seed, r.verdict) for r in first] == [(10_000, "ok")]
    with log.open("a") as file:
        file.write('{"seed": 3, "verd')  # the machine went down in the middle of a line
    again = list(campaign.run(range(10_000, 10_002), log))
    assert [r.seed for r in again] == [10_001]
    assert [r.seed for r in campaign.read(log)] == [10_000, 10_001]


@pytest.mark.parametrize("failure", ["crash", "hang"])
def test_a_crash_and_a_hang_are_findings(monkeypatch, failure):
    worker = campaign.Worker(patience=60 if failure == "crash" else 0.0)
    monkeypatch.setattr(campaign, "_serve", _dies if failure == "crash" else campaign._serve)
    found = worker.check(random_recipe(QUICK[0]), ("llvm",))
    worker.close()
    assert found["verdict"] == failure.capitalize()


def _dies(pipe):
    import os

    pipe.recv()
    os._exit(7)
