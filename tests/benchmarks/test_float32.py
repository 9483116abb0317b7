"""The float twin computes what PyTorch computes, to a few units of float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import tvm

from benchmarks.float32 import rows
from benchmarks.float32.functions import FUNCTIONS
from benchmarks.float32.layers import layer
from benchmarks.float32.matmul import Product, matmul
from benchmarks.float32.target import float_isa, float_target
from schedules.llvm import vector
from schedules.prim_func import prim_func
from schedules.rule import Constant, Spec, Workload

RNG = np.random.default_rng(3)
TARGET = float_target()
ISA = float_isa(TARGET)
needs_wide = pytest.mark.skipif(ISA.lanes != 16, reason="float kernels are made for AVX512")


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def run(kernel, arrays, shape, dtype="float32"):
    """The kernel on the operator's arrays."""
    function = kernel.function.with_attr("global_symbol", "f")
    module = tvm.compile(tvm.IRModule({"f": function}), target=TARGET)
    out = tvm.runtime.tensor(np.zeros(shape, dtype))
    passed = [a.value if isinstance(a, Constant) else arrays[a] for a in kernel.arguments]
    module["f"](*[tvm.runtime.tensor(np.ascontiguousarray(a)) for a in passed], out)
    return out.numpy()


def close(got, want, tolerance=2e-5):
    np.testing.assert_allclose(got, np.asarray(want), rtol=tolerance, atol=tolerance)


@needs_wide
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions(name):
    x = np.concatenate([np.linspace(-20, 20, 4000), [-90, -1e-6, 0, 1e-6, 85]]).astype(np.float32)
    x = np.resize(x, 4016)

    def body(source, out):
        with vector.loop(251) as i:
            value = vector.bind(vector.load(source, i * 16, 16))
            vector.store(out, i * 16, FUNCTIONS[name](value, 16), 16)

    from schedules.rule import Kernel

    spec = Spec(x.shape, "float32")
    kernel = Kernel("f", prim_func("f", [spec], spec, body), (0,))
    exact = torch.exp if name == "exp" else getattr(torch.nn.functional, name)
    close(run(kernel, [x], x.shape), exact(torch.from_numpy(x)), 1e-5)


def layer_workload(op, x, weight, out, **params):
    arrays = [x, weight, floats(len(weight))]
    specs = [Spec(a.shape, "float32", a if i else None) for i, a in enumerate(arrays)]
    return Workload(op, params, tuple(specs), Spec(out, "float32"), None), arrays


@needs_wide
@pytest.mark.parametrize(("rows_", "depth", "channels"), [(1, 5, 3), (37, 20, 50), (64, 48, 64)])
def test_dense_with_activation_and_residual(rows_, depth, channels):
    workload, arrays = layer_workload(
        "dense", floats(rows_, depth), floats(channels, depth), (rows_, channels)
    )
    other = floats(rows_, channels)
    more = Workload("dense", {}, (*workload.arguments, Spec(other.shape, "float32")),
                    workload.output, None)  # fmt: skip
    want = torch.nn.functional.silu(torch.from_numpy(arrays[0] @ arrays[1].T + arrays[2])) + other
    got = run(layer(more, ISA, ("silu", "add")), [*arrays, other], other.shape)
    close(got, want)


@needs_wide
@pytest.mark.parametrize(
    ("shape", "weight", "stride", "groups"),
    [
        ((1, 9, 8, 3), (16, 3, 3, 3), 2, 1),
        ((2, 6, 7, 20), (33, 3, 3, 20), 1, 1),
        ((1, 8, 8, 48), (48, 3, 3, 1), 1, 48),
        ((1, 8, 8, 32), (32, 3, 3, 1), 2, 32),
        ((1, 5, 5, 12), (40, 1, 1, 12), 1, 1),
    ],
)
def test_convolutions(shape, weight, stride, groups):
    x, w, pad = floats(*shape), floats(*weight), weight[1] // 2
    size = [(n + 2 * pad - weight[1]) // stride + 1 for n in shape[1:3]]
    params = {"strides": (stride,) * 2, "padding": (pad,) * 4, "dilation": (1, 1),
              "groups": groups, "pad_value": 0}  # fmt: skip
    out = (shape[0], *size, weight[0])
    workload, arrays = layer_workload("conv2d", x, w, out, **params)
    want = torch.nn.functional.conv2d(
        torch.from_numpy(x.transpose(0, 3, 1, 2)), torch.from_numpy(w.transpose(0, 3, 1, 2)),
        torch.from_numpy(arrays[2]), stride, pad, 1, groups,
    ).numpy()  # fmt: skip
    close(run(layer(workload, ISA), arrays, out), want.transpose(0, 2, 3, 1), 1e-4)


@needs_wide
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("size", [(2, 7, 5, 9), (1, 30, 36, 100), (3, 1, 64, 64)])
def test_products_of_activations(size, transposed):
    batch, m, k, n = size
    a, b = floats(batch, m, k), floats(batch, k, n)
    right = b.transpose(0, 2, 1) if transposed else b
    kernel = matmul(Product(batch, m, k, n, transposed, 0.3), ISA)
    close(run(kernel, [a, right], (batch, m, n)), a @ b * np.float32(0.3), 1e-4)


@needs_wide
def test_products_of_integers_round_to_integers():
    a = RNG.integers(-127, 128, (2, 9, 20)).astype(np.int8)
    b = RNG.integers(-127, 128, (2, 20, 33)).astype(np.int8)
    product = Product(2, 9, 20, 33, False, 1 / 700, ("int8", "int8"), "int8", 3)
    want = np.rint(a.astype(np.int32) @ b.astype(np.int32) / 700) + 3
    got = run(matmul(product, ISA), [a, b], (2, 9, 33), "int8").astype(np.int64)
    assert np.abs(got - want.clip(-128, 127)).max() <= 1
    assert (got == want.clip(-128, 127)).mean() > 0.99


@needs_wide
@pytest.mark.parametrize("tokens", [1, 16, 17, 64, 197, 600])
def test_softmax(tokens):
    x = 5 * floats(6, tokens)
    want = torch.softmax(torch.from_numpy(x), -1)
    close(run(rows.softmax(x.shape), [x], x.shape), want, 2e-6)


@needs_wide
@pytest.mark.parametrize("dtype", ["int8", "int32"])
def test_softmax_of_integers(dtype):
    x = RNG.integers(-128, 128, (5, 70)).astype(dtype)
    want = np.rint(255 * torch.softmax(torch.from_numpy(x.astype(np.float32) * 0.05), -1).numpy())
    got = run(rows.softmax(x.shape, dtype, 0.05, "uint8"), [x], x.shape, "uint8")
    assert np.abs(got.astype(int) - want).max() <= 1


@needs_wide
@pytest.mark.parametrize("channels", [3, 16, 80, 192, 300])
def test_layer_norm(channels):
    x, gamma, beta = 3 * floats(9, channels) + 1, floats(channels), floats(channels)
    want = torch.nn.functional.layer_norm(
        torch.from_numpy(x), (channels,), torch.from_numpy(gamma), torch.from_numpy(beta), 1e-5
    )
    got = run(rows.layer_norm(x.shape, gamma, beta, 1e-5), [x], x.shape)
    close(got, want, 2e-5)
