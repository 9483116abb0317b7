"""The accumulator proof, N4: the worst case of every intermediate, from the actual weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log2, prod

import numpy as np

from hyq_tvm.errors import AccumulatorOverflowError
from hyq_tvm.numerics.reference.norm import count_shift
from hyq_tvm.quantization.integer_program import Instruction, IntegerProgram

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1


@dataclass(frozen=True)
class Bound:
    """``worst``: largest magnitude of ``quantity`` of ``layer``; ``limit``: what its type holds."""

    layer: str
    quantity: str
    worst: int
    limit: int

    @property
    def margin_bits(self) -> float:
        """How many times the worst case could double before it overflows."""
        return log2(self.limit / max(self.worst, 1))


def check_accumulators(program: IntegerProgram) -> list[Bound]:
    """The bounds of all instructions; raises ``AccumulatorOverflowError`` naming what overflows."""
    bounds = accumulator_bounds(program)
    broken = [b for b in bounds if b.worst > b.limit]
    if broken:
        listed = "; ".join(f"{b.layer}: {b.quantity} reaches {b.worst} > {b.limit}" for b in broken)
        raise AccumulatorOverflowError(
            f"{listed}. Use fewer weight or activation bits there, or exclude the layer"
        )
    return bounds


def accumulator_bounds(program: IntegerProgram) -> list[Bound]:
    """Worst cases over every value that the instructions' inputs can take."""
    ranges = _value_ranges(program)
    bounds: list[Bound] = []
    for instruction in program:
        rule = _RULES.get(instruction.op)
        if rule is not None:
            reach = [ranges[str(a.value)] for a in instruction.tensor_arguments]
            bounds.extend(rule(instruction, reach))
    return bounds


Range = tuple[int, int]


def _value_ranges(program: IntegerProgram) -> dict[str, Range]:
    ranges: dict[str, Range] = {}
    for ins in program:
        sources = [ranges[str(a.value)] for a in ins.tensor_arguments if str(a.value) in ranges]
        if ins.op in ("view", "concat", "max_pool2d"):
            constants = [(int(c.min()), int(c.max())) for c in ins.constants if c.size]
            both = sources + constants
            ranges[ins.name] = (min(r[0] for r in both), max(r[1] for r in both))
        elif ins.op == "pad":
            low, high = sources[0]
            ranges[ins.name] = (min(low, ins.params["value"]), max(high, ins.params["value"]))
        else:
            ranges[ins.name] = _output_range(ins)
    return ranges


def _output_range(ins: Instruction) -> Range:
    stages = ins.params.get("epilogue", [])
    if stages and stages[-1]["kind"] == "lookup":
        table = ins.constants[-1]
        return int(table.min()), int(table.max())
    source = stages[-1] if stages else ins.params
    if "low" in source:
        return int(source["low"]), int(source["high"])
    if ins.dtype.startswith("float"):
        return 0, 0
    info = np.iinfo(ins.dtype)
    return int(info.min), int(info.max)


def _linear(ins: Instruction, ranges: list[Range]) -> list[Bound]:
    weight, bias = (c.astype(np.int64) for c in ins.constants[:2])
    low, high = ranges[0]
    if ins.op == "conv2d":
        low, high = min(low, ins.params["pad_value"]), max(high, ins.params["pad_value"])
    flat = weight.reshape(len(bias), -1)
    up = np.maximum(flat * low, flat * high).sum(axis=1) + bias
    down = np.minimum(flat * low, flat * high).sum(axis=1) + bias
    # Partial sums in any order stay inside the sum of magnitudes.
    partial = (np.abs(flat) * max(abs(low), abs(high))).sum(axis=1) + np.abs(bias)
    worst = int(max(up.max(), -down.min(), 0))
    return [
        Bound(ins.layer, "accumulator", worst, INT32_MAX),
        Bound(ins.layer, "partial sums in any order", int(partial.max()), INT32_MAX),
    ]


