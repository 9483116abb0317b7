"""Softmax from tables in registers: the golden model's integers for any length, kind and scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyq_tvm.numerics.exponential import grid_requantizer
from schedules.llvm import rules, softmax
from tests.schedules.calls import RNG, Call, assert_exact
from tests.schedules.conftest import make_target

LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 129, 197, 255, 256, 257, 640, 1025)
KINDS = ("linear_pot", "table", "linear", "poly2")

permuting = pytest.mark.parametrize("target", ["avx512vnni"], indirect=True)


def softmax_call(length, kind="linear_pot", dtype="int8", rows=5, scale=None, on_grid=False,
                 fraction_bits=4):  # fmt: skip
    scale = scale or {"int8": 0.05, "int32": 1e-4}[dtype]
    info = np.iinfo(dtype)
    x = np.clip(np.rint(RNG.normal(size=(rows, length)) * 3 / scale), info.min, info.max)
    x = x.astype(dtype)
    x[0, 0], x[0, -1] = info.min, info.max
    x[-1] = info.max
    params = {"kind": kind, "output": "uint8", "fraction_bits": fraction_bits}
    if kind in ("linear", "poly2"):
        return Call("softmax", {**params, "scale": scale}, [x])
    tensors = () if on_grid else grid_requantizer(scale, fraction_bits, length).tensors
    return Call("softmax", params, [x, *tensors])


def assert_softmax(calls, target):
    kernels = assert_exact(calls, [softmax.schedule], target)
    assert all(kernel.name.startswith("softmax_") for kernel in kernels)


@permuting
def test_bytes_of_every_length_and_kind(target):
    calls = {f"{n}": softmax_call(n) for n in LENGTHS}
    calls |= {f"{n} {k}": softmax_call(n, k) for n in (1, 64, 197, 300) for k in KINDS[1:]}
    calls["grid"] = softmax_call(70, on_grid=True)
    calls["grid, long"] = softmax_call(300, on_grid=True)
    assert_softmax(calls, target)


@permuting
def test_words_up_to_256_tokens(target):
    lengths = [n for n in LENGTHS if n <= 256]
    calls = {f"{n}": softmax_call(n, dtype="int32") for n in lengths}
    calls["table"] = softmax_call(197, "table", dtype="int32")
    calls["coarser grid"] = softmax_call(197, "table", dtype="int32", fraction_bits=3)
    assert_softmax(calls, target)


@permuting
def test_scales_from_flat_rows_to_single_peaks(target):
    calls = {
        f"{dtype} {scale}": softmax_call(130, dtype=dtype, scale=scale)
        for dtype, scales in {"int8": (1e-3, 0.3, 4.0), "int32": (1e-7, 1e-5, 0.02, 3.0)}.items()
        for scale in scales
    }
    assert_softmax(calls, target)


@permuting
def test_differences_beyond_31_bits(target):
    call = softmax_call(20, dtype="int32", scale=1e-8)
    call.arrays[0][:, ::2] = -(2**31)
    call.arrays[0][:, 1::2] = 2**31 - 1
    call.arrays[0][1, 1] = 0
    assert_softmax({"ends": call}, target)


@permuting
def test_equal_and_few_logits(target):
    calls = {}
    for value in (-128, 0, 127):
        call = softmax_call(100)
        call.arrays[0][:] = value
        call.arrays[0][1, 7] = 127
        calls[f"{value}"] = call
    assert_softmax(calls, target)


@permuting
def test_many_rows_in_several_threads(target):
    call = softmax_call(197, rows=701)
    (kernel,) = assert_exact({"rows": call}, [softmax.schedule], target)
    assert "T.parallel" in kernel.function.script()


@permuting
@settings(max_examples=15, deadline=None)
@given(length=st.integers(1, 400), kind=st.sampled_from(KINDS), exponent=st.floats(-3, 0.5))
def test_any_row_of_bytes(target, length, kind, exponent):
    assert_softmax({"any": softmax_call(length, kind, scale=10.0**exponent)}, target)


def test_what_has_no_table_is_left_to_other_rules(target):
    calls = {
        "long words": softmax_call(300, dtype="int32"),
        "words on fine steps": softmax_call(100, "linear", dtype="int32"),
        "words on the grid": softmax_call(100, dtype="int32", on_grid=True),
        "finer grid": softmax_call(100, dtype="int32", fraction_bits=5),
    }
    codes = softmax_call(20)
    calls["codes"] = Call("softmax", {**codes.params, "output": "log2_4bit"}, codes.arrays)
    assert all(softmax.schedule(call.workload(), target) is None for call in calls.values())
    assert_exact(calls, rules(target), target)


def test_processors_without_permutations_have_other_rules():
    assert softmax.schedule(softmax_call(64).workload(), make_target("avx2")) is None


@permuting
def test_every_form_of_the_way_to_the_grid(target):
    """Pre-shifts below, within and beyond what 16 bits hold; multipliers at their bounds."""
    calls = {}
    for pre_shift, multiplier, shift in [(0, 2**14, 15), (1, 2**15 - 1, 21), (2, 2**14, 17),
                                         (16, 2**15 - 1, 21), (17, 2**14, 21), (9, 2**14, 16),
                                         (16, 2**14, 31)]:  # fmt: skip
        x = RNG.integers(-(2**31), 2**31, (9, 100)).astype(np.int32)
        x[1:5] >>= 12
        x[5:7] = x[5:7] % (1 << (pre_shift + 4))
        x[7] = np.arange(100) << max(pre_shift - 1, 0)
        x[0, 0], x[0, 1] = 2**31 - 1, -(2**31)
        tensors = [np.array([v], np.int32) for v in (multiplier, pre_shift, shift)]
        params = {"kind": "linear_pot", "output": "uint8", "fraction_bits": 4}
        calls[f"{pre_shift} {multiplier} {shift}"] = Call("softmax", params, [x, *tensors])
    assert_softmax(calls, target)
