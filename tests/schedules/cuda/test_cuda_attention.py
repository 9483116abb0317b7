"""Fused attention in one kernel: exact whatever sizes, scales and exclusions."""

import re

import numpy as np
import pytest

from hyq_tvm.numerics.softmax_tables import weight_table
from schedules.application import choose
from schedules.cuda import attention
from schedules.cuda.exponential import line_of
from tests.schedules.calls import Call
from tests.schedules.cuda.device import FLOAT, TARGET, assert_exact, entries, machine_code
from tests.schedules.test_attention import NOTHING, attention_call, bias_of

RULES = [attention.schedule]


def assert_fused(calls):
    kernels = assert_exact(calls, RULES)
    assert all(kernel.name.startswith("attention_") for kernel in kernels)


def test_sizes_around_fragments(any_order):
    even = [(2, 7, 16, 16, 16), (1, 64, 64, 64, 32), (1, 70, 197, 64, 64), (1, 4, 33, 8, 128)]
    odd = [(1, 1, 1, 1, 1), (2, 17, 70, 20, 20), (3, 5, 3, 3, 5), (1, 16, 15, 36, 18)]
    assert_fused({str(size): attention_call(*size) for size in [*even, *odd]})


def test_biases_and_exclusion(any_order):
    assert_fused(
        {
            "repeated": attention_call(4, 7, 70, 12, 20, bias=bias_of(2, 7, 70)),
            "one for all": attention_call(2, 7, 16, 12, 20, bias=bias_of(1, 7, 16)),
            "all": attention_call(1, 3, 9, 8, 4, bias=np.full((1, 3, 9), NOTHING, np.int32)),
        }
    )


def test_tables_scales_and_outputs(any_order):
    assert_fused(
        {
            "table": attention_call(1, 7, 50, 12, 20, kind="table"),
            "finer": attention_call(1, 7, 50, 12, 20, fraction_bits=5),
            "16-bit weights": attention_call(1, 7, 50, 12, 20, kind="table", weight_bits=16),
            "16-bit line": attention_call(1, 7, 50, 12, 20, weight_bits=16),
            "logits beyond 16 bits": attention_call(1, 7, 50, 64, 20, scale=0.3),
            "logits beyond 30 bits": attention_call(1, 7, 50, 64, 20, scale=300.0),
            "flat": attention_call(1, 7, 50, 12, 20, scale=0.0005),
            "16-bit result": attention_call(1, 7, 50, 12, 16, dtype="int16"),
        }
    )


def test_equal_rows_and_both_ends_of_the_range(any_order):
    base = attention_call(1, 9, 40, 32, 16)
    ends = [
        np.full_like(a, sign * 127) for a, sign in zip(base.arrays[:3], (1, -1, 1), strict=True)
    ]
    assert_fused({"ends": Call("attention", base.params, [*ends, *base.arrays[3:]], tensors=3)})


@pytest.mark.parametrize("fraction_bits", [3, 4, 5])
def test_the_line_is_the_table_of_bytes(fraction_bits):
    assert line_of(weight_table("linear_pot", fraction_bits), fraction_bits) is not None
    assert line_of(weight_table("table", fraction_bits), fraction_bits) is None


def test_other_kinds_are_left_to_other_rules():
    published = attention_call(1, 4, 9, 8, 8, kind="hyq")
    wide = attention_call(1, 4, 9, 8, 130)
    for call in (published, wide):
        assert attention.schedule(call.workload(), TARGET) is None


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_90"])
def test_one_kernel_on_tensor_cores(arch):
    calls = [attention_call(3, 197, 197, 64, 64), attention_call(16, 256, 256, 36, 36)]
    made = machine_code([choose(c.workload(), TARGET, RULES) for c in calls], arch)
    assert len(made.resources) == 2
    assert all(r.spills == 0 and r.registers <= 168 for r in made.resources.values())
    for body in entries(made.ptx).values():
        assert re.search(r"mma\.sync\S*\.s32\.s8\.s8", body)
        assert re.search(r"mma\.sync\S*\.s32\.u8\.s8", body)
    assert not FLOAT.search(made.ptx)
