"""Dense layers and matrix products on the accelerator, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.vta.arch import DEFAULT, TINY
from hyq_tvm.vta.codegen import compile_operations
from tests.vta.operations import (
    Op,
    add,
    check,
    constant,
    lookup,
    operation,
    random_array,
    requantize,
    stages,
    tensor,
)


def dense(rng, m, k, n, make_stages=lambda rng, n, values: ([], []), name="y", x_name="x"):
    x = random_array(rng, (m, k))
    values = {x_name: x}
    weight = random_array(rng, (n, k))
    bias = rng.integers(-(2**20), 2**20, n).astype(np.int32)
    made, arguments = make_stages(rng, n, values)
    op = operation(
        "dense",
        [tensor(x_name, x), constant(weight), constant(bias), *arguments],
        {"epilogue": made},
        values,
        name,
    )
    return op, values


def narrow(rng, n, values):
    return stages(requantize(rng, n))


def activated(rng, n, values):
    stage = requantize(rng, n)
    return stages(stage, lookup(rng, stage[0]["low"], stage[0]["high"]))


def wide_table(rng, n, values):
    stage = requantize(rng, 1, "int16", zero_point=0)
    stage[0].update(low=-2047, high=2047)
    return stages(stage, lookup(rng, -2047, 2047, "int16"), requantize(rng, n, fan_in=1 / 64))


def residual(rng, n, values):
    values["r"] = random_array(rng, (values["x"].shape[0], n), "int16")
    first = requantize(rng, n, "int16", zero_point=0)
    return stages(first, add("r", values["r"], "int16", -32767, 32767))


def rescaled_residual(rng, n, values):
    values["r"] = random_array(rng, (values["x"].shape[0], n), "int8")
    fine = requantize(rng, n, "int32", zero_point=0)
    scaled = add("r", values["r"], "int32", -(2**29), 2**29, -5, 29411, 3)
    return stages(fine, scaled, requantize(rng, n))


@pytest.mark.parametrize("epilogue", [narrow, activated, wide_table, residual, rescaled_residual])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 17, 33), (37, 64, 48), (130, 20, 100)])
def test_dense(shape, epilogue):
    op, values = dense(np.random.default_rng(sum(shape)), *shape, epilogue)
    check([op], values)


@pytest.mark.parametrize("shape", [(3, 5, 7), (65, 70, 30)])
def test_dense_accumulators(shape):
    op, values = dense(np.random.default_rng(1), *shape)
    assert op.dtype == "int32"
    check([op], values)


def test_dense_larger_than_every_buffer():
    op, values = dense(np.random.default_rng(2), 300, 640, 1000, narrow)
    check([op], values, [DEFAULT])
    op, values = dense(np.random.default_rng(3), 70, 100, 200, residual)
    check([op], values, [TINY])


def test_two_dense_layers_in_a_row():
    rng = np.random.default_rng(4)
    first, values = dense(rng, 100, 40, 60, narrow, name="h")
    second, more = dense(rng, 100, 60, 20, narrow, x_name="h")
    del more["h"]
    check([first, second], {**values, **more}, outputs=["h", "y"])


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 10, 17, 21), (2, 70, 36, 65)])
def test_matmul(shape, dtype):
    rng = np.random.default_rng(sum(shape))
    batch, m, k, n = shape
    values = {"a": random_array(rng, (batch, m, k), dtype), "b": random_array(rng, (batch, n, k))}
    made, arguments = stages(requantize(rng, 1))
    op = operation(
        "matmul",
        [tensor("a", values["a"]), tensor("b", values["b"]), *arguments],
        {"epilogue": made},
        values,
    )
    check([op], values)


def test_unsupported_operators_are_all_named():
    ops = [
        Op("y", op, [tensor("x", np.zeros(3, np.int8))], {}, (3,), "int8", f"layer.{op}")
        for op in ("fft", "sort")
    ]
    with pytest.raises(UnsupportedModelError, match=r"fft \(layer.fft\), sort \(layer.sort\)"):
        compile_operations(ops, ["y"])


def test_outputs_that_nothing_makes_are_refused():
    op, _ = dense(np.random.default_rng(0), 2, 2, 2)
    with pytest.raises(UnsupportedModelError, match="'z'"):
        compile_operations([op], ["z"])
