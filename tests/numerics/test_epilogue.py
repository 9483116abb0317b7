"""Clauses E1 to E4: the stages behind an accumulator."""

from __future__ import annotations

import numpy as np
import pytest

from hyq_tvm.numerics.epilogue import apply, tensor_count
from hyq_tvm.numerics.fixed_point import quantize_multiplier, requantize

REQUANTIZE = {"kind": "requantize", "zero_point": 3, "low": -128, "high": 127, "dtype": "int8"}
LOOKUP = {"kind": "lookup", "low": -128, "dtype": "int16"}
ADD = {"kind": "add", "zero_point": -2, "multiplier": 3, "shift": 1, "low": -100, "high": 100,
       "dtype": "int16"}  # fmt: skip


def test_e1_no_stage_returns_the_accumulator():
    acc = np.arange(4, dtype=np.int32)
    assert apply(acc, [], []) is acc


def test_e1_counts_tensors_and_refuses_unknown_stages():
    assert tensor_count([REQUANTIZE, LOOKUP, ADD]) == 4
    with pytest.raises(ValueError, match="unknown epilogue stage"):
        tensor_count([{"kind": "relu"}])
    with pytest.raises(ValueError, match="1 tensors for stages that take 2"):
        apply(np.zeros(3, np.int32), [REQUANTIZE], [np.ones(1, np.int32)])


def test_e2_requantize_is_r32_in_the_storage_type():
    acc = np.arange(-3000, 3000, dtype=np.int32).reshape(-1, 3)
    m, s = quantize_multiplier([0.01, 0.5, 0.9])
    got = apply(acc, [REQUANTIZE], [m, s])
    assert got.dtype == np.int8
    np.testing.assert_array_equal(got, requantize(acc, m, s, 3, -128, 127))


def test_e3_lookup_covers_every_8_bit_value():
    table = (np.arange(256) ** 2 % 1001 - 500).astype(np.int16)
    x = np.arange(-128, 128, dtype=np.int8)
    got = apply(x, [LOOKUP], [table])
    assert got.dtype == np.int16
    np.testing.assert_array_equal(got, table)


@pytest.mark.parametrize("value", [-129, 128])
def test_e3_a_value_outside_the_table_is_an_error(value):
    with pytest.raises(ValueError, match="256 entries"):
        apply(np.array([value], np.int16), [LOOKUP], [np.zeros(256, np.int16)])


def test_e4_add_scales_the_other_operand_rounds_once_and_saturates():
    value = np.array([0, 0, 0, 0, 99, -99], dtype=np.int16)
    other = np.array([-2, -1, -3, 1, 127, -128], dtype=np.int8)
    # (other + 2) * 3 / 2: 0, 1.5 -> 2, -1.5 -> -1, 4.5 -> 5, then saturation on both sides
    np.testing.assert_array_equal(apply(value, [ADD], [other]), [0, 2, -1, 5, 100, -100])


def test_e4_shift_zero_does_not_round():
    stage = {**ADD, "shift": 0, "multiplier": 1, "zero_point": 0, "low": -32767, "high": 32767}
    value, other = np.array([5, 32767, -32767], np.int16), np.array([-7, 1, -1], np.int16)
    np.testing.assert_array_equal(apply(value, [stage], [other]), [-2, 32767, -32767])


def test_e1_stages_run_in_order():
    acc = np.arange(-400, 400, dtype=np.int32)
    m, s = quantize_multiplier([0.37])
    table = np.arange(-128, 128, dtype=np.int16)[::-1].copy()
    other = (acc % 250 - 125).astype(np.int8)
    wide = {**REQUANTIZE, "dtype": "int16", "low": -3000, "high": 3000, "zero_point": 0}
    got = apply(acc, [REQUANTIZE, LOOKUP, wide, ADD], [m, s, table, m, s, other])
    step = table[np.asarray(requantize(acc, m, s, 3, -128, 127)) + 128]
    step = requantize(step, m, s, 0, -3000, 3000)
    expected = np.clip(step + np.floor((other.astype(int) + 2) * 1.5 + 0.5), -100, 100)
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == np.int16


def test_e1_a_tensor_that_would_broadcast_the_value_is_an_error():
    with pytest.raises(ValueError, match="change the shape"):
        apply(np.zeros((1, 3), np.int16), [ADD], [np.zeros((2, 3), np.int8)])


def test_e1_a_storage_type_too_small_is_an_error():
    with pytest.raises(ValueError, match="does not fit int8"):
        apply(np.array([0], np.int8), [{**LOOKUP, "dtype": "int8"}], [np.full(256, 300, np.int16)])
