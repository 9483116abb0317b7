"""Every choice of every tunable rule makes the golden model's integers."""

import dataclasses

import numpy as np
import pytest
import tvm

from schedules import llvm
from tests.schedules.calls import (
    Call,
    build,
    factors,
    ints,
    lookup,
    residual,
    to_int8,
    to_int16,
    weights,
)
from tests.schedules.test_attention import attention_call
from tests.schedules.test_layer_norm import norm_call

SAMPLES = 4
TARGET = tvm.target.Target({"kind": "llvm", "mcpu": "haswell", "num-cores": 4})


def dense_call():
    shape = (37, 70, 85)
    bias = ints(np.int16, shape[2]).astype(np.int32)
    stages = [to_int16(), residual()]
    arrays = [ints(np.int8, *shape[:2]), weights(shape[2], shape[1]), bias,
              *factors(shape[2], near=0.01), ints(np.int16, shape[0], shape[2])]  # fmt: skip
    return Call("dense", {"epilogue": stages}, arrays, others=(5,))


def conv_call(groups, channels, outputs):
    params = {"strides": (2, 1), "padding": (1, 0, 1, 2), "dilation": (1, 1), "groups": groups,
              "pad_value": -7, "epilogue": [to_int8(), lookup()]}  # fmt: skip
    arrays = [ints(np.int8, 2, 13, 11, channels), weights(outputs, 3, 3, channels // groups),
              ints(np.int16, outputs).astype(np.int32), *factors(outputs, near=0.003),
              ints(np.int8, 256)]  # fmt: skip
    return Call("conv2d", params, arrays)


CALLS = {
    "dense": dense_call,
    "conv2d": lambda: conv_call(1, 20, 35),
    "depthwise": lambda: conv_call(64, 64, 64),
    "attention": lambda: attention_call(3, 29, 40, 24, 24),
    "layer_norm": lambda: norm_call(21, 150),
}


def rule(name):
    return next(t for t in llvm.TUNABLE if t.name == name)


@pytest.fixture
def several_cores(target):
    options = {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": str(target.attrs["mcpu"])}
    if "mattr" in target.attrs:
        options["mattr"] = [str(m) for m in target.attrs["mattr"]]
    return tvm.target.Target({**options, "num-cores": 4})


def sampled(space):
    """The rule's own choice, the ends of the list, and some between."""
    number = min(SAMPLES, len(space))
    picked = np.random.default_rng(number).choice(len(space), number, replace=False)
    return [space[i] for i in sorted({0, 1, len(space) - 1, *map(int, picked)})]


@pytest.mark.parametrize("name", CALLS)
def test_choices_are_exact(name, several_cores):
    call, tunable = CALLS[name](), rule(name)
    chosen = sampled(tunable.space(call.workload(), several_cores))
    kernels = [tunable.schedule(call.workload(), several_cores, c) for c in chosen]
    module, want = build(kernels, several_cores), call.golden()
    for number, (kernel, choice) in enumerate(zip(kernels, chosen, strict=True)):
        out = tvm.runtime.tensor(np.full(want.shape, 77, want.dtype))
        arrays = [tvm.runtime.tensor(np.ascontiguousarray(a)) for a in call.passed(kernel)]
        module[f"f{number}"](*arrays, out)
        np.testing.assert_array_equal(out.numpy(), want, err_msg=str(choice), strict=True)


@pytest.mark.parametrize("name", CALLS)
def test_the_first_choice_is_the_rules_own(name):
    call, tunable = CALLS[name](), rule(name)
    first = tunable.space(call.workload(), TARGET)[0]
    own = tunable.schedule(call.workload(), TARGET).function
    assert tunable.schedule(call.workload(), TARGET, first).function.script() == own.script()


@pytest.mark.parametrize("name", CALLS)
def test_choices_are_distinct_integers_and_make_other_code(name):
    call, tunable = CALLS[name](), rule(name)
    space = tunable.space(call.workload(), TARGET)
    assert len(set(space)) == len(space) > 3
    assert all(type(v) is int for c in space for v in dataclasses.astuple(c))
    codes = {
        tunable.schedule(call.workload(), TARGET, c).function.script()
        for c in (space[0], space[-1])
    }
    assert len(codes) == 2


@pytest.mark.parametrize("name", CALLS)
def test_other_operators_have_no_choices(name):
    call = Call("view", {"shape": (2,), "strides": (1,), "offset": 0}, [ints(np.int8, 4)])
    assert not rule(name).space(call.workload(), TARGET)


def test_one_core_has_no_choice_of_threads():
    target = tvm.target.Target({"kind": "llvm", "num-cores": 1})
    for name, make in CALLS.items():
        space = rule(name).space(make().workload(), target)
        parts = [(getattr(c, "threads", 0), getattr(c, "tasks", 0)) for c in space]
        assert len(set(parts)) == 1, name


def test_every_tunable_rule_is_tested():
    assert {t.name for t in llvm.TUNABLE} == set(CALLS)
