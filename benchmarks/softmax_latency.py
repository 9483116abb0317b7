"""Latency of the integer softmax against the exact one, with equal types on both sides.

    python -m benchmarks.softmax_latency [--threads 1]

Operators: int8 or int32 logits in, uint8 probabilities out; nanoseconds an element. ``exact`` is a
float32 softmax written for vectors like the integer ones, its exponential a polynomial and its
conversions fused; ``exact, scalar exp`` is what a compiler makes of the C library's function.
Attention: the fused integer kernel against unfused float32 products around an exact softmax, on
the same tiles; microseconds a call. Everything is called in turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import te

from benchmarks import latency_report, timing
from benchmarks.float32 import rows
from benchmarks.float32.matmul import Product, matmul
from benchmarks.float32.target import float_isa, float_target
from benchmarks.kernels import Case
from benchmarks.latency_report import Row, Unit
from benchmarks.timing import Measure
from hyq_tvm.numerics.exponential import GRID_KINDS, grid_requantizer
from hyq_tvm.numerics.softmax_tables import attention_constants
from hyq_tvm.targets.llvm import resolve
from hyq_tvm.threads import set_num_threads
from hyq_tvm.topi.float_softmax import exact_softmax
from schedules.llvm import default
from schedules.rule import Constant, Kernel, Spec, Workload

RNG = np.random.default_rng(0)
SHAPES = ((16, 64, 64), (12, 197, 197), (16, 256, 256), (4, 1024, 1024))
ATTENTIONS = ((16, 256, 36), (3, 197, 64), (12, 197, 64), (16, 64, 48))
SCALES = {"int8": 0.05, "int32": 1e-4}
KINDS = ("linear_pot", "linear", "table")
BASE = "linear_pot"
FOLDER = Path(__file__).with_name("results")
NANOSECONDS = Unit("ns/element", lambda row: 1e9 / row.facts["elements"])
MICROSECONDS = Unit("us", lambda _: 1e6)


def logits(shape: Sequence[int], dtype: str) -> NDArray[Any]:
    """Normal logits of sigma 3."""
    info, scale = np.iinfo(dtype), SCALES[dtype]
    values = np.rint(RNG.standard_normal(tuple(shape)) * 3 / scale)
    return values.clip(info.min, info.max).astype(dtype)


def integer_case(x: NDArray[Any], kind: str) -> Case:
    """One softmax operator of an integer module."""
    scale = SCALES[str(x.dtype)]
    params: dict[str, Any] = {"kind": kind, "output": "uint8"}
    if kind not in GRID_KINDS:
        return Case("softmax", {**params, "scale": scale}, [x], (0,), x.size)
    tensors = grid_requantizer(scale, 4, x.shape[-1]).tensors
    return Case("softmax", {**params, "fraction_bits": 4}, [x, *tensors], (0,), x.size)


def scalar_softmax(shape: Sequence[int], dtype: str, target: Any) -> Kernel:
    """The exact softmax with a call of the C library's exponential for every element."""
    x = te.placeholder(tuple(shape), dtype, name="x")
    function = te.create_prim_func([x, exact_softmax(x, SCALES[dtype], "uint8", polynomial=False)])
    specs = (Spec(tuple(shape), dtype),)
    workload = Workload("softmax", {}, specs, Spec(tuple(shape), "uint8"), function)
    return default.schedule(workload, target)


def measured(
    kernels: Mapping[str, tuple[Kernel, Sequence[NDArray[Any]]]], target: Any
) -> dict[str, Measure]:
    """Kernels by name, with the operator's arrays, compiled together."""
    functions = {
        f"f{i}": kernel.function.with_attr("global_symbol", f"f{i}")
        for i, (kernel, _) in enumerate(kernels.values())
    }
    module = tvm.compile(tvm.IRModule(functions), target=target)
    found = {}
    for i, (name, (kernel, arrays)) in enumerate(kernels.items()):
        passed = [a.value if isinstance(a, Constant) else arrays[a] for a in kernel.arguments]
        output = list(kernel.function.params)[-1].ty
        out = tvm.runtime.empty([int(n) for n in output.shape], str(output.dtype))
        tensors = [tvm.runtime.tensor(np.ascontiguousarray(a)) for a in passed]
        found[name] = timing.kernel(module, f"f{i}", [*tensors, out])
    return found


