"""LayerNorm: exact on every instruction set, whatever sizes, scales and degenerate rows."""

import numpy as np
import pytest

from hyq_tvm.numerics.reference.norm import layer_norm_constants
from schedules.llvm import isa, layer_norm
from tests.schedules.calls import RNG, Call, assert_exact, ints
from tests.schedules.conftest import make_target


def norm_call(rows, channels, dtype=np.int16, output="int8", eps=1e-5, scale_in=1e-3,
              scale_out=0.02, x=None):  # fmt: skip
    gamma, beta = RNG.uniform(-2, 2, channels), RNG.uniform(-3, 3, channels)
    g, b, epsilon, shift = layer_norm_constants(gamma, beta, eps, scale_in, scale_out, channels)
    low, high = (-128, 127) if output == "int8" else (-32767, 32767)
    params = {"epsilon": epsilon, "shift": shift, "zero_point": -5 if output == "int8" else 0,
              "low": low, "high": high, "dtype": output}  # fmt: skip
    return Call("layer_norm", params, [ints(dtype, rows, channels) if x is None else x, g, b])


def assert_norm(calls, target):
    kernels = assert_exact(calls, [layer_norm.schedule], target)
    assert all(kernel.name.startswith("layer_norm_") for kernel in kernels)
    return kernels


def test_every_size_and_type(target):
    calls = {
        f"{channels}": norm_call(rows, channels, dtype, output)
        for rows, channels, dtype, output in [
            (1, 1, np.int16, "int8"),
            (7, 3, np.int8, "int8"),
            (8, 15, np.int16, "int16"),
            (9, 16, np.int8, "int16"),
            (3, 17, np.int16, "int8"),
            (17, 64, np.int16, "int8"),
            (2, 80, np.int16, "int16"),
            (5, 144, np.int8, "int8"),
            (3, 197, np.int16, "int8"),
            (2, 1024, np.int16, "int8"),
        ]
    }
    assert_norm(calls, target)


@pytest.mark.parametrize("values", [[0, 0, 0], [-32768, -32768, -32768], [32767, -32768, 1]])
def test_degenerate_rows(target, values):
    x = np.resize(np.array(values, np.int16), (5, 48))
    calls = {
        "eps": norm_call(5, 48, x=x),
        "no eps": norm_call(5, 48, x=x, eps=0.0),
        "large eps": norm_call(5, 48, x=x, eps=1e6),
    }
    assert_norm(calls, target)


def test_small_and_large_deviations(target):
    x = np.zeros((20, 40), np.int16)
    for row in range(20):
        reach = min(32767, 2**row // 8 + 1)
        x[row] = RNG.integers(-reach, reach + 1, 40) - (row % 3) * (32767 - reach) // 2
    calls = {
        str(scale): norm_call(20, 40, x=x, scale_out=scale, output="int16")
        for scale in (1e-3, 0.02, 4.0)
    }
    assert_norm(calls, target)


def test_portable_code(monkeypatch):
    monkeypatch.setattr(layer_norm, "instruction_set", lambda target: isa.PORTABLE)
    assert_norm({"portable": norm_call(5, 21)}, make_target("sse2"))


def test_large_work_in_several_threads(target):
    (kernel,) = assert_norm({"large": norm_call(301, 104)}, target)
    assert "T.parallel" in kernel.function.script()


def test_gains_that_leave_no_room_are_left_to_other_rules():
    call = norm_call(2, 8, scale_out=1e-5)
    assert layer_norm.schedule(call.workload(), make_target("avx2")) is None
