"""The kernels in C and in NumPy compute the same bits, counters and faults."""

from __future__ import annotations

import platform

import numpy as np
import pytest

from hyq_tvm.vta import kernels_native
from hyq_tvm.vta.arch import TINY, VTAConfig
from hyq_tvm.vta.isa import FUNCTIONS, instruction
from hyq_tvm.vta.isa.table import MEMORY, STORABLE
from hyq_tvm.vta.kernels_native import NativeKernels, NativeUnavailable
from hyq_tvm.vta.kernels_numpy import NumpyKernels
from hyq_tvm.vta.machine import Fault, Machine
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

SEEDS = range(40)


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    try:
        NativeKernels(Machine.create(TINY, 16))
    except NativeUnavailable as error:
        pytest.skip(f"the kernels in C cannot be built: {error}")


def outcome(kernels, machine, row):
    """The fault of executing a row, or None."""
    try:
        if kernels is NativeKernels:
            array = np.array(row, dtype=np.int64)
            kernels(machine).execute(array.ctypes.data)
        else:
            kernels(machine).execute(row)
    except Fault as fault:
        return str(fault)
    return None


def compare(seed, made, config=TINY, prepare=lambda machine: None):
    """Execute on two equal machines; memories, written cells, counters and faults must agree."""
    machines = [random_machine(np.random.default_rng(seed), config) for _ in range(2)]
    for machine in machines:
        prepare(machine)
    row = row_of(made)
    faults = [
        outcome(kernels, machine, row)
        for kernels, machine in zip((NativeKernels, NumpyKernels), machines, strict=True)
    ]
    assert faults[0] == faults[1]
    if faults[0] is None:
        native, numpy = machines
        for name in native.memory:
            left, right = (m.memory[name].view(np.uint8) for m in machines)
            np.testing.assert_array_equal(left, right, err_msg=name)
            np.testing.assert_array_equal(native.written[name], numpy.written[name])
        np.testing.assert_array_equal(native.counters, numpy.counters)
        np.testing.assert_array_equal(native.registers, numpy.registers)
    return faults[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_gemm(seed):
    assert compare(seed, random_gemm(np.random.default_rng(seed))) is None


def test_gemm_of_the_default_block():
    for seed in range(8):
        config = VTAConfig()
        assert compare(seed, random_gemm(np.random.default_rng(seed)), config) is None


@pytest.mark.parametrize("op", [f.name for f in FUNCTIONS])
def test_vector(op):
    faults = 0
    for seed in SEEDS:
        made = random_vector(np.random.default_rng(seed), op)
        faults += compare(seed, made, prepare=table_fits) is not None
    assert faults == 0 or op == "ROOT"
    assert faults < len(SEEDS)


def table_fits(machine):
    set_register(machine, TABLE_BASE=100, TABLE_SIZE=600)


@pytest.mark.parametrize("exponential", ["LINEAR_POT", "TABLE", "LINEAR", "POLY2"])
@pytest.mark.parametrize("result", ["UINT8", "LOG2", "GRID"])
def test_softmax(exponential, result):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        made = random_softmax(rng, exponential, result)
        kind = {"LINEAR": (1024, 1387, 0), "POLY2": (88, 343, 45000)}
        period, offset, constant = kind.get(exponential, (1, int(rng.integers(16, 500)), 0))
        fraction = int(rng.integers(1, 9))
        shift = random_number(rng, -14, 30)
        width = int(rng.integers(15, 19))

        def sensible(machine, values=(period, offset, constant, fraction, shift, width)):
            names = ("PERIOD", "OFFSET", "CONSTANT", "FRACTION_BITS", "LOGIT_SHIFT", "WEIGHT_BITS")
            set_register(machine, TABLE_BASE=0, **dict(zip(names, values, strict=True)))
            machine.memory["tbl"][: 2 << 8].view(np.uint16)[1::2] &= 3

        assert compare(seed, made, prepare=sensible) is None


@pytest.mark.parametrize("result", ["WEIGHT", "WEIGHT_WIDE"])
def test_softmax_weights(result):
    for seed in SEEDS:
        made = random_softmax(np.random.default_rng(seed), "WEIGHTS", result)
        assert compare(seed, made, prepare=table_fits) is None


@pytest.mark.parametrize("memory", [c.name for c in MEMORY.choices])
def test_load(memory):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        made = random_transfer(rng, "LOAD", memory)
        strides = {f"LOAD_{axis}_STRIDE": int(rng.integers(0, 700)) for axis in "YX"}
        assert compare(seed, made, prepare=lambda m, s=strides: set_register(m, **s)) is None


@pytest.mark.parametrize("memory", STORABLE)
def test_store(memory):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        made = random_transfer(rng, "STORE", memory)
        strides = {f"STORE_{axis}_STRIDE": int(rng.integers(0, 700)) for axis in "YX"}
        assert compare(seed, made, prepare=lambda m, s=strides: set_register(m, **s)) is None


LOOP = {"uop_end": 1, "iter_out": 1, "iter_in": 1}
ROWS = {"rows": 1, "length": 5}


@pytest.mark.parametrize(
    ("made", "cells", "message"),
    [
        (instruction("GEMM", **LOOP), {"uop": 0}, "uop entry 0"),
        (instruction("GEMM", init=1, **LOOP), {"inp": slice(None)}, "inp entry"),
        (instruction("GEMM", init=1, **LOOP), {"wgt": slice(None)}, "wgt entry"),
        (instruction("GEMM", **LOOP), {"acc": slice(None)}, "acc entry"),
        (instruction("VECTOR", op="MOV", **LOOP), {"acc": slice(None)}, "acc entry"),
        (instruction("VECTOR", op="REQ", **LOOP), {"prm": slice(None)}, "prm entry"),
        (instruction("VECTOR", op="NORM", **LOOP), {"acc": slice(None)}, "acc entry"),
        (instruction("VECTOR", op="LOOKUP", **LOOP), {"tbl": 699}, "tbl entry 699"),
        (
            instruction("SOFTMAX", exponential="WEIGHTS", result="WEIGHT", **ROWS),
            {"tbl": 100},
            "tbl entry 100",
        ),
        (
            instruction("SOFTMAX", exponential="LINEAR_POT", result="UINT8", src=5, **ROWS),
            {"acc": 6},
            "acc entry 6",
        ),
        (
            instruction("LOAD", memory="INP", dram=16, y_size=1, x_size=1, length=3),
            {"dram": 18},
            "DRAM byte 0x12",
        ),
        (
            instruction("STORE", memory="ACC8", sram=4, y_size=1, x_size=2, length=3),
            {"acc": 5},
            "acc entry 5",
        ),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_reads_of_what_was_never_written(made, cells, message):
    def forget(machine):
        table_fits(machine)
        for name, where in cells.items():
            machine.written[name][where] = 0

    assert message in compare(0, made, prepare=forget)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (instruction("GEMM", dst_in=2047, **{**LOOP, "iter_in": 2}), "destination entry"),
        (instruction("GEMM", src_in=2047, init=1, **{**LOOP, "iter_in": 2}), "source entry"),
        (instruction("GEMM", wgt_in=1023, init=1, **{**LOOP, "iter_in": 2}), "weight, parameter"),
        (instruction("VECTOR", op="MOV", dst_in=2047, **{**LOOP, "iter_in": 2}), "destination"),
        (instruction("VECTOR", op="MOV", src_in=2047, **{**LOOP, "iter_in": 2}), "source entry"),
        (instruction("VECTOR", op="REQ", third_in=63, **{**LOOP, "iter_in": 2}), "weight, param"),
    ],
)
def test_entries_beyond_a_buffer(made, message):
    assert message in compare(3, made)


def test_a_table_beyond_its_buffer():
    made = instruction("VECTOR", op="LOOKUP", **LOOP)
    fault = compare(0, made, prepare=lambda m: set_register(m, TABLE_BASE=4000, TABLE_SIZE=97))
    assert "table entries up to 4097" in fault


@pytest.mark.parametrize("missing", ["-mno-avx512f", "-mno-avx2"])
def test_products_on_older_processors(missing, monkeypatch, tmp_path):
    if platform.machine() != "x86_64":
        pytest.skip("these extensions are x86's")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernels_native, "_FLAGS", (*kernels_native._FLAGS, missing))
    kernels_native._library.cache_clear()
    try:
        for seed in range(4):
            made = random_gemm(np.random.default_rng(seed))
            assert compare(seed, made, VTAConfig()) is None
    finally:
        kernels_native._library.cache_clear()
