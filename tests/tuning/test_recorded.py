"""Records: their files, the keys under which they are found, and which one is used."""

import json
import logging
from dataclasses import asdict, replace

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import relax

import schedules
from hyq_tvm.errors import TuningError
from relay_passes.read_program import golden
from schedules import recorded
from schedules.application import TUNABLES, workloads
from schedules.recorded import Record, Records, fastest, read, target_key, workload_key
from tests.tuning.networks import TARGET, block

RECORD = Record("work", "llvm/cpu/isa/2", "dense", {"rows": 3, "tasks": 1}, 1.5e-5, cost=0.25)
DENSE = TUNABLES["llvm"][0]


@pytest.fixture(scope="module")
def network():
    return block()


@pytest.fixture
def nothing_shipped(monkeypatch, tmp_path):
    recorded._shipped.cache_clear()
    monkeypatch.setattr(recorded, "SHIPPED", tmp_path / "none")
    yield
    recorded._shipped.cache_clear()


def first_conv(module):
    return next(w for w in workloads(module) if w.op == "conv2d")


def record_of(workload, number, seconds=1e-6, target=TARGET):
    choice = asdict(DENSE.space(workload, target)[number])
    return Record(workload_key(workload), target_key(target), "dense", choice, seconds)


def test_lines_round_trip(tmp_path):
    records = [RECORD, replace(RECORD, seconds=None, error="line\nbreak")]
    (tmp_path / "a.jsonl").write_text("".join(r.line() for r in records))
    assert read(tmp_path) == records


@pytest.mark.parametrize(
    "change",
    [{"seconds": 0}, {"seconds": -1.0}, {"seconds": float("nan")}, {"seconds": "fast"},
     {"choice": {"rows": 1.5}}, {"choice": {"rows": True}}, {"choice": [1]}, {"workload": 1},
     {"cost": None}, {"cost": float("inf")}, {"more": 1}],
)  # fmt: skip
def test_a_line_that_is_no_record_is_named(tmp_path, change):
    file = tmp_path / "a.jsonl"
    file.write_text(RECORD.line() + json.dumps({**asdict(RECORD), **change}) + "\n")
    with pytest.raises(TuningError, match=f"{file}, line 2"):
        read(tmp_path)


@pytest.mark.parametrize("line", ["nonsense", "[]", "{}", "3", '{"workload": "w"'])
def test_damage_before_the_end_is_an_error_and_a_torn_end_is_none(tmp_path, line):
    file = tmp_path / "a.jsonl"
    file.write_text(RECORD.line() + line)
    assert read(tmp_path) == [RECORD]
    file.write_text(line + "\n" + RECORD.line())
    with pytest.raises(TuningError, match="line 1"):
        read(tmp_path)


def test_a_whole_last_line_without_its_end_counts(tmp_path):
    (tmp_path / "a.jsonl").write_text(RECORD.line().rstrip())
    assert read(tmp_path) == [RECORD]


def test_no_folder_and_no_text(tmp_path):
    with pytest.raises(TuningError, match="no folder"):
        read(tmp_path / "absent")
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(TuningError, match=r"a\.jsonl cannot be read"):
        read(tmp_path)


def test_the_fastest_measurement_of_a_choice_counts_and_failures_do_not():
    other = replace(RECORD, choice={"rows": 4, "tasks": 1}, seconds=1.2e-5)
    failed = replace(RECORD, choice={"rows": 5, "tasks": 1}, seconds=None, error="crashed")
    again = replace(RECORD, seconds=1.1e-5)
    assert fastest([RECORD, other, failed, again])[RECORD.key] == [again, other]


def test_keys_say_what_matters_for_speed_and_nothing_else(network):
    first, second = [w for w in workloads(network[0]) if w.op == "conv2d"][:2]
    key = workload_key(first)
    assert key != workload_key(second)
    stages = [{**first.params["epilogue"][0], "zero_point": 99, "low": 0}]
    moved = replace(first, params={**first.params, "pad_value": 5,
                                   "epilogue": stages + first.params["epilogue"][1:]})  # fmt: skip
    assert workload_key(moved) == key
    assert workload_key(replace(first, params={**first.params, "strides": (2, 2)})) != key
    data = [replace(a, constant=None) for a in first.arguments]
    assert workload_key(replace(first, arguments=tuple(data))) != key


def test_target_keys_tell_processor_instructions_and_threads():
    assert target_key(TARGET) == "llvm/haswell/avx2/2"
    assert target_key(tvm.target.Target("llvm")).startswith("llvm/generic/")


def test_records_choose_kernels_and_results_stay(network, nothing_shipped, tmp_path):
    module, x = network
    workload = first_conv(module)
    last = len(DENSE.space(workload, TARGET)) - 1
    lines = record_of(workload, 0, 2e-6).line() + record_of(workload, last).line()
    (tmp_path / "a.jsonl").write_text(lines)
    plain, tuned = schedules.apply(module, TARGET), schedules.apply(module, TARGET, tmp_path)
    assert not tvm_ffi.structural_equal(plain, tuned)
    for scheduled in (plain, tuned):
        machine = relax.VirtualMachine(tvm.compile(scheduled, TARGET), tvm.cpu())
        np.testing.assert_array_equal(
            machine["main"](tvm.runtime.tensor(x)).numpy(), golden(module)(x)[0]
        )


@pytest.mark.parametrize(
    "change",
    [{"choice": {"rows": 10_000}}, {"choice": {}}, {"rule": "gone"}, {"rule": "attention"}],
)
def test_a_record_that_no_longer_fits_is_skipped_with_one_line(network, caplog, change):
    workload = first_conv(network[0])
    good, bad = record_of(workload, 3, 2e-6), replace(record_of(workload, 3), **change)
    with caplog.at_level(logging.WARNING, "hyq_tvm.tuning"):
        records = Records([bad, good])
        kernel, again = (records.kernel(workload, TARGET, TUNABLES["llvm"]) for _ in range(2))
    assert [r.message.count("\n") for r in caplog.records] == [0]
    assert "no longer fits" in caplog.text
    want = DENSE.schedule(workload, TARGET, DENSE.space(workload, TARGET)[3])
    assert kernel.function.script() == again.function.script() == want.function.script()


def test_without_records_the_rule_decides(network, nothing_shipped):
    workload = first_conv(network[0])
    assert Records().kernel(workload, TARGET, TUNABLES["llvm"]) is None
    assert tvm_ffi.structural_equal(
        schedules.apply(network[0], TARGET, Records()), schedules.apply(network[0], TARGET)
    )


def test_a_users_records_come_before_shipped_ones(network, monkeypatch, tmp_path):
    workload = first_conv(network[0])
    own, shipped = record_of(workload, 3, 9e-6), record_of(workload, 4, 1e-6)
    for name, record in (("own", own), ("shipped", shipped)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jsonl").write_text(record.line())
    recorded._shipped.cache_clear()
    monkeypatch.setattr(recorded, "SHIPPED", tmp_path / "shipped")
    try:
        assert Records.load(tmp_path / "own").find(workload, TARGET) == [own]
        assert Records.load(None).find(workload, TARGET) == [shipped]
    finally:
        recorded._shipped.cache_clear()


def test_records_of_other_numbers_of_threads_or_processors_do_not_serve(network):
    workload = first_conv(network[0])
    for options in ({"mcpu": "haswell", "num-cores": 1}, {"mcpu": "skylake", "num-cores": 2}):
        other = tvm.target.Target({"kind": "llvm", **options})
        assert not Records([record_of(workload, 2, target=other)]).find(workload, TARGET)
        assert Records([record_of(workload, 2, target=other)]).find(workload, other)
