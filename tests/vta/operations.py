"""Single operators as the code generator takes them, and the check against the golden model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyq_tvm.numerics import OPERATORS
from hyq_tvm.vta.arch import DEFAULT, TINY, VTAConfig
from hyq_tvm.vta.codegen import compile_operations
from hyq_tvm.vta.codegen.choices import Choose, own
from hyq_tvm.vta.program import Program
from hyq_tvm.vta.simulator import Simulator

ORDERS = (("load", "compute", "store"), ("store", "compute", "load"), ("compute", "load", "store"))


@dataclass(frozen=True, eq=False)
class Value:
    """An argument: a tensor's name or a constant."""

    value: Any
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, eq=False)
class Op:
    """An operation."""

    name: str
    op: str
    arguments: Sequence[Value]
    params: Mapping[str, Any]
    shape: tuple[int, ...]
    dtype: str
    layer: str


def tensor(name: str, array: np.ndarray, shape: tuple[int, ...] | None = None) -> Value:
    """A tensor argument."""
    return Value(name, shape or array.shape, str(array.dtype))


def constant(array: np.ndarray) -> Value:
    """A constant argument."""
    return Value(array, array.shape, str(array.dtype))


def evaluate(op: Op, values: dict[str, np.ndarray]) -> np.ndarray:
    """The golden result."""
    arrays = [values[a.value] if isinstance(a.value, str) else a.value for a in op.arguments]
    shaped = [a.reshape(v.shape) for a, v in zip(arrays, op.arguments, strict=True)]
    return OPERATORS[op.op](*shaped, **op.params)


def operation(op, arguments, params, values, name="y") -> Op:
    """An operation whose shape and dtype come from running it."""
    draft = Op(name, op, arguments, params, (), "", f"layer {op}")
    result = evaluate(draft, values)
    return Op(name, op, arguments, params, result.shape, str(result.dtype), f"layer {op}")


def check(
    ops: Sequence[Op],
    inputs: Mapping[str, np.ndarray],
    configs: Sequence[VTAConfig] = (DEFAULT, TINY),
    outputs: Sequence[str] = (),
    choose: Choose = own,
) -> list[Program]:
    """Compile and run on every device in several orders of units; compare with the golden model."""
    values = dict(inputs)
    for op in ops:
        values[op.name] = evaluate(op, values)
    wanted = outputs or [ops[-1].name]
    programs = []
    for config in configs:
        program = compile_operations(ops, wanted, config, choose=choose)
        program = Program.from_bytes(program.to_bytes())
        fed = {n: inputs[n].reshape(p.shape) for n, p in program.places("input").items()}
        for priority in ORDERS:
            run = Simulator(config, priority=priority).run(program, fed)
            for name in wanted:
                np.testing.assert_array_equal(run.outputs[name], values[name])
        programs.append(program)
    return programs


def requantize(rng, channels, dtype="int8", zero_point=3, fan_in=64):
    """A stage and its tensors; channels: 1 or C."""
    info = np.iinfo(dtype)
    bits = rng.integers(28, 34, channels)
    shift = (bits + int(np.log2(fan_in))).astype(np.int32)
    multiplier = rng.integers(2**28, 2**31, channels).astype(np.int32)
    stage = {
        "kind": "requantize",
        "zero_point": zero_point,
        "low": max(int(info.min), -(2**30)),
        "high": min(int(info.max), 2**30),
        "dtype": dtype,
    }
    return stage, [constant(multiplier), constant(shift)]


def lookup(rng, low, high, dtype="int8"):
    """A random table over [low, high]."""
    info = np.iinfo(dtype)
    table = rng.integers(info.min, info.max, high - low + 1, endpoint=True).astype(dtype)
    return {"kind": "lookup", "low": low, "dtype": dtype}, [constant(table)]


def add(name, array, dtype, low, high, zero_point=0, multiplier=1, shift=0):
    """Adds tensor ``name``."""
    stage = {
        "kind": "add",
        "zero_point": zero_point,
        "multiplier": multiplier,
        "shift": shift,
        "low": low,
        "high": high,
        "dtype": dtype,
    }
    return stage, [tensor(name, array)]


def stages(*parts):
    """Stage list and their tensors, concatenated."""
    return [stage for stage, _ in parts], [t for _, tensors in parts for t in tensors]


def random_array(rng, shape, dtype="int8"):
    """Any value of a type, its ends more often."""
    info = np.iinfo(dtype)
    array = rng.integers(info.min, info.max, shape, endpoint=True).astype(dtype)
    ends = rng.random(shape) < 0.1
    return np.where(ends, rng.choice([info.min, info.max], shape), array).astype(dtype)
