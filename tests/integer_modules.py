"""Small integer modules made by hand, for tests of what comes after quantization."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from hyq_tvm.numerics import OPERATORS
from hyq_tvm.quantization.config import QuantConfig
from hyq_tvm.quantization.plan import QuantPlan, TensorPlan
from hyq_tvm.topi import prim_func

BATCH, FEATURES, CLASSES = 4, 8, 3
IN_SCALE, OUT_SCALE = 0.05, 0.125
QUANTIZE = {"scale": IN_SCALE, "zero_point": 3, "low": -128, "high": 127, "dtype": "int8"}
DEQUANTIZE = {"scale": [OUT_SCALE], "zero_point": -7}
DENSE = {
    "epilogue": [
        {"kind": "requantize", "zero_point": -7, "low": -128, "high": 127, "dtype": "int8"}
    ]
}


def weights(seed: int = 0) -> tuple[NDArray[Any], ...]:
    """weight [CLASSES, FEATURES] int8, bias, multiplier and shift [CLASSES] int32."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(-127, 128, (CLASSES, FEATURES)).astype("int8")
    bias = rng.integers(-500, 500, CLASSES).astype("int32")
    multiplier = rng.integers(1 << 29, 1 << 30, CLASSES).astype("int32")
    return weight, bias, multiplier, np.full(CLASSES, 36, "int32")


def plan() -> QuantPlan:
    """Any plan: these modules were not made from one."""
    grid = TensorPlan((OUT_SCALE,), -7, 8, False, "minmax", -16.0, 16.0)
    return QuantPlan(QuantConfig(), "0" * 64, {"logits": grid})


def dense_module(*, outputs: int = 1, final_shape: tuple[int, ...] | None = None) -> tvm.IRModule:
    """quantize, dense, dequantize as Relax; ``outputs`` copies of the logits.

    ``final_shape``: a reshape behind the dequantize.
    """
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((BATCH, FEATURES), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            narrow = _emit(builder, "quantize", QUANTIZE, [x], (BATCH, FEATURES), "int8")
            constants = [relax.const(array) for array in weights()]
            logits = _emit(builder, "dense", DENSE, [narrow, *constants], (BATCH, CLASSES), "int8")
            results = []
            for _ in range(outputs):
                real = _emit(
                    builder, "dequantize", DEQUANTIZE, [logits], (BATCH, CLASSES), "float32"
                )
                if final_shape:
                    real = builder.emit(relax.op.reshape(real, final_shape))
                results.append(builder.emit_output(real))
        builder.emit_func_output(results[0] if outputs == 1 else relax.Tuple(results))
    return builder.finalize().with_attr("hyq.plan", plan().to_json())


def golden_integers(x: NDArray[Any]) -> NDArray[Any]:
    """The integers of the logits of float32 ``x`` [n, FEATURES], int8 [n, CLASSES]."""
    return OPERATORS["dense"](OPERATORS["quantize"](x, **QUANTIZE), *weights(), **DENSE)


def golden(x: NDArray[Any]) -> NDArray[Any]:
    """The logits, float32 [n, CLASSES]."""
    return OPERATORS["dequantize"](golden_integers(x), **DEQUANTIZE)


def images(count: int, seed: int = 1) -> NDArray[Any]:
    """Inputs that reach both ends of the input's grid."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 3, (count, FEATURES)).astype("float32")


def _emit(
    builder: Any, op: str, params: dict[str, Any], args: list[Any], shape: Any, dtype: str
) -> Any:
    specs = [([int(n) for n in arg.ty.shape], str(arg.ty.dtype)) for arg in args]
    function = prim_func(op, params, specs).without_attr("global_symbol")
    reference = builder.add_func(function, op)
    call = relax.call_tir(reference, relax.Tuple(args), relax.TensorType(shape, dtype))
    return builder.emit(call)
