"""The core's hardware computes the bits of the kernels, instruction by instruction."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

from hyq_tvm.errors import DeviceProgramError, InputError
from hyq_tvm.vta.arch import DEFAULT, TINY
from hyq_tvm.vta.cosim.core import MEMORIES, Core
from hyq_tvm.vta.cosim.device import CoreDevice
from hyq_tvm.vta.cosim.toolchain import ToolUnavailable, compiler, verilator
from hyq_tvm.vta.driver import Session
from hyq_tvm.vta.isa import FUNCTIONS, REGISTERS, encode, instruction
from hyq_tvm.vta.isa.encoding import decode
from hyq_tvm.vta.isa.table import MEMORY, STORABLE
from hyq_tvm.vta.kernels_numpy import NumpyKernels
from hyq_tvm.vta.machine import Fault
from tests.vta.machines import (
    random_gemm,
    random_machine,
    random_number,
    random_softmax,
    random_transfer,
    random_vector,
    row_of,
    set_register,
)
from tests.vta.streams import TEXT, example_input, expected, program

SEEDS = range(12)


@pytest.fixture(scope="module")
def core():
    try:
        verilator()
        compiler()
    except ToolUnavailable as error:
        pytest.skip(str(error))
    return Core(TINY)


def settings(machine):
    """SETs that give the core the machine's registers."""
    return [
        instruction("SET", register=register.name, value=int(value))
        for register, value in zip(REGISTERS, machine.registers, strict=True)
    ]


def compare(core, seed, made, prepare=lambda machine: None):
    """One instruction on equal memories; True where the kernels refuse it."""
    machine = random_machine(np.random.default_rng(seed), core.config)
    prepare(machine)
    golden = copy.deepcopy(machine)
    try:
        NumpyKernels(golden).execute(row_of(made))
    except Fault:
        return True
    # Units run side by side: FINISH waits for those that give a token.
    flags = {"LOAD": {"pop_prev": 1}, "STORE": {"pop_next": 1}}.get(made.name, {})
    given = {"LOAD": {"push_next": 1}, "STORE": {"push_prev": 1}}.get(made.name, {})
    last = instruction("FINISH", **flags)
    stream = [*settings(machine), replace(made, **_with(made, given)), last]
    words = encode(stream)
    core.execute(machine, words, decode(words).tolist())
    for name in (*MEMORIES, "dram"):
        left, right = (m.memory[name].view(np.uint8) for m in (machine, golden))
        np.testing.assert_array_equal(left, right, err_msg=f"{name} {made}")
    return False


def _with(made, given):
    return {"fields": {**made.fields, **given}} if given else {}


def table_fits(machine):
    set_register(machine, TABLE_BASE=100, TABLE_SIZE=600)


def test_gemm(core):
    for seed in SEEDS:
        assert not compare(core, seed, random_gemm(np.random.default_rng(seed)))


@pytest.mark.parametrize("memory", [choice.name for choice in MEMORY.choices])
def test_load(core, memory):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        made = random_transfer(rng, "LOAD", memory)
        strides = {"LOAD_Y_STRIDE": int(rng.integers(0, 500))}
        strides["LOAD_X_STRIDE"] = int(rng.integers(0, 100))
        assert not compare(core, seed, made, lambda m, s=strides: set_register(m, **s))


@pytest.mark.parametrize("memory", STORABLE)
def test_store(core, memory):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        made = random_transfer(rng, "STORE", memory)
        strides = {"STORE_Y_STRIDE": 1500 + int(rng.integers(0, 500))}
        strides["STORE_X_STRIDE"] = 50 + int(rng.integers(0, 50))
        assert not compare(core, seed, made, lambda m, s=strides: set_register(m, **s))


@pytest.mark.parametrize("op", [function.name for function in FUNCTIONS])
def test_vector(core, op):
    refused = 0
    for seed in SEEDS:
        made = random_vector(np.random.default_rng(seed), op)
        refused += compare(core, seed, made, table_fits)
    assert refused == 0 or (op == "ROOT" and refused < len(SEEDS))


def disjoint_softmax(rng, exponential, result):
    """Results that do not overwrite logits of rows that are still to be read."""
    made = random_softmax(rng, exponential, result)
    return replace(made, fields={**made.fields, "dst": made.fields["dst"] % 4 + 95})


