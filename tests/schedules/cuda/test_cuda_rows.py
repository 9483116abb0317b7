"""LayerNorm and softmax, a warp a row: exact for any length, type and degenerate row."""

import numpy as np
import pytest

from schedules.application import choose
from schedules.cuda import layer_norm, softmax
from tests.schedules.calls import Call
from tests.schedules.cuda.device import FLOAT, TARGET, assert_exact, machine_code
from tests.schedules.test_layer_norm import norm_call
from tests.schedules.test_softmax import softmax_call

RULES = [layer_norm.schedule, softmax.schedule]


def norm_calls():
    sizes = [
        (1, 1, np.int16, "int8"),
        (7, 3, np.int8, "int8"),
        (5, 64, np.int16, "int8"),
        (2, 80, np.int16, "int16"),
        (9, 192, np.int8, "int16"),
        (2, 1000, np.int16, "int8"),
    ]
    calls = {str(size): norm_call(*size) for size in sizes}
    for values in ([0, 0, 0], [-32768, -32768, -32768], [32767, -32768, 1], [1, 0, 0]):
        x = np.resize(np.array(values, np.int16), (3, 48))
        calls[f"{values}"] = norm_call(3, 48, x=x)
        calls[f"{values}, no eps"] = norm_call(3, 48, x=x, eps=0.0)
    return calls


def softmax_calls():
    lengths, dtypes = (1, 2, 31, 64, 197, 600), ("int8", "int32")
    calls = {f"{n} {t}": softmax_call(n, dtype=t) for n in lengths for t in dtypes}
    calls["grid"] = softmax_call(70, on_grid=True)
    calls["flat"] = softmax_call(130, dtype="int32", scale=1e-7)
    calls["peaks"] = softmax_call(130, dtype="int32", scale=3.0)
    calls["finer"] = softmax_call(130, dtype="int32", fraction_bits=6)
    far = np.array([[-(2**31), 2**31 - 1, 0, 5]], np.int32)
    base = softmax_call(4, dtype="int32")
    calls["far apart"] = Call("softmax", base.params, [far, *base.arrays[1:]])
    return calls


def test_layer_norm(any_order):
    kernels = assert_exact(norm_calls(), RULES)
    assert all(kernel.name.startswith("layer_norm_") for kernel in kernels)


def test_softmax(any_order):
    kernels = assert_exact(softmax_calls(), RULES)
    assert all(kernel.name.startswith("softmax_") for kernel in kernels)


@pytest.mark.parametrize("arch", ["sm_75", "sm_90"])
def test_one_kernel_each_without_spills_or_floats(arch):
    calls = [*norm_calls().values(), *softmax_calls().values()]
    made = machine_code([choose(c.workload(), TARGET, RULES) for c in calls], arch)
    assert len(made.resources) == len(calls)
    assert all(r.spills == 0 and r.registers <= 128 for r in made.resources.values())
    assert not FLOAT.search(made.ptx)


def test_what_is_left_to_other_rules():
    for call in (norm_call(2, 1025), softmax_call(1025), softmax_call(20, "table")):
        assert all(rule(call.workload(), TARGET) is None for rule in RULES)
