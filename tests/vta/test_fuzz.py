"""Streams that nobody would write: each ends in a result or in an error with its instruction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyq_tvm.errors import DeviceProgramError
from hyq_tvm.vta.arch import DEFAULT, TINY
from hyq_tvm.vta.codegen import compile_operations
from hyq_tvm.vta.driver import Control, Register, Session, SimulatedDevice, State
from hyq_tvm.vta.driver.protocol import program_address
from hyq_tvm.vta.faults import FaultCode, StreamError
from hyq_tvm.vta.isa import decode, encode, instruction
from hyq_tvm.vta.isa.encoding import check, from_row, unit_of
from hyq_tvm.vta.isa.table import FUNCTIONS, neighbours
from hyq_tvm.vta.program import Program
from hyq_tvm.vta.simulator import Simulator
from hyq_tvm.vta.timing import time_program
from tests.vta.machines import random_gemm, random_softmax, random_transfer, random_vector
from tests.vta.operations import constant, operation, random_array, requantize, stages, tensor
from tests.vta.streams import example_input, program

words = st.lists(st.integers(0, 2**128 - 1), min_size=1, max_size=8)
flips = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 127)), min_size=1, max_size=4)
MASK = 2**64 - 1
CASES = 3000


def as_words(values):
    return np.array([(v & MASK, v >> 64) for v in values], np.uint64)


def flipped(original, places):
    """Words with some bits changed."""
    changed = original.copy()
    for index, bit in places:
        changed[index % len(changed), bit // 64] ^= np.uint64(1 << bit % 64)
    return changed


def outcome(run):
    """What a run made, or where it stopped; nothing else may come out of it."""
    try:
        return "done", run()
    except StreamError as error:
        stopped = error
    assert stopped.code is not FaultCode.NONE
    text = str(stopped)
    assert f"instruction {stopped.index}" in text or "truncated" in text or "deadlock" in text
    return "stopped", stopped.index


@given(words)
def test_words_are_decoded_or_refused_by_number(values):
    given_words = as_words(values)
    state, found = outcome(lambda: decode(given_words))
    if state != "done":
        assert state == "stopped"
        assert 0 <= found < len(values)
        return
    again = encode([from_row(row) for row in found.tolist()])
    np.testing.assert_array_equal(again, given_words)


@given(st.integers(0, 6), st.integers(0, 2**128 - 1))
def test_every_opcode_is_decoded_or_refused(opcode, rest):
    value = rest & ~7 | opcode
    state, found = outcome(lambda: decode(as_words([value])))
    if state == "done":
        check(from_row(found[0]))
        np.testing.assert_array_equal(encode([from_row(found[0])]), as_words([value]))


@pytest.fixture(scope="module")
def compiled():
    """A program of the code generator, with loads ahead, tokens and three slots."""
    rng = np.random.default_rng(0)
    values = {"x": random_array(rng, (60, 12))}
    made, arguments = stages(requantize(rng, 9))
    weight, bias = random_array(rng, (9, 12)), np.zeros(9, np.int32)
    op = operation(
        "dense",
        [tensor("x", values["x"]), constant(weight), constant(bias), *arguments],
        {"epilogue": made},
        values,
    )
    return compile_operations([op], ["y"], TINY), values["x"]


def rebuilt(original, changed):
    return Program(
        original.config,
        changed,
        original.image,
        original.dram_bytes,
        original.tensors,
        original.layers,
        image_address=original.image_address,
    )


@given(flips)
@settings(max_examples=150)
def test_flipped_bits_of_a_small_program(places):
    """Both kernels and all orders of units agree on what happens, and where."""
    base = program()
    changed = flipped(base.words, places)
    found = {
        kernels: outcome(lambda k=kernels: ran(base, changed, example_input(), k))
        for kernels in ("auto", "numpy")
    }
    assert found["auto"][0] == found["numpy"][0]
    np.testing.assert_array_equal(found["auto"][1], found["numpy"][1])


def ran(base, changed, x, kernels="auto"):
    """The output, or its lack: a legal stream that writes less is told from one that stops."""
    try:
        return Simulator(TINY, kernels).run(rebuilt(base, changed), {"x": x}).outputs["y"]
    except StreamError:
        raise
    except DeviceProgramError as error:
        unfinished = error
    assert "without writing all of output 'y'" in str(unfinished)
    return np.zeros(0)


@given(flips)
@settings(max_examples=150)
def test_flipped_bits_of_a_compiled_program(compiled, places):
    base, x = compiled
    outcome(lambda: ran(base, flipped(base.words, places), x))


@pytest.mark.slow
@pytest.mark.parametrize("which", ["small", "compiled"])
def test_thousands_of_flipped_programs(compiled, which, record_property):
    """Seeded: the same cases every time; both kernels agree on every one."""
    base, x = (program(), example_input()) if which == "small" else compiled
    rng = np.random.default_rng(2026)
    ends = {"done": 0, "stopped": 0}
    for _ in range(CASES):
        places = [
            (int(rng.integers(0, len(base.words))), int(rng.integers(0, 128)))
            for _ in range(rng.integers(1, 4))
        ]
        changed = flipped(base.words, places)
        native, plain = (
            outcome(lambda k=kernels, c=changed: ran(base, c, x, k))
            for kernels in ("auto", "numpy")
        )
        assert native[0] == plain[0], places
        np.testing.assert_array_equal(native[1], plain[1], err_msg=str(places))
        ends[native[0]] += 1
    record_property("ends", ends)
    assert min(ends.values()) > 0


@given(flips)
@settings(max_examples=100)
def test_a_device_reports_flipped_bits_and_recovers(compiled, places):
    base, x = compiled
    device = SimulatedDevice(TINY)
    session = Session(device, base)
    good = session.run({"x": x})["y"]
    start = program_address(base.dram_bytes)
    device.write_memory(start, flipped(base.words, places))
    device.write(Register.CONTROL, Control.START)
    assert device.read(Register.STATUS) in (State.DONE, State.FAULT)
    if device.read(Register.STATUS) == State.FAULT:
        assert device.read(Register.FAULT) in {code.value for code in FaultCode} - {0}
        assert device.read(Register.FAULT_INDEX) < len(base.words)
        assert device.explain()
    np.testing.assert_array_equal(Session(device, base).run({"x": x})["y"], good)


def random_stream(rng):
    """Legal instructions with random tokens, in an order that makes no sense."""
    makers = [
        lambda: random_gemm(rng),
        lambda: random_vector(rng, FUNCTIONS[rng.integers(0, len(FUNCTIONS))].name),
        lambda: random_softmax(rng, "WEIGHTS", "WEIGHT"),
        lambda: random_transfer(rng, "LOAD", str(rng.choice(["INP", "WGT", "ACC", "UOP", "TBL"]))),
        lambda: random_transfer(rng, "STORE", "ACC8"),
    ]
    made = [makers[rng.integers(0, len(makers))]() for _ in range(rng.integers(1, 30))]
    return [*(with_tokens(rng, m) for m in made), instruction("FINISH")]


def with_tokens(rng, made):
    before, after = neighbours(unit_of(made))
    flags = {}
    for side, present in (("prev", before), ("next", after)):
        for verb in ("pop", "push"):
            if present and rng.random() < 0.2:
                flags[f"{verb}_{side}"] = 1
    return type(made)(made.name, {**made.fields, **flags})


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=150)
def test_streams_without_sense_end(seed):
    rng = np.random.default_rng(seed)
    stream = encode(random_stream(rng))
    image = rng.integers(0, 256, 1 << 14).astype(np.uint8)
    for priority in (("load", "compute", "store"), ("store", "compute", "load")):
        simulator = Simulator(TINY, priority=priority)
        outcome(lambda s=simulator: s.run(Program(TINY, stream, image, len(image), {}), {}))
    cycles = timed(stream, image)
    assert cycles is None or cycles > 0


def timed(stream, image):
    """The cycle model ends as well, whatever the tokens say."""
    try:
        made = Program(TINY, stream, image, len(image), {})
        return time_program(made).cycles
    except DeviceProgramError as error:
        stopped = error
    assert isinstance(stopped, StreamError) or "deadlock" in str(stopped)
    return None


@given(st.integers(0, 10**6), st.integers(0, 7), st.integers(0, 10**6))
@settings(max_examples=100)
def test_damaged_files_are_refused(place, bit, cut):
    raw = bytearray(program().to_bytes())
    raw[place % len(raw)] ^= 1 << bit
    with pytest.raises(DeviceProgramError):
        Program.from_bytes(bytes(raw))
    with pytest.raises(DeviceProgramError):
        Program.from_bytes(bytes(raw[: cut % len(raw)]))


@pytest.mark.parametrize("config", [DEFAULT, TINY], ids=["default", "tiny"])
def test_a_program_for_another_device_never_starts(config):
    other = TINY if config is DEFAULT else DEFAULT
    rng = np.random.default_rng(1)
    values = {"x": random_array(rng, (4, 4))}
    made, arguments = stages(requantize(rng, 4))
    weight, bias = random_array(rng, (4, 4)), np.zeros(4, np.int32)
    op = operation(
        "dense",
        [tensor("x", values["x"]), constant(weight), constant(bias), *arguments],
        {"epilogue": made},
        values,
    )
    compiled_for = compile_operations([op], ["y"], config)
    device = SimulatedDevice(other)
    with pytest.raises(DeviceProgramError, match="compile again"):
        Session(device, compiled_for)
    with pytest.raises(DeviceProgramError, match="Compile again"):
        Simulator(other).run(compiled_for, values)
    assert device.read(Register.STATUS) == State.IDLE
