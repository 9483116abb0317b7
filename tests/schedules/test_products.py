"""Products with constant weights: exact on every instruction set, whatever size and epilogue."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedules.llvm import conv2d, dense, isa, rules
from tests.schedules.calls import (
    Call,
    assert_exact,
    factors,
    ints,
    lookup,
    residual,
    to_int8,
    to_int16,
    weights,
)
from tests.schedules.conftest import make_target

RNG = np.random.default_rng(5)
CHANNELS = (1, 3, 15, 16, 17, 20, 33, 48, 64, 80, 130)
DEPTHS = (1, 3, 4, 5, 64, 67, 8, 9, 130, 2, 7)
EPILOGUES = {
    "accumulator": [],
    "int8": [to_int8()],
    "narrow range": [to_int8(zero_point=-9, low=-100, high=99)],
    "table": [to_int8(), lookup()],
    "table of seven bits": [to_int8(zero_point=0, low=-64, high=63), lookup(low=-64)],
    "wide table": [to_int16(12), lookup(low=-2047)],
    "smooth wide table": [to_int16(12), lookup(low=-2048)],
    "table from a distance": [to_int16(12), lookup(low=-2300)],
    "table to int16": [to_int8(), lookup(dtype="int16"), to_int8()],
    "stream": [to_int16(), residual()],
    "narrow stream": [to_int8(), residual("int8", shift=7, multiplier=100)],
    "fused add": [to_int16(), residual("int16", shift=3, multiplier=5), to_int8()],
    "everything": [to_int8(), lookup(), residual("int8"), to_int16(), residual("int16"), to_int8()],
}


def epilogue_tensors(stages, channels, depth, shape):
    """The tensors of the stages, and which of them are data."""
    tensors, data, near = [], [], 100 / (128 * 73 * np.sqrt(depth))
    for stage in stages:
        if stage["kind"] == "requantize":
            tensors += factors(channels, near=near)
            near = 0.4
        elif stage["kind"] == "lookup":
            tensors.append(table_of(stage))
        else:
            data.append(len(tensors))
            tensors.append(ints(stage["dtype"], *shape))
    return tensors, data


def table_of(stage):
    """Any values, or, for the tables that ramps and waves stand for, values in small steps."""
    entries = {-128: 256, -64: 128, -2047: 4095, -2048: 4096, -2300: 4400}[stage["low"]]
    if stage["low"] == -2048:
        index = np.arange(entries)
        return np.rint(60 * np.sin(index / 300) + index / 70 - 30).astype(np.int8)
    return ints(stage["dtype"], entries)


def dense_call(m, k, n, stages=None, multiplier=None):
    stages = [to_int8()] if stages is None else stages
    tensors, data = epilogue_tensors(stages, n, k, (m, n))
    if multiplier is not None:
        tensors[:2] = multiplier
    arrays = [ints(np.int8, m, k), weights(n, k), bias_of(n), *tensors]
    return Call("dense", {"epilogue": stages}, arrays, others=tuple(3 + d for d in data))


def conv_call(shape, weight, strides=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1,
              stages=None):  # fmt: skip
    stages = [to_int8()] if stages is None else stages
    spans = [d * (k - 1) + 1 for k, d in zip(weight[1:3], dilation, strict=True)]
    height = (shape[1] + padding[0] + padding[2] - spans[0]) // strides[0] + 1
    width = (shape[2] + padding[1] + padding[3] - spans[1]) // strides[1] + 1
    out = (shape[0], height, width, weight[0])
    tensors, data = epilogue_tensors(stages, weight[0], np.prod(weight[1:]), out)
    params = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups,
              "pad_value": -7, "epilogue": stages}  # fmt: skip
    arrays = [ints(np.int8, *shape), weights(*weight), bias_of(weight[0]), *tensors]
    return Call("conv2d", params, arrays, others=tuple(3 + d for d in data))


def bias_of(channels):
    return RNG.integers(-5000, 5000, channels).astype(np.int32)


def names(kernels):
    return {k.name.split("_")[0] for k in kernels}


def test_dense_of_every_width(target):
    sizes = zip(CHANNELS, range(1, 12), DEPTHS, strict=True)
    calls = {f"{n}": dense_call(m, k, n) for n, m, k in sizes}
    kernels = assert_exact(calls, rules(target)[:-1], target)
    assert names(kernels) == {"dense"}


def test_dense_with_every_epilogue(target):
    calls = {name: dense_call(5, 36, 50, stages) for name, stages in EPILOGUES.items()}
    assert_exact(calls, rules(target)[:-1], target)


@pytest.mark.parametrize("stages", ["int8", "stream", "accumulator"])
def test_every_number_of_channels_behind_the_last_register(target, stages):
    calls = {f"{n}": dense_call(3, 8, n, EPILOGUES[stages]) for n in range(1, 16)}
    assert_exact(calls, [dense.schedule], target)


@pytest.mark.parametrize("rows", [1, 2, 13, 14, 15, 29, 197])
def test_rows_around_tiles(rows):
    target = make_target("avx2")
    assert_exact({"rows": dense_call(rows, 20, 40)}, [dense.schedule], target)


def test_pointwise_convolutions_are_dense(target):
    calls = {"1x1": conv_call((2, 3, 5, 12), (20, 1, 1, 12), stages=EPILOGUES["fused add"])}
    assert_exact(calls, [dense.schedule], target)


def test_convolutions_of_every_geometry(target):
    one = (1, 1, 1, 1)
    calls = {
        "3x3": conv_call((1, 8, 8, 16), (32, 3, 3, 16), padding=one),
        "three channels, stride": conv_call((2, 17, 16, 3), (16, 3, 3, 3), (2, 2), one),
        "uneven": conv_call((2, 7, 5, 5), (17, 3, 2, 5), (1, 2), (0, 1, 2, 1)),
        "dilated": conv_call((1, 9, 9, 4), (20, 3, 2, 4), (1, 1), (2, 1, 2, 1), (2, 3)),
        "stride over kernel": conv_call((1, 9, 8, 3), (5, 2, 2, 3), (3, 4)),
        "pointwise, stride": conv_call((1, 9, 9, 12), (33, 1, 1, 12), (2, 2)),
        "patches": conv_call((1, 16, 32, 3), (24, 8, 8, 3), (8, 8)),
        "padding over image": conv_call((1, 2, 1, 4), (3, 3, 3, 4), (1, 1), (3, 3, 3, 3)),
        "padding before a stride": conv_call((1, 1, 1, 4), (3, 1, 1, 4), (5, 5), (2, 2, 0, 0)),
    }
    assert names(assert_exact(calls, [conv2d.schedule], target)) == {"conv2d"}


def test_grouped_convolutions(target):
    one = (1, 1, 1, 1)
    calls = {
        "small groups": conv_call((2, 5, 5, 6), (9, 3, 3, 2), padding=one, groups=3),
        "full groups": conv_call((2, 5, 5, 32), (64, 3, 3, 16), padding=one, groups=2),
        "joined groups": conv_call((1, 4, 4, 24), (48, 3, 3, 2), padding=one, groups=12),
        "uneven outputs": conv_call((1, 4, 4, 6), (66, 1, 1, 2), groups=3),
    }
    assert_exact(calls, [conv2d.schedule], target)


def test_convolutions_with_epilogues(target):
    calls = {
        name: conv_call((1, 5, 3, 8), (50, 3, 3, 8), padding=(1, 1, 1, 1), stages=EPILOGUES[name])
        for name in ("table", "stream", "fused add")
    }
    assert_exact(calls, [conv2d.schedule], target)


def test_large_work_in_several_threads(target):
    calls = {
        "dense": dense_call(130, 120, 100, EPILOGUES["table"]),
        "conv": conv_call((3, 21, 19, 20), (24, 3, 3, 20), padding=(1, 1, 1, 1)),
    }
    kernels = assert_exact(calls, rules(target)[:-1], target)
    assert all("T.parallel" in kernel.function.script() for kernel in kernels)


LARGEST = 2**31 - 1
SHIFTS = [(2**30, 1), (2**30, 31), (LARGEST, 32), (2**30, 33), (LARGEST, 34), (2**30, 62), (1, 62),
          (0, 40)]  # fmt: skip


@pytest.mark.parametrize("pair", SHIFTS)
@pytest.mark.parametrize("zero_point", [0, -128, 127])
def test_every_multiplier_and_shift(pair, zero_point):
    multiplier = [np.full(20, v, np.int32) for v in pair]
    calls = {"shift": dense_call(4, 8, 20, [to_int8(zero_point)], multiplier)}
    assert_exact(calls, [dense.schedule], make_target("avx2"))


def test_shifts_that_differ_within_a_register(target):
    m = RNG.integers(2**30, 2**31, 40).astype(np.int32)
    s = np.resize(np.arange(31, 63, dtype=np.int32), 40)
    calls = {"shifts": dense_call(5, 16, 40, [to_int8()], (m, s))}
    assert_exact(calls, [dense.schedule], target)


def test_ties_round_up_and_ends_saturate(target):
    """Sums of exactly +-half a step: weight 1, so that the sum is the input."""
    x = np.arange(-128, 128, dtype=np.int8).reshape(256, 1)
    arrays = [x, np.ones((17, 1), np.int8), np.zeros(17, np.int32),
              np.full(17, 2**30, np.int32),
              np.repeat([31, 33], [9, 8]).astype(np.int32)]  # fmt: skip
    calls = {"ties": Call("dense", {"epilogue": [to_int8(0, -30, 31)]}, arrays)}
    assert_exact(calls, [dense.schedule], target)


def test_a_full_int32_accumulator(target):
    arrays = [np.full((3, 4), -128, np.int8), np.full((20, 4), 127, np.int8),
              np.full(20, -(2**31) + 4 * 128 * 127, np.int32),
              *factors(20, near=2**-25)]  # fmt: skip
    calls = {"lowest": Call("dense", {"epilogue": [to_int8(0)]}, arrays)}
    assert_exact(calls, [dense.schedule], target)


def test_the_portable_code_is_exact(monkeypatch):
    for module in (dense, conv2d):
        monkeypatch.setattr(module, "instruction_set", lambda target: isa.PORTABLE)
    calls = {name: dense_call(5, 7, 21, stages) for name, stages in EPILOGUES.items()}
    calls["conv"] = conv_call((1, 7, 6, 5), (9, 3, 3, 5), padding=(1, 1, 1, 1))
    assert_exact(calls, [dense.schedule, conv2d.schedule], make_target("sse2"))


@settings(max_examples=15, deadline=None)
@given(
    m=st.integers(1, 40),
    k=st.integers(1, 70),
    n=st.integers(1, 100),
    stages=st.sampled_from(sorted(EPILOGUES)),
)
def test_any_dense(m, k, n, stages):
    call = dense_call(m, k, n, EPILOGUES[stages])
    assert_exact({"any": call}, [dense.schedule], make_target("avx2"))


def test_weights_that_are_data_are_left_to_other_rules():
    call = dense_call(4, 8, 20)
    data = Call(call.op, call.params, call.arrays, tensors=2)
    assert dense.schedule(data.workload(), make_target("avx2")) is None


def test_factors_per_row_are_left_to_other_rules():
    call = conv_call((1, 2, 3, 4), (5, 1, 1, 4))
    arrays = [*call.arrays[:3], *factors(2, 3, 1, near=0.01)]
    per_pixel = Call(call.op, call.params, arrays)
    assert dense.schedule(per_pixel.workload(), make_target("avx2")) is None


def test_every_entry_of_a_wide_table(target):
    """Sums of all 4,096 values: sixteen times one input plus the other."""
    x = np.array([(h, i) for h in range(-128, 128) for i in range(16)], np.int8)
    index = np.arange(4096)
    stages = [{**to_int16(12), "low": -2048}, lookup(low=-2048)]
    calls = {}
    for amplitude in (20, 60, 127):
        wave = amplitude * np.sin(index / 200) + 0.4 * np.cos(index * 3)
        table = np.rint(wave).clip(-128, 127).astype(np.int8)
        arrays = [x, np.tile(np.array([[16, 1]], np.int8), (17, 1)), np.zeros(17, np.int32),
                  np.full(17, 2**30, np.int32), np.full(17, 30, np.int32), table]  # fmt: skip
        calls[f"amplitude {amplitude}"] = Call("dense", {"epilogue": stages}, arrays)
    assert_exact(calls, [dense.schedule], target)
