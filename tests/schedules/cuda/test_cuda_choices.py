"""Every choice of every rule for GPUs makes the golden model's integers."""

import dataclasses

import numpy as np
import pytest
import tvm

from schedules import cuda
from schedules.cuda.tiles import SHARED
from tests.schedules.calls import Call, ints, lookup, residual, to_int8, to_int16
from tests.schedules.cuda.device import FLOAT, TARGET, emulated, machine_code
from tests.schedules.cuda.test_cuda_products import matmul_call
from tests.schedules.test_attention import attention_call
from tests.schedules.test_depthwise import depthwise_call
from tests.schedules.test_layer_norm import norm_call
from tests.schedules.test_products import conv_call, dense_call
from tests.schedules.test_softmax import softmax_call

QUICK, MANY = 3, 16
ONE = (1, 1, 1, 1)

CALLS = {
    "tensor_cores": [
        lambda: dense_call(70, 200, 75),
        lambda: conv_call((2, 6, 5, 24), (40, 3, 3, 24), padding=ONE),
        lambda: conv_call((1, 7, 6, 5), (33, 3, 3, 5), padding=ONE),
        lambda: dense_call(19, 130, 36, [to_int16(), residual(), to_int8()]),
    ],
    "dot": [
        lambda: conv_call((2, 9, 9, 3), (16, 3, 3, 3), strides=(2, 2), padding=ONE),
        lambda: dense_call(40, 48, 10),
    ],
    "matmul": [lambda: matmul_call(3, 40, 84, 70)],
    "depthwise": [
        lambda: depthwise_call((2, 7, 6, 12), (3, 3)),
        lambda: depthwise_call((1, 9, 8, 36), (3, 3), strides=(2, 2), stages=[to_int8(), lookup()]),
    ],
    "attention": [
        lambda: attention_call(2, 70, 140, 36, 20),
        lambda: attention_call(2, 33, 50, 12, 20, kind="table"),
    ],
    "layer_norm": [lambda: norm_call(9, 100), lambda: norm_call(3, 7)],
    "softmax": [lambda: softmax_call(197, dtype="int32"), lambda: softmax_call(13)],
}
CASES = [pytest.param(n, make, id=f"{n}-{i}") for n, s in CALLS.items() for i, make in enumerate(s)]


def rule(name):
    return next(t for t in cuda.TUNABLE if t.name == name)


def sampled(space, number):
    """The first, the last, and some between that a seed picks."""
    picked = np.random.default_rng(7).choice(len(space), min(number, len(space)), replace=False)
    return [space[i] for i in sorted({0, len(space) - 1, *map(int, picked)})]


@pytest.mark.parametrize(("name", "make"), CASES)
def test_choices_are_exact(gpu, name, make):
    assert_choices(name, make(), QUICK)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "make"), CASES)
def test_many_choices_are_exact_in_any_order(any_order, name, make):
    assert_choices(name, make(), MANY)


def assert_choices(name, call, number):
    tunable = rule(name)
    chosen = sampled(tunable.space(call.workload(), TARGET), number)
    kernels = [tunable.schedule(call.workload(), TARGET, choice) for choice in chosen]
    module, want = emulated(kernels), call.golden()
    gpu = tvm.runtime.device("cuda", 0)
    for number, (kernel, choice) in enumerate(zip(kernels, chosen, strict=True)):
        out = tvm.runtime.tensor(np.full(want.shape, 77, want.dtype), device=gpu)
        arrays = [np.ascontiguousarray(a) for a in call.passed(kernel)]
        module[f"f{number}"](*[tvm.runtime.tensor(a, device=gpu) for a in arrays], out)
        np.testing.assert_array_equal(out.numpy(), want, err_msg=str(choice), strict=True)


@pytest.mark.parametrize(("name", "make"), CASES)
def test_the_first_choice_is_the_rules_own_and_all_are_distinct_integers(name, make):
    call, tunable = make(), rule(name)
    space = tunable.space(call.workload(), TARGET)
    assert len(set(space)) == len(space) > 3
    assert all(type(v) is int for c in space for v in dataclasses.astuple(c))
    codes = [
        tunable.schedule(call.workload(), TARGET, *c).function.script()
        for c in ((), (space[0],), (space[-1],))
    ]
    assert codes[0] == codes[1] != codes[2]


def test_products_have_hundreds_of_choices_that_fit_shared_memory():
    space = rule("tensor_cores").space(dense_call(300, 384, 256).workload(), TARGET)
    assert 100 < len(space) < 400
    assert all(tile.shared <= SHARED for tile in space)


@pytest.mark.parametrize("name", CALLS)
def test_other_operators_have_no_choices(name):
    call = Call("view", {"shape": (2,), "strides": (1,), "offset": 0}, [ints(np.int8, 4)])
    assert not rule(name).space(call.workload(), TARGET)


@pytest.mark.parametrize("name", CALLS)
def test_sampled_choices_compile_without_floats(name):
    """What spills is found here too; the tuner leaves those out."""
    call, tunable = CALLS[name][0](), rule(name)
    chosen = sampled(tunable.space(call.workload(), TARGET), 2)
    made = machine_code([tunable.schedule(call.workload(), TARGET, c) for c in chosen], "sm_90")
    assert len(made.resources) == len(chosen)
    assert all(r.shared <= SHARED for r in made.resources.values())
    assert not FLOAT.search(made.ptx)


def test_the_rules_and_the_cases_are_the_same():
    assert [t.name for t in cuda.TUNABLE] == list(CALLS)
