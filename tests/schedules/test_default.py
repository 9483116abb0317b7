"""The last rule takes every operator, changes no integer and parallelises only real work."""

import numpy as np
import pytest
import tvm

from schedules.llvm import default
from tests.schedules.calls import Call, assert_exact, factors, ints, lookup, to_int8, weights

GENERIC = tvm.target.Target("llvm")


def calls():
    conv = {"strides": (2, 1), "padding": (1, 0, 1, 2), "dilation": (1, 1), "groups": 1,
            "pad_value": -7, "epilogue": [to_int8()]}  # fmt: skip
    bias = ints(np.int16, 5).astype(np.int32)
    return {
        "dense": Call(
            "dense",
            {"epilogue": [to_int8(), lookup()]},
            [
                ints(np.int8, 7, 13),
                weights(5, 13),
                bias,
                *factors(5, near=0.001),
                ints(np.int8, 256),
            ],
        ),
        "conv": Call(
            "conv2d",
            conv,
            [ints(np.int8, 2, 7, 6, 3), weights(5, 3, 3, 3), bias, *factors(5, near=0.002)],
        ),
        "depthwise": Call(
            "conv2d",
            {**conv, "groups": 5},
            [ints(np.int8, 1, 7, 6, 5), weights(5, 3, 3, 1), bias, *factors(5, near=0.005)],
        ),
        "matmul": Call(
            "matmul",
            {"epilogue": [to_int8()]},
            [ints(np.int8, 2, 3, 9), ints(np.int8, 2, 4, 9), *factors(1, near=0.001)],
            tensors=2,
        ),
        "sum": Call(
            "reduce_sum",
            {"axes": (1, 2), "keepdims": False, "zero_point": 4, "epilogue": []},
            [ints(np.int8, 2, 3, 4, 5)],
        ),
        "sum of all": Call(
            "reduce_sum",
            {"axes": (0, 1), "keepdims": True, "zero_point": 0, "epilogue": []},
            [ints(np.int16, 3, 4)],
        ),
        "sum to a scalar": Call(
            "reduce_sum",
            {"axes": (0, 1), "keepdims": False, "zero_point": 0, "epilogue": []},
            [ints(np.int8, 300, 200)],
        ),
        "view": Call(
            "view", {"shape": (2, 3, 4), "strides": (12, 1, 3), "offset": 0}, [ints(np.int8, 24)]
        ),
        "pool": Call(
            "max_pool2d",
            {"kernel": (3, 3), "strides": (2, 2), "padding": (1, 1, 1, 1)},
            [ints(np.int8, 1, 6, 6, 3)],
        ),
    }


def test_every_operator_keeps_its_integers():
    assert_exact(calls(), [default.schedule], GENERIC)


@pytest.mark.parametrize(("rows", "threads"), [(8, False), (64, True)])
def test_threads_only_where_there_is_work(rows, threads):
    call = Call(
        "dense",
        {"epilogue": []},
        [ints(np.int8, rows, 64), weights(32, 64), np.zeros(32, np.int32)],
    )
    script = default.schedule(call.workload(), GENERIC).function.script()
    assert ("T.parallel" in script) is threads


def test_one_row_is_shared_among_threads_by_its_columns():
    call = Call(
        "dense",
        {"epilogue": [to_int8()]},
        [
            ints(np.int8, 1, 256),
            weights(512, 256),
            np.zeros(512, np.int32),
            *factors(512, near=1e-3),
        ],
    )
    assert_exact({"head": call}, [default.schedule], GENERIC)
    assert "T.parallel(512)" in default.schedule(call.workload(), GENERIC).function.script()
