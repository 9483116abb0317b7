"""Tuning the accelerator's tiles with its cycle model, into records like every target's."""

from __future__ import annotations

import numpy as np
import pytest
import tvm

import hyq_tvm
from hyq_tvm import targets
from hyq_tvm.errors import TuningError
from hyq_tvm.quantization.lowering import lower
from hyq_tvm.targets.vta_records import RULE, chooser, machine_key, workload
from hyq_tvm.tuning import accelerator
from hyq_tvm.vta.arch import DEFAULT, TINY
from hyq_tvm.vta.codegen import compile_operations
from hyq_tvm.vta.codegen.choices import OWN, TileChoice, space
from relay_passes.quantize_graph import emit_program
from relay_passes.read_program import golden, read_program
from schedules.recorded import Record, read, workload_key
from tests.quantization.lowering.planning import minmax_plan, residual_block
from tests.vta.operations import check, operation, random_array, tensor
from tests.vta.test_codegen_convolution import conv2d


@pytest.fixture(scope="module")
def module() -> tvm.IRModule:
    rng = np.random.default_rng(11)
    graph = residual_block(rng)
    x = rng.normal(size=(2, 6, 6, 12)).astype(np.float32)
    plan = minmax_plan(graph, x, wide=("x", "sum", "out"))
    return emit_program(lower(graph, plan), plan)


@pytest.fixture(scope="module")
def target():
    return targets.resolve("vta")[1]


def test_tuning_writes_records_that_compile_reads(module, tmp_path):
    folder = hyq_tvm.tune(module, "vta", tmp_path / "records", trials=30, progress=False)
    found = read(folder)
    assert len(found) == 30
    assert {record.rule for record in found} == {RULE}
    assert {record.target for record in found} == {machine_key(DEFAULT)}
    assert all(record.seconds and not record.error for record in found)
    again = hyq_tvm.tune(module, "vta", folder, trials=30, progress=False)
    assert read(again) == found
    made = hyq_tvm.compile(module, target="vta", records=folder)
    x = np.random.default_rng(1).normal(size=(2, 6, 6, 12)).astype(np.float32)
    np.testing.assert_array_equal(made(x), golden(module)(x)[0])


def test_equal_operators_are_one_task(module, target):
    tasks = accelerator.extract(module, target)
    operations = [o for o in read_program(module).instructions if o.op not in ("dequantize",)]
    assert 0 < len(tasks) <= len(operations)
    assert len({task.key for task in tasks}) == len(tasks)
    assert all(task.choices[0] == OWN for task in tasks)


def test_the_fastest_recorded_choice_is_taken(tmp_path):
    op, _ = conv2d(3, (1, 40, 40, 32), 32, (1, 1), (1, 1), (0, 0, 0, 0))
    key, machine = workload_key(workload(op)), machine_key(DEFAULT)
    plain = compile_operations([op], ["y"], DEFAULT)
    write(tmp_path, Record(key, machine, RULE, {"rows": 1, "chunk": 1, "rank": 0}, 2.0))
    write(tmp_path, Record(key, machine, RULE, {"rows": 4, "chunk": 1, "rank": 0}, 1.0))
    write(tmp_path, Record(key, machine, RULE, {"rows": 3, "chunk": 1, "rank": 0}, 3.0))
    choose = chooser(tmp_path, DEFAULT)
    assert choose(op) == TileChoice(rows=4)
    tuned = compile_operations([op], ["y"], DEFAULT, choose=choose)
    assert tuned.count("GEMM") > 2 * plain.count("GEMM")
    assert chooser(tmp_path, TINY)(op) == OWN


@pytest.mark.parametrize(
    ("rule", "choice"),
    [
        (RULE, {"rows": 77, "chunk": 1, "rank": 0}),
        (RULE, {"rows": 2}),
        ("another.rule", {"rows": 2, "chunk": 1, "rank": 0}),
    ],
)
def test_records_that_do_not_fit_are_passed_over(tmp_path, rule, choice):
    op, _ = conv2d(3, (1, 40, 40, 32), 32, (1, 1), (1, 1), (0, 0, 0, 0))
    key, machine = workload_key(workload(op)), machine_key(DEFAULT)
    write(tmp_path, Record(key, machine, rule, choice, 1.0))
    assert chooser(tmp_path, DEFAULT)(op) == OWN


def test_choices_that_do_not_fit_the_buffers_are_failures():
    op, _ = conv2d(4, (1, 8, 8, 6000), 4, (1, 1), (1, 1), (0, 0, 0, 0))
    (_, timing), *_ = accelerator.CycleMeasurer(TINY).measure(
        [accelerator._kernel(workload(op), None, OWN)]
    )
    assert timing.seconds is None
    assert "buffer" in timing.error


def test_every_choice_computes_the_same():
    op, values = conv2d(5, (1, 13, 9, 20), 40, (3, 3), (1, 1), (1, 1, 1, 1), table=True)
    check_choices(op, values)
    pointwise, values = conv2d(6, (1, 13, 9, 20), 40, (1, 1), (1, 1), (0, 0, 0, 0))
    check_choices(pointwise, values)
    rng = np.random.default_rng(0)
    values = {"x": random_array(rng, (30, 4, 50))}
    params = {"shape": [50, 4, 30], "strides": [1, 50, 200], "offset": 0}
    check_choices(operation("view", [tensor("x", values["x"])], params, values), values)


def check_choices(op, values):
    assert len(space(op)) > 1
    for choice in space(op):
        check([op], values, [TINY], choose=lambda _, c=choice: c)


def test_a_tracker_has_nothing_to_measure(module, tmp_path):
    with pytest.raises(TuningError, match="leave the tracker out"):
        hyq_tvm.tune(module, "vta", tmp_path, trials=1, tracker="localhost:9190", key="a")


def write(folder, record):
    with folder.joinpath("some.jsonl").open("a", encoding="utf-8") as file:
        file.write(record.line())
