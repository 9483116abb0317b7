"""Fused attention: exact on every instruction set, whatever sizes, scales and exclusions."""

import numpy as np
import pytest

from hyq_tvm.numerics.softmax_tables import attention_constants
from schedules.llvm import attention, isa
from schedules.llvm.attention import rule
from tests.schedules.calls import RNG, Call, assert_exact, ints
from tests.schedules.conftest import make_target

NOTHING = -(2**30)


def attention_call(batch, rows, keys, depth, values, kind="linear_pot", bias=None, scale=0.05,
                   fraction_bits=4, weight_bits=8, dtype="int8"):  # fmt: skip
    logit_scale = 0.1 if kind == "hyq" else None
    made = attention_constants(
        scale, scale, 0.03, depth**-0.5, 0.02, depth, keys, kind, weight_bits, fraction_bits,
        logit_scale,
    )  # fmt: skip
    shapes = ((batch, rows, depth), (batch, keys, depth), (batch, keys, values))
    arrays = [np.clip(ints(np.int8, *shape), -127, 127).astype(np.int8) for shape in shapes]
    arrays += [made[key] for key in ("multiplier", "shift", "table")]
    params = {"kind": kind, "zero_point": 2, "low": -128, "high": 127, "dtype": dtype,
              "weight_bits": weight_bits, "fraction_bits": fraction_bits,
              "logit_scale": logit_scale, "has_bias": bias is not None,
              "rescale_multiplier": made["rescale_multiplier"],
              "rescale_shift": made["rescale_shift"]}  # fmt: skip
    if bias is not None:
        arrays.append(bias)
    return Call("attention", params, arrays, tensors=3)


def bias_of(batch, rows, keys):
    """Some pairs excluded, by values down to the lowest; the first row excludes everything."""
    bias = RNG.integers(-3000, 3000, (batch, rows, keys)).astype(np.int32)
    bias[RNG.random(bias.shape) < 0.3] = NOTHING
    bias[0, 0] = NOTHING
    bias[0, 0, 0] = -(2**31)
    return bias


def assert_attention(calls, target):
    kernels = assert_exact(calls, [attention.schedule], target)
    assert all(kernel.name.startswith("attention_") for kernel in kernels)
    return kernels


def test_sizes_around_registers_and_tiles(target):
    sizes = [(1, 1, 1, 1, 1), (2, 7, 16, 16, 16), (1, 6, 64, 64, 32), (1, 13, 197, 64, 64),
             (2, 9, 70, 20, 20), (3, 5, 3, 3, 5), (1, 4, 130, 8, 130), (1, 7, 15, 36, 17),
             (1, 2, 17, 5, 33), (1, 1, 129, 2, 1)]  # fmt: skip
    assert_attention({str(size): attention_call(*size) for size in sizes}, target)


def test_biases_and_exclusion(target):
    calls = {
        "repeated": attention_call(4, 7, 70, 12, 20, bias=bias_of(2, 7, 70)),
        "one for all": attention_call(2, 7, 16, 12, 20, bias=bias_of(1, 7, 16)),
        "wide logits": attention_call(1, 7, 50, 64, 20, bias=bias_of(1, 7, 50), scale=0.3),
        "everything": attention_call(1, 3, 9, 8, 4, bias=np.full((1, 3, 9), NOTHING, np.int32)),
    }
    assert_attention(calls, target)


def test_tables_scales_and_outputs(target):
    calls = {
        "table": attention_call(1, 7, 50, 12, 20, kind="table"),
        "more entries than a byte has values": attention_call(1, 7, 50, 12, 20, fraction_bits=5),
        "logits beyond 16 bits": attention_call(1, 7, 50, 64, 20, scale=0.3),
        "flat": attention_call(1, 7, 50, 12, 20, scale=0.0005),
        "16-bit result": attention_call(1, 7, 50, 12, 20, dtype="int16"),
    }
    assert_attention(calls, target)


def test_equal_rows_and_both_ends_of_the_range(target):
    call = attention_call(1, 5, 20, 8, 6)
    for value in (-127, 0, 127):
        call.arrays[0][0, value % 5] = value
        call.arrays[1][:, ::2] = value
        assert_attention({"ends": call}, target)


def test_portable_code(monkeypatch):
    monkeypatch.setattr(rule, "instruction_set", lambda target: isa.PORTABLE)
    calls = {
        "plain": attention_call(2, 7, 21, 5, 9),
        "bias": attention_call(1, 3, 10, 8, 4, bias=bias_of(1, 3, 10)),
    }
    assert_attention(calls, make_target("sse2"))


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_large_work_in_several_threads(batch):
    call = attention_call(batch, 100, 64, 64, 32)
    (kernel,) = assert_attention({"large": call}, make_target("avx2"))
    assert kernel.function.script().count("T.parallel") == 2


def every_difference(**choice):
    """Differences of 0 to 2 * 930 steps in many rows: the whole table and what follows it."""
    call = attention_call(1, 43, 255, 1, 3, weight_bits=16, **choice)
    call.arrays[0][0, :, 0] = np.arange(1, 128, 3)
    call.arrays[1][0, :, 0] = np.arange(-127, 128)
    return call


def test_weights_of_16_bits_by_sizes(target):
    sizes = [(1, 1, 1, 1, 1), (2, 7, 16, 16, 16), (1, 13, 197, 64, 64), (2, 9, 70, 20, 20),
             (1, 4, 130, 8, 130), (1, 2, 17, 5, 33)]  # fmt: skip
    calls = {str(size): attention_call(*size, weight_bits=16) for size in sizes}
    calls["bias"] = attention_call(4, 7, 70, 12, 20, bias=bias_of(2, 7, 70), weight_bits=16)
    bias = np.full((1, 3, 9), NOTHING, np.int32)
    calls["everything excluded"] = attention_call(1, 3, 9, 8, 4, bias=bias, weight_bits=16)
    assert_attention(calls, target)


def test_weights_of_16_bits_by_tables(target):
    calls = {kind: every_difference(kind=kind) for kind in ("linear_pot", "table", "linear")}
    calls["finer"] = every_difference(fraction_bits=5)
    calls["coarser"] = every_difference(fraction_bits=3)
    calls["logits beyond 16 bits"] = every_difference(scale=2.0)
    assert_attention(calls, target)


def test_sums_of_16_bit_weights_beyond_32_bits():
    call = attention_call(1, 2, 4100, 4, 5, weight_bits=16)
    call.arrays[0][:] = 0  # All weights are 65535.
    call.arrays[2][:] = 127
    call.arrays[2][..., 1] = -127
    for name in ("avx512vnni", "avx2", "sse2"):
        assert_attention({"flat": call}, make_target(name))


def test_excluded_pairs_weigh_nothing_however_fine_the_grid():
    bias = bias_of(1, 5, 9)
    calls = {
        f"{fraction} {bits}": attention_call(
            1, 5, 9, 8, 4, bias=bias, fraction_bits=fraction, weight_bits=bits
        )
        for fraction in (5, 6)
        for bits in (8, 16)
    }
    assert_attention(calls, make_target("avx2"))


def test_the_published_softmax_is_left_to_other_rules():
    call = attention_call(1, 3, 5, 4, 4, kind="hyq")
    assert attention.schedule(call.workload(), make_target("avx2")) is None


def test_a_bias_that_is_data_is_left_to_other_rules():
    call = attention_call(1, 3, 5, 4, 4, bias=bias_of(1, 3, 5))
    data = Call(call.op, call.params, call.arrays, tensors=3, others=(6,))
    assert attention.schedule(data.workload(), make_target("avx2")) is None
