"""Operators as calls on arrays, run through the kernel that the rules choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm

from hyq_tvm import numerics, topi
from hyq_tvm.numerics.fixed_point import quantize_multiplier
from schedules.application import choose
from schedules.rule import Constant, Kernel, Rule, Spec, Workload

RNG = np.random.default_rng(20)


@dataclass(frozen=True, eq=False)
class Call:
    """``op(*arrays, **params)``; the first ``tensors`` arrays are data, the rest constants.

    others: numbers of further arrays that are data (residuals).
    """

    op: str
    params: Mapping[str, Any]
    arrays: Sequence[np.ndarray]
    tensors: int = 1
    others: tuple[int, ...] = ()

    def is_data(self, number: int) -> bool:
        return number < self.tensors or number in self.others

    def golden(self) -> np.ndarray:
        return numerics.OPERATORS[self.op](*self.arrays, **self.params)

    def workload(self) -> Workload:
        specs = tuple(
            Spec(a.shape, str(a.dtype), None if self.is_data(i) else a)
            for i, a in enumerate(self.arrays)
        )
        function = topi.prim_func(self.op, self.params, [(s.shape, s.dtype) for s in specs])
        output = list(function.params)[-1].ty
        shape = tuple(int(n) for n in output.shape)
        return Workload(self.op, self.params, specs, Spec(shape, str(output.dtype)), function)

    def passed(self, kernel: Kernel) -> list[np.ndarray]:
        """The arrays that the kernel takes."""
        return [a.value if isinstance(a, Constant) else self.arrays[a] for a in kernel.arguments]


def build(kernels: Sequence[Kernel], target: Any) -> Any:
    """One module with the kernels ``f0``, ``f1``, ..."""
    functions = {
        f"f{i}": k.function.with_attr("global_symbol", f"f{i}") for i, k in enumerate(kernels)
    }
    return tvm.compile(tvm.IRModule(functions), target=target)


def assert_exact(calls: Mapping[str, Call], rules: Sequence[Rule], target: Any) -> list[Kernel]:
    """Every call's kernel, compiled, makes the golden model's integers."""
    kernels = [choose(call.workload(), target, rules) for call in calls.values()]
    module = build(kernels, target)
    for number, (name, call) in enumerate(calls.items()):
        want = call.golden()
        out = tvm.runtime.tensor(np.full(want.shape, 77, want.dtype))
        arrays = call.passed(kernels[number])
        module[f"f{number}"](*[tvm.runtime.tensor(np.ascontiguousarray(a)) for a in arrays], out)
        np.testing.assert_array_equal(out.numpy(), want, err_msg=name, strict=True)
    return kernels


def ints(dtype: Any, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    values = RNG.integers(info.min, info.max + 1, shape).astype(dtype)
    # Both ends of the range in every array that has room for them.
    values.flat[0], values.flat[-1] = info.min, info.max
    return values


def weights(*shape: int) -> np.ndarray:
    values = RNG.integers(-127, 128, shape).astype(np.int8)
    values.flat[0], values.flat[-1] = -127, 127
    return values


def factors(*shape: int, near: float) -> tuple[np.ndarray, np.ndarray]:
    return quantize_multiplier(RNG.uniform(near / 2, near * 2, shape))


def to_int8(zero_point: int = 3, low: int = -128, high: int = 127) -> dict[str, Any]:
    return {"kind": "requantize", "zero_point": zero_point, "low": low, "high": high,
            "dtype": "int8"}  # fmt: skip


def to_int16(bits: int = 16) -> dict[str, Any]:
    limit = 2 ** (bits - 1) - 1
    return {"kind": "requantize", "zero_point": 0, "low": -limit, "high": limit, "dtype": "int16"}


def lookup(low: int = -128, dtype: str = "int8") -> dict[str, Any]:
    return {"kind": "lookup", "low": low, "dtype": dtype}


def residual(dtype: str = "int16", shift: int = 0, multiplier: int = 1) -> dict[str, Any]:
    info = np.iinfo(dtype)
    return {"kind": "add", "zero_point": 0, "multiplier": multiplier, "shift": shift,
            "low": int(-info.max), "high": int(info.max), "dtype": dtype}  # fmt: skip
