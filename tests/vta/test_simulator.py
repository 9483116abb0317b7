"""The functional simulator: results, order of units, and errors that name the instruction."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyq_tvm.errors import ConfigError, DeviceProgramError, InputError
from hyq_tvm.vta import kernels_native
from hyq_tvm.vta.arch import DEFAULT, TINY
from hyq_tvm.vta.isa import disassemble, encode, instruction
from hyq_tvm.vta.isa.encoding import decode, from_row
from hyq_tvm.vta.isa.table import UNITS
from hyq_tvm.vta.program import Program
from hyq_tvm.vta.simulator import Simulator
from tests.vta.streams import COLUMNS, TEXT, example_input, expected, program


@pytest.mark.parametrize("priority", list(itertools.permutations(UNITS)))
@pytest.mark.parametrize("kernels", ["auto", "numpy"])
def test_a_product_in_any_order_of_units(kernels, priority):
    x = example_input()
    run = Simulator(TINY, kernels=kernels, priority=priority).run(program(), {"x": x})
    np.testing.assert_array_equal(run.outputs["y"], expected(x))


def test_counters_are_what_the_loops_say():
    counters = Simulator(TINY).run(program(), {"x": example_input()}).counters
    assert counters["macs"] == 5 * 2 * 3 * 16
    assert (counters["acc_reads"], counters["acc_writes"]) == (15 + 15, 30)
    assert counters["dram_writes"] == 4 * 5 * COLUMNS
    assert counters["dram_reads"] == 8 + 96 + 40
    assert counters["instructions_GEMM"] == 2


def test_two_runs_do_not_share_anything():
    simulator, made = Simulator(TINY), program()
    for x in (example_input(), -np.abs(example_input())):
        np.testing.assert_array_equal(simulator.run(made, {"x": x}).outputs["y"], expected(x))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"takes \['x'\]"),
        ({"x": example_input(), "z": example_input()}, "were given"),
        ({"x": example_input()[:4]}, "int8"),
        ({"x": example_input().astype(np.int16)}, "int8"),
    ],
)
def test_wrong_inputs_are_refused(inputs, message):
    with pytest.raises(InputError, match=message):
        Simulator(TINY).run(program(), inputs)


def test_another_device_is_refused():
    with pytest.raises(DeviceProgramError, match="compiled for device"):
        Simulator(DEFAULT).run(program(), {"x": example_input()})


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("length=8 push_next", "length=8", "deadlock: instruction 4 .GEMM.*token from load"),
        ("GEMM push_next", "GEMM", "deadlock: instruction 7 .STORE.*token from compute"),
        ("pop_prev push_prev memory=ACC", "pop_prev memory=ACC", "deadlock: instruction 8 .FINISH"),
        ("FINISH pop_next", "FINISH", "instruction 8 .*(ends before|tokens are left)"),
        ("GEMM push_next", "GEMM push_next push_prev", "tokens are left: 1 from compute to load"),
        ("FINISH pop_next", "FINISH pop_next push_next", "tokens are left"),
        ("init uop_begin", "uop_begin", "first: instruction 4 .*acc entry 0"),
        ("x_size=5 length=8", "x_size=4 length=8", "instruction 4 .*inp entry 8"),
        ("x_size=5 length=12", "x_size=4 length=12", "without writing all of output 'y'"),
        ("iter_in=5 dst_out=1", "iter_in=5 dst_out=2047", "instruction 4 .*destination entry"),
    ],
)
def test_illegal_streams_end_in_an_error(before, after, message):
    assert before in TEXT
    made = program(TEXT.replace(before, after))
    with pytest.raises(DeviceProgramError, match=message):
        Simulator(TINY).run(made, {"x": example_input()})


def test_a_full_queue_of_tokens_or_instructions_is_no_hang():
    push = "SET register=LOAD_PAD push_next\n" * (TINY.queue_depth + 1)
    with pytest.raises(DeviceProgramError, match="waits for room in the token queue to compute"):
        Simulator(TINY).run(program(push + "FINISH pop_next"), {"x": example_input()})
    wait = "SET register=LOAD_PAD pop_next\n" * (TINY.queue_depth + 1)
    give = "SET register=LOW push_prev\n" * (TINY.queue_depth + 1)
    with pytest.raises(DeviceProgramError, match=r"deadlock: instruction 0 .SET.*from compute"):
        Simulator(TINY).run(program(wait + give + "FINISH"), {"x": example_input()})


def test_full_queues_that_drain_are_legal():
    pair = "SET register=LOAD_PAD push_next\nSET register=LOW value=-2147483648 pop_prev\n"
    made = program(pair * 100 + TEXT)
    run = Simulator(TINY).run(made, {"x": example_input()})
    np.testing.assert_array_equal(run.outputs["y"], expected(example_input()))


def test_unknown_choices_are_refused():
    with pytest.raises(ConfigError, match="kernels='rust'"):
        Simulator(TINY, kernels="rust")
    with pytest.raises(ConfigError, match="priority"):
        Simulator(TINY, priority=("load", "load", "store"))


def test_without_a_compiler_numpy_takes_over(monkeypatch):
    def refuse():
        raise kernels_native.NativeUnavailable("no C compiler was found")

    monkeypatch.setattr(kernels_native, "_library", refuse)
    run = Simulator(TINY).run(program(), {"x": example_input()})
    assert run.kernels == "numpy"
    np.testing.assert_array_equal(run.outputs["y"], expected(example_input()))
    with pytest.raises(ConfigError, match="no C compiler"):
        Simulator(TINY, kernels="native").run(program(), {"x": example_input()})


def test_a_cache_that_others_can_write_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "hyq_tvm" / "vta"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(kernels_native.NativeUnavailable, match="can be written by others"):
        kernels_native._cache_folder()


def test_a_broken_compiler_is_unavailable(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "/bin/false")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernels_native._library.cache_clear()
    try:
        with pytest.raises(kernels_native.NativeUnavailable, match="/bin/false failed"):
            kernels_native._library()
    finally:
        kernels_native._library.cache_clear()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 127)), min_size=1, max_size=3))
def test_flipped_bits_never_hang_or_crash(flips):
    """Any change of a program is refused, or it runs to its end."""
    words = program().words.copy()
    for index, bit in flips:
        words[index, bit // 64] ^= np.uint64(1 << bit % 64)
    made = program()
    outcome = "ran"
    try:
        changed = Program(TINY, words, made.image, made.dram_bytes, made.tensors)
        Simulator(TINY).run(changed, {"x": example_input()})
    except DeviceProgramError:
        outcome = "refused"
    assert outcome == "ran" or _is_named(words, made)


def _is_named(words, made):
    with pytest.raises(DeviceProgramError, match=r"instruction|deadlock|FINISH|output"):
        Simulator(TINY).run(
            Program(TINY, words, made.image, made.dram_bytes, made.tensors),
            {"x": example_input()},
        )
    return True


def test_programs_say_what_they_do():
    rows = decode(encode([instruction("FINISH", pop_next=1)]))
    assert disassemble(from_row(rows[0])) == "FINISH pop_next"