def operators(shape: Sequence[int], dtype: str, turns: int) -> list[Row]:
    """All softmaxes of one shape and input type."""
    x = logits(shape, dtype)
    integer, floating = resolve({"kind": "llvm"}, complete=True), float_target()
    cases = {kind: integer_case(x, kind) for kind in KINDS}
    kernels = {kind: (case.kernel(integer), case.arrays) for kind, case in cases.items()}
    exact = {"exact": (rows.softmax(tuple(shape), dtype, SCALES[dtype], "uint8"), [x])}
    scalar = {"exact, scalar exp": (scalar_softmax(shape, dtype, integer), [x])}
    measures = {**measured({**kernels, **scalar}, integer), **measured(exact, floating)}
    group = f"{'x'.join(map(str, shape))} {dtype} to uint8"
    facts = {"elements": float(prod(shape))}
    timings = timing.in_turns(measures, turns)
    return [Row(group, name, found, facts) for name, found in timings.items()]


def attention_case(heads: int, tokens: int, depth: int, bits: int) -> Case:
    """One fused attention of an integer module; bits: of its weights."""
    scales = (0.05, 0.05, 0.03, depth**-0.5, 0.02)
    made = attention_constants(*scales, depth, tokens, BASE, bits, 4, None)
    shape = (heads, tokens, depth)
    arrays = [RNG.integers(-127, 128, shape).astype(np.int8) for _ in range(3)]
    arrays += [made[key] for key in ("multiplier", "shift", "table")]
    params = {"kind": BASE, "zero_point": 0, "low": -128, "high": 127, "dtype": "int8",
              "weight_bits": bits, "fraction_bits": 4, "has_bias": False,
              "rescale_multiplier": made["rescale_multiplier"],
              "rescale_shift": made["rescale_shift"]}  # fmt: skip
    return Case("attention", params, arrays, (0, 1, 2), 2 * heads * tokens * tokens * depth)


def exact_attention(heads: int, tokens: int, depth: int, dtype: str) -> Measure:
    """Unfused: the times of q.k, softmax and p.v added up. dtype: of q, k, v and the result."""
    target, isa = float_target(), float_isa(float_target())
    shape, scores = (heads, tokens, depth), (heads, tokens, tokens)
    q, k, v = (RNG.integers(-127, 128, shape).astype(dtype) for _ in range(3))
    steps = 0.05 * 0.05 / depth**0.5
    first = Product(heads, tokens, depth, tokens, True, steps, (dtype, dtype))
    last = Product(heads, tokens, tokens, depth, False, 0.5, ("float32", dtype), dtype)
    weights = np.full(scores, 1 / tokens, np.float32)
    parts = measured(
        {
            "scores": (matmul(first, isa), [q, k]),
            "softmax": (rows.softmax(scores), [RNG.standard_normal(scores).astype(np.float32)]),
            "values": (matmul(last, isa), [weights, v]),
        },
        target,
    )
    return lambda: sum(part() for part in parts.values())


def attentions(size: tuple[int, int, int], turns: int) -> list[Row]:
    """Fused integers, then unfused floats between float and between int8 tensors."""
    target = resolve({"kind": "llvm"}, complete=True)
    cases = {BASE: attention_case(*size, 8), f"{BASE}, 16-bit weights": attention_case(*size, 16)}
    kernels = {name: (case.kernel(target), case.arrays) for name, case in cases.items()}
    measures = measured(kernels, target)
    measures["exact, unfused float32"] = exact_attention(*size, "float32")
    measures["exact, unfused, int8 tensors"] = exact_attention(*size, "int8")
    group = f"attention {size[0]} heads, {size[1]} tokens, {size[2]} channels"
    return [Row(group, name, found) for name, found in timing.in_turns(measures, turns).items()]


def main(arguments: list[str] | None = None) -> None:
    """Writes ``softmax_latency`` and ``attention_latency`` .json, .md and .png."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--tokens", type=int, default=0, help="rows of this length alone")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the results")
    options = parser.parse_args(arguments)
    set_num_threads(options.threads)
    shapes = [s for s in SHAPES if options.tokens in (0, s[-1])]
    sizes = [s for s in ATTENTIONS if options.tokens in (0, s[1])]
    found = [r for s in shapes for dtype in SCALES for r in operators(s, dtype, options.turns)]
    fused = [row for size in sizes for row in attentions(size, options.turns)]
    end = "" if options.threads == 1 else f"_{options.threads}_threads"
    title = f"Softmax, {options.threads} thread(s)"
    print(latency_report.write(options.out, f"softmax_latency{end}", title, found, BASE,
                               NANOSECONDS))  # fmt: skip
    title = f"Attention, {options.threads} thread(s)"
    print(latency_report.write(options.out, f"attention_latency{end}", title, fused, BASE,
                               MICROSECONDS))  # fmt: skip


if __name__ == "__main__":
    main()