def _matmul(ins: Instruction, ranges: list[Range]) -> list[Bound]:
    depth = ins.arguments[0].shape[-1]
    worst = depth * _reach(ranges[0]) * _reach(ranges[-1])
    return [Bound(ins.layer, "accumulator", worst, INT32_MAX)]


def _reach(values: Range, zero_point: int = 0) -> int:
    return max(abs(values[0] - zero_point), abs(values[1] - zero_point))


def _multiply(ins: Instruction, ranges: list[Range]) -> list[Bound]:
    constants = [(int(c.min()), int(c.max())) for c in ins.constants[:1]]
    both = (ranges + constants)[:2]
    worst = _reach(both[0], ins.params["zero_point_a"]) * _reach(
        both[1], ins.params["zero_point_b"]
    )
    return [Bound(ins.layer, "product", worst, INT32_MAX)]


def _reduce(ins: Instruction, ranges: list[Range]) -> list[Bound]:
    shape = ins.arguments[0].shape
    count = prod(shape[axis] for axis in ins.params["axes"])
    worst = count * _reach(ranges[0], ins.params["zero_point"])
    return [Bound(ins.layer, "sum", worst, INT32_MAX)]


def _avg_pool(ins: Instruction, ranges: list[Range]) -> list[Bound]:
    worst = prod(ins.params["kernel"]) * _reach(ranges[0], ins.params["zero_point"])
    return [Bound(ins.layer, "window sum", worst, INT32_MAX)]


def _add(ins: Instruction, ranges: list[Range]) -> list[Bound]:
    tensors = iter(ranges)
    reach = []
    for argument, key in zip(ins.arguments[:2], ("zero_point_a", "zero_point_b"), strict=True):
        value = argument.value
        values = next(tensors) if isinstance(value, str) else (int(value.min()), int(value.max()))
        reach.append(_reach(values, ins.params[key]))
    ma, mb = (int(c.max()) for c in ins.constants[-2:])
    worst = reach[0] * ma + reach[1] * mb + (1 << ins.params["shift"] >> 1)
    return [Bound(ins.layer, "rescaled sum", worst, INT64_MAX)]


def _norm(ins: Instruction, ranges: list[Range]) -> list[Bound]:
    count = prod(ins.arguments[0].shape[1:])
    if ins.op == "group_norm":
        count //= int(ins.params["groups"])
    reach, shift = _reach(ranges[0]), count_shift(count)
    variance = count * (count * reach * reach >> 2 * shift) + int(ins.params["epsilon"])
    return [
        Bound(ins.layer, "centred value", 2 * count * reach >> shift, INT32_MAX),
        Bound(ins.layer, "variance sum", variance, 2**62 - 1),
    ]


def _attention(ins: Instruction, ranges: list[Range]) -> list[Bound]:
    depth, tokens = ins.arguments[0].shape[-1], ins.arguments[1].shape[-2]
    q, k, v = (_reach(r) for r in ranges[:3])
    bias = 2**30 if ins.params.get("has_bias") else 0
    weight = 2 ** int(ins.params["weight_bits"]) - 1
    limit = INT32_MAX if weight < 256 else INT64_MAX
    return [
        Bound(ins.layer, "q.k accumulator", depth * q * k + bias, INT32_MAX),
        Bound(ins.layer, "sum of weights", tokens * weight, INT32_MAX),
        Bound(ins.layer, "weighted sum of v", tokens * weight * v, limit),
    ]


_RULES: dict[str, Callable[[Instruction, list[Range]], list[Bound]]] = {
    "conv2d": _linear,
    "dense": _linear,
    "matmul": _matmul,
    "multiply": _multiply,
    "reduce_sum": _reduce,
    "avg_pool2d": _avg_pool,
    "add": _add,
    "layer_norm": _norm,
    "group_norm": _norm,
    "attention": _attention,
}