@pytest.mark.parametrize("exponential", ["LINEAR_POT", "TABLE", "LINEAR", "POLY2"])
@pytest.mark.parametrize("result", ["UINT8", "LOG2", "GRID"])
def test_softmax(core, exponential, result):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        made = disjoint_softmax(rng, exponential, result)
        kind = {"LINEAR": (1024, 1387, 0), "POLY2": (88, 343, 45000)}
        period, offset, constant = kind.get(exponential, (1, int(rng.integers(16, 500)), 0))
        values = {
            "PERIOD": period,
            "OFFSET": offset,
            "CONSTANT": constant,
            "FRACTION_BITS": int(rng.integers(1, 9)),
            "LOGIT_SHIFT": random_number(rng, -14, 30),
            "WEIGHT_BITS": int(rng.integers(15, 19)),
            "TABLE_BASE": int(rng.integers(0, 2)),
        }

        def sensible(machine, values=values):
            set_register(machine, **values)
            machine.memory["tbl"][: 2 << 8].view(np.uint16)[1 - values["TABLE_BASE"] :: 2] &= 3

        assert not compare(core, seed, made, sensible)


@pytest.mark.parametrize("result", ["WEIGHT", "WEIGHT_WIDE"])
def test_softmax_weights(core, result):
    for seed in SEEDS:
        made = disjoint_softmax(np.random.default_rng(seed), "WEIGHTS", result)
        assert not compare(core, seed, made, table_fits)


def test_a_program_with_tokens(core):
    x = example_input()
    run = core.run(program(), {"x": x})
    np.testing.assert_array_equal(run.outputs["y"], expected(x))
    assert [event.index for event in run.events] == list(range(9))


def test_a_deadlock_is_named(core):
    text = TEXT.replace("length=8 push_next", "length=8")
    with pytest.raises(DeviceProgramError, match=r"deadlock: instruction 4 .GEMM"):
        core.run(program(text), {"x": example_input()})


def test_an_opcode_that_does_not_exist_stops_the_core(core):
    machine = random_machine(np.random.default_rng(0), TINY)
    words = encode([instruction("FINISH")])
    words[0, 0] |= 7
    with pytest.raises(DeviceProgramError, match=r"instruction 0.*opcode"):
        core.execute(machine, words, decode(encode([instruction("FINISH")])).tolist())


def test_the_driver_runs_programs_on_the_core(core):
    session = Session(CoreDevice(core.config), program())
    for x in (example_input(), -np.abs(example_input())):
        np.testing.assert_array_equal(session.run({"x": x})["y"], expected(x))
        assert session.cycles > 64


def test_a_deadlock_on_the_core_reaches_the_driver(core):
    text = TEXT.replace("length=8 push_next", "length=8")
    session = Session(CoreDevice(core.config), program(text))
    with pytest.raises(DeviceProgramError, match=r"deadlock: instruction 4 .GEMM"):
        session.run({"x": example_input()})
    good = Session(CoreDevice(core.config), program())
    np.testing.assert_array_equal(good.run({"x": example_input()})["y"], expected(example_input()))


def test_wrong_inputs_and_devices_are_refused(core):
    with pytest.raises(InputError, match="were given"):
        core.run(program(), {})
    with pytest.raises(InputError, match="int8"):
        core.run(program(), {"x": example_input()[:3]})
    with pytest.raises(DeviceProgramError, match="compiled for device"):
        Core(DEFAULT).run(program(), {"x": example_input()})


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        replace(TINY, dividers=3, softmax_lanes=1, log_bus_width=7),
        replace(TINY, dividers=4, softmax_lanes=2, log_bus_width=8),
        replace(
            TINY,
            log_block=3,
            log_inp_buffer=13,
            log_wgt_buffer=14,
            log_acc_buffer=15,
            log_parameter_buffer=13,
            dividers=5,
        ),
    ],
    ids=["wide bus", "two instructions a beat", "half a word's lanes"],
)
def test_other_sizes(core, config):
    core = Core(config)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        assert not compare(core, seed, random_gemm(rng))
        for memory in MEMORY.choices:
            made = random_transfer(rng, "LOAD", memory.name)
            length = made.fields["length"] * (config.block // 4 if memory.name == "PRM" else 1)
            made = replace(made, fields={**made.fields, "length": length})
            strides = {"LOAD_Y_STRIDE": 331, "LOAD_X_STRIDE": int(rng.integers(0, 100))}
            assert not compare(core, seed, made, lambda m, s=strides: set_register(m, **s))
        for memory in STORABLE:
            made = random_transfer(rng, "STORE", memory)
            strides = {"STORE_Y_STRIDE": 1531, "STORE_X_STRIDE": 67}
            assert not compare(core, seed, made, lambda m, s=strides: set_register(m, **s))
        for function in FUNCTIONS:
            compare(core, seed, random_vector(rng, function.name), table_fits)
        for result in ("WEIGHT", "WEIGHT_WIDE", "UINT8", "LOG2", "GRID"):
            kind = "WEIGHTS" if result.startswith("WEIGHT") else "LINEAR_POT"
            made = disjoint_softmax(rng, kind, result)
            assert not compare(core, seed, made, table_fits)
