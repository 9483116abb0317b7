"""The float opponent: as exact as float32 allows, on floats and on integer logits."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import te

from hyq_tvm import topi
from hyq_tvm.errors import ConfigError

RNG = np.random.default_rng(5)


def float64_softmax(real):
    e = np.exp(real - real.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def run(values, output="float32", **options):
    x = te.placeholder(values.shape, str(values.dtype), name="x")
    y = topi.exact_softmax(x, output=output, **options)
    function = te.create_prim_func([x, y]).with_attr("global_symbol", "main")
    module = tvm.compile(tvm.IRModule({"main": function}), target="llvm")
    out = tvm.runtime.empty(values.shape, output)
    module["main"](tvm.runtime.tensor(values), out)
    return out.numpy()


@pytest.mark.parametrize("polynomial", [True, False])
def test_exact_on_floats(polynomial):
    x = (RNG.normal(size=(40, 197)) * RNG.choice([0.1, 1, 10, 100], (40, 1))).astype(np.float32)
    result = run(x, polynomial=polynomial)
    np.testing.assert_allclose(result, float64_softmax(x.astype(np.float64)), atol=2e-6)


def test_exact_on_integers():
    x = RNG.integers(-128, 128, (20, 64)).astype(np.int8)
    exact = float64_softmax(x * 0.07)
    np.testing.assert_allclose(run(x, scale=0.07), exact, atol=2e-6)
    assert np.abs(run(x, "uint8", scale=0.07) - 255 * exact).max() <= 0.501


@pytest.mark.parametrize(
    ("dtype", "options", "match"),
    [
        ("float32", {"output": "int8"}, "int8"),
        ("float32", {"scale": 0.1}, "scale"),
        ("int8", {}, "scale"),
    ],
)
def test_exact_refuses(dtype, options, match):
    with pytest.raises(ConfigError, match=match):
        topi.exact_softmax(te.placeholder((2, 3), dtype, name="x"), **options)


def test_exact_is_seen_to_be_float(float_dtypes):
    x = te.placeholder((2, 3), "int8", name="x")
    for output in ("float32", "uint8"):
        function = te.create_prim_func([x, topi.exact_softmax(x, 0.1, output)])
        assert float_dtypes(function) == {"float32"}
