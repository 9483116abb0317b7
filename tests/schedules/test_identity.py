"""Epilogues without a product: exact on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest

from schedules.llvm import identity, rules
from tests.schedules.calls import (
    Call,
    assert_exact,
    factors,
    ints,
    lookup,
    residual,
    to_int8,
    to_int16,
)
from tests.schedules.conftest import make_target


def identity_call(shape, dtype="int16", stages=None, zero_point=0, channels=1):
    stages = [to_int8()] if stages is None else stages
    tensors, others, near = [], [], 100 / np.iinfo(dtype).max
    for stage in stages:
        if stage["kind"] == "requantize":
            tensors += factors(channels, near=near)
        elif stage["kind"] == "lookup":
            tensors.append(ints(stage["dtype"], 256))
        else:
            others.append(1 + len(tensors))
            tensors.append(ints(stage["dtype"], *shape))
    params = {"zero_point": zero_point, "epilogue": stages}
    return Call("identity", params, [ints(dtype, *shape), *tensors], others=tuple(others))


def assert_identity(calls, target):
    kernels = assert_exact(calls, [identity.schedule], target)
    assert all(kernel.name.startswith("identity_") for kernel in kernels)
    return kernels


def test_every_size(target):
    sizes = [(1,), (3, 5), (16,), (63,), (64,), (65,), (2, 7, 31)]
    calls = {f"{s} {d}": identity_call(s, d) for s in sizes for d in ("int8", "int16")}
    assert_identity(calls, target)


def test_epilogues_and_zero_points(target):
    calls = {
        "nothing": identity_call((5, 29), stages=[]),
        "zero point": identity_call((5, 29), "int8", zero_point=-128),
        "other end": identity_call((5, 29), "int8", zero_point=127, stages=[to_int16()]),
        "table": identity_call((5, 29), stages=[to_int8(), lookup()]),
        "table alone": identity_call((5, 29), "int8", stages=[lookup()]),
        "residual": identity_call((5, 29), stages=[to_int16(), residual(), to_int8()]),
    }
    assert_identity(calls, target)


def test_much_in_several_threads():
    (kernel,) = assert_identity({"large": identity_call((330, 311))}, make_target("avx2"))
    assert "T.parallel" in kernel.function.script()


@pytest.mark.parametrize("shape", [(4, 20)])
def test_constants_of_channels_are_left_to_other_rules(shape):
    call = identity_call(shape, channels=20)
    target = make_target("avx2")
    assert identity.schedule(call.workload(), target) is None
    assert_exact({"channels": call}, rules(target), target)
