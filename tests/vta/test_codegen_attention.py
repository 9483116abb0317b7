"""Norms, softmax and attention on the accelerator, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.numerics.exponential import grid_requantizer
from hyq_tvm.numerics.reference.norm import layer_norm_constants
from hyq_tvm.numerics.softmax_tables import attention_constants
from hyq_tvm.vta.arch import DEFAULT, TINY
from hyq_tvm.vta.codegen import compile_operations
from tests.vta.operations import check, constant, operation, random_array, tensor


def norm_parts(rng, channels, count):
    gamma, beta = rng.normal(1, 0.5, channels), rng.normal(0, 0.5, channels)
    gamma, beta, epsilon, shift = layer_norm_constants(gamma, beta, 1e-5, 0.01, 0.03, count)
    params = {
        "epsilon": epsilon,
        "shift": shift,
        "zero_point": -5,
        "low": -128,
        "high": 127,
        "dtype": "int8",
    }
    return [constant(gamma), constant(beta)], params


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (70, 16), (130, 144), (9, 37)])
def test_layer_norm(shape, dtype):
    rng = np.random.default_rng(sum(shape))
    x = random_array(rng, shape, dtype)
    x[0] = x[0, 0]
    values = {"x": x}
    constants, params = norm_parts(rng, shape[-1], shape[-1])
    check([operation("layer_norm", [tensor("x", x), *constants], params, values)], values)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("shape", [(1, 3, 6), (2, 300, 12), (1, 700, 36)])
def test_group_norm(shape, groups):
    rng = np.random.default_rng(sum(shape))
    values = {"x": random_array(rng, shape, "int16")}
    count = shape[1] * shape[2] // groups
    constants, params = norm_parts(rng, shape[2], count)
    params["groups"] = groups
    op = operation("group_norm", [tensor("x", values["x"]), *constants], params, values)
    check([op], values)


GRID = {
    "output": "grid",
    "rescale_multiplier": 2**30 + 12345,
    "rescale_shift": 22,
    "zero_point": -128,
    "low": -128,
    "high": 127,
    "dtype": "int8",
}


@pytest.mark.parametrize("kind", ["linear_pot", "table", "linear", "poly2"])
@pytest.mark.parametrize("output", [{"output": "uint8"}, {"output": "log2_4bit"}, GRID])
@pytest.mark.parametrize("shape", [(1, 1), (5, 17), (40, 197), (2, 1100)])
def test_softmax(shape, output, kind):
    rng = np.random.default_rng(sum(shape))
    logits = (rng.normal(0, 3, shape) / (np.log(2) / 16)).astype(np.int16)
    logits[0] = logits[0, 0]
    values = {"x": logits}
    for fraction_bits in (4, 8):
        params = {"kind": kind, "fraction_bits": fraction_bits, **output}
        configs = (DEFAULT, TINY) if shape[1] < 1000 else (DEFAULT,)
        check([operation("softmax", [tensor("x", logits)], params, values)], values, configs)


@pytest.mark.parametrize("kind", ["linear_pot", "table", "linear", "poly2"])
@pytest.mark.parametrize("scale", [2e-5, 0.003, 0.7, 5.0])
def test_softmax_of_accumulators(scale, kind):
    rng = np.random.default_rng(7)
    logits = (rng.normal(0, 5, (12, 50)) / scale).astype(np.int32)
    logits[0, :2] = [-(2**31), 2**31 - 1]
    values = {"x": logits}
    tensors, params = [], {"kind": kind, "scale": scale}
    if kind in ("linear_pot", "table"):
        made = grid_requantizer(scale, 4, 50)
        tensors = [constant(t) for t in made.tensors]
        params = {"kind": kind, "fraction_bits": 4}
    op = operation("softmax", [tensor("x", logits), *tensors], params, values)
    check([op], values, [DEFAULT])


def test_softmax_that_the_device_lacks_is_refused():
    values = {"x": np.zeros((2, 5), np.int8)}
    op = operation("softmax", [tensor("x", values["x"])], {"kind": "hyq", "scale": 0.1}, values)
    with pytest.raises(UnsupportedModelError, match="CPU only"):
        compile_operations([op], ["y"])


def attention(rng, shape, kind="linear_pot", weight_bits=8, bias=None, configs=(DEFAULT,)):
    batch, n, m, d, e = shape
    values = {
        "q": random_array(rng, (batch, n, d)),
        "k": random_array(rng, (batch, m, d)),
        "v": random_array(rng, (batch, m, e)),
    }
    for array in values.values():
        np.maximum(array, -127, out=array)
    made = attention_constants(
        scale_q=0.05,
        scale_k=0.04,
        scale_v=0.02,
        softmax_scale=d**-0.5,
        scale_out=0.01,
        head_dim=d,
        tokens=m,
        kind=kind,
        weight_bits=weight_bits,
    )
    params = {
        "kind": kind,
        "weight_bits": weight_bits,
        "fraction_bits": 4,
        "has_bias": bias is not None,
        "rescale_multiplier": made["rescale_multiplier"],
        "rescale_shift": made["rescale_shift"],
        "zero_point": 6,
        "low": -128,
        "high": 127,
        "dtype": "int8",
    }
    arguments = [tensor(n, values[n]) for n in "qkv"]
    arguments += [constant(made[key]) for key in ("multiplier", "shift", "table")]
    arguments += [constant(bias)] if bias is not None else []
    check([operation("attention", arguments, params, values)], values, configs)


@pytest.mark.parametrize("weight_bits", [8, 16])
@pytest.mark.parametrize("kind", ["linear_pot", "table", "linear", "poly2"])
def test_attention_kinds(kind, weight_bits):
    attention(np.random.default_rng(0), (2, 20, 33, 20, 20), kind, weight_bits)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (1, 7, 5, 9, 3), (3, 70, 197, 64, 64)])
def test_attention_shapes(shape):
    attention(np.random.default_rng(1), shape)
    attention(np.random.default_rng(1), shape, weight_bits=16)


def test_attention_on_a_tiny_device():
    attention(np.random.default_rng(2), (2, 9, 20, 6, 5), configs=(DEFAULT, TINY))


@pytest.mark.parametrize("excluded", [False, True])
def test_attention_with_bias(excluded):
    rng = np.random.default_rng(3)
    bias = rng.integers(-(2**14), 2**14, (2, 20, 33)).astype(np.int32)
    if excluded:
        bias[rng.random(bias.shape) < 0.3] = -(2**30)
        bias[0, 3] = -(2**30)
    attention(rng, (4, 20, 33, 16, 16), bias=bias)
    attention(rng, (4, 20, 33, 16, 16), bias=bias, weight_bits=16)


def test_attention_over_too_many_tokens_is_refused():
    with pytest.raises(UnsupportedModelError, match="does not fit the buffers"):
        attention(np.random.default_rng(4), (1, 1, 4096, 64, 64))
