"""Epilogues in TE make the golden model's integers: every stage, every order, every edge."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyq_tvm.numerics.fixed_point import quantize_multiplier

RNG = np.random.default_rng(5)
CHANNELS = 6
ROWS = 64


def requantize(bits, zero_point=0):
    top = 2 ** (bits - 1)
    dtype = "int8" if bits <= 8 else "int16"
    return {"kind": "requantize", "zero_point": zero_point, "low": -top, "high": top - 1,
            "dtype": dtype}  # fmt: skip


LOOKUP = {"kind": "lookup", "low": -128, "dtype": "int8"}
ADD = {"kind": "add", "zero_point": -5, "multiplier": 19661, "shift": 14, "low": -128,
       "high": 127, "dtype": "int8"}  # fmt: skip
WIDE_ADD = {**ADD, "multiplier": 2**31 - 1, "shift": 30, "low": -32767, "high": 32767,
            "dtype": "int16"}  # fmt: skip


def tensors_of(stage):
    if stage["kind"] == "requantize":
        return quantize_multiplier(RNG.uniform(0.1, 1.5, CHANNELS))
    if stage["kind"] == "lookup":
        return [RNG.integers(-128, 128, 256).astype(np.int8)]
    return [RNG.integers(-128, 128, (ROWS, CHANNELS)).astype(np.int8)]


def case(*stages):
    x = RNG.integers(-(2**15), 2**15, (ROWS, CHANNELS)).astype(np.int16)
    x.flat[:4] = -(2**15), 2**15 - 1, 0, -1
    tensors = [t for stage in stages for t in tensors_of(stage)]
    return "identity", {"zero_point": 0, "epilogue": list(stages)}, [x, *tensors]


def test_e1_combinations_of_stages(assert_twins):
    narrow = [requantize(8, 3), LOOKUP, ADD, WIDE_ADD]
    cases = {f"two: {i}": case(requantize(8), a) for i, a in enumerate(narrow)}
    for i, (a, b) in enumerate(itertools.product(narrow[:3], repeat=2)):
        cases[f"three: {i}"] = case(requantize(8, -7), a, b)
    cases["requantize, lookup, requantize"] = case(requantize(8, 1), LOOKUP, requantize(16))
    cases["requantize, add, requantize"] = case(requantize(16), WIDE_ADD, requantize(8, -2))
    cases["4 bits"] = case(requantize(4, 2), {**LOOKUP, "low": -8}, requantize(6, -1))
    # A table of 12 bits, and one with entries of 16.
    op, params, arrays = case(requantize(12))
    table = np.arange(4096)[::-1].astype(np.int16)
    params["epilogue"].append({"kind": "lookup", "low": -2048, "dtype": "int16"})
    cases["4,096 entries"] = (op, params, [*arrays, table])
    assert_twins(cases)


def test_e4_add_in_32_and_64_bits(assert_twins):
    value = np.repeat(np.arange(-128, 128, dtype=np.int8), 256).reshape(256, 256)
    other = np.tile(np.arange(-128, 128, dtype=np.int8), (256, 1))
    wide = RNG.integers(-32767, 32768, (256, 256)).astype(np.int16)
    wide.flat[:2] = -32767, 32767
    one = quantize_multiplier([1.0])

    def added(stage, tensor):
        stages = [requantize(16), {**stage, "low": -32767, "high": 32767, "dtype": "int16"}]
        return "identity", {"zero_point": 0, "epilogue": stages}, [value, *one, tensor]

    cases = {}
    for multiplier, shift in [
        (1, 0),
        (3, 1),
        (2**15 - 1, 15),
        (2**23, 22),
        (2**31 - 1, 31),
        (5, 62),
    ]:
        stage = {**ADD, "multiplier": multiplier, "shift": shift}
        cases[f"8 bits * {multiplier} >> {shift}"] = added(stage, other)
        cases[f"16 bits * {multiplier} >> {shift}"] = added({**stage, "zero_point": 0}, wide)
    assert_twins(cases)


def edges_case():
    """R32 on every edge: 32-bit accumulators through ``dense`` with one input and a bias."""
    edges = sorted({s * 2**i + d for i in range(31) for d in (-2, -1, 0, 1, 2) for s in (-1, 1)})
    count = len(edges)
    stage = {"kind": "requantize", "zero_point": 7, "low": -32768, "high": 32767, "dtype": "int16"}
    arrays = [
        np.zeros((1, 1), np.int8),
        np.zeros((count, 1), np.int8),
        np.array(edges, np.int32),
        np.full(count, 2**30, np.int32),
        np.full(count, 31, np.int32),
    ]
    return "dense", {"epilogue": [stage]}, arrays


@pytest.fixture(scope="module")
def edges(build_twins):
    case = edges_case()
    return build_twins({"edges": case}), case


def test_r32_on_all_edges_of_the_accumulator(edges, compare_twins):
    module, (op, params, arrays) = edges
    count = len(arrays[2])
    for multiplier, shift in itertools.product(
        (0, 1, 2**30 - 1, 2**30, 2**31 - 1), (1, 2, 16, 31, 32, 33, 47, 62)
    ):
        m, s = np.full(count, multiplier, np.int32), np.full(count, shift, np.int32)
        compare_twins(module, {f"{multiplier}, {shift}": (op, params, [*arrays[:3], m, s])})


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_r32_on_random_accumulators_multipliers_and_shifts(edges, compare_twins, seed):
    module, (op, params, arrays) = edges
    rng = np.random.default_rng(seed)
    count = len(arrays[2])
    acc = rng.integers(-(2**31), 2**31, count) >> rng.integers(0, 31, count)
    m = rng.integers(0, 2**31, count).astype(np.int32)
    s = rng.integers(1, 63, count).astype(np.int32)
    compare_twins(module, {"random": (op, params, [*arrays[:2], acc.astype(np.int32), m, s])})


def test_e1_requantize_broadcasts_from_the_right(assert_twins):
    x = RNG.integers(-128, 128, (2, 3, 4, 5)).astype(np.int8)
    params = {"zero_point": 1, "epilogue": [requantize(8)]}
    shapes = [(1,), (5,), (1, 5), (4, 1), (3, 4, 1), (2, 1, 1, 5), (1, 1, 1, 1)]
    assert_twins(
        {
            str(shape): ("identity", params, [x, *quantize_multiplier(RNG.uniform(0.1, 2, shape))])
            for shape in shapes
        }
    )
