"""R32 against R16: how often each misses the nearest int8, and what each costs on this CPU.

    python -m benchmarks.requantize_width

R16 shifts the accumulator to 16 bits first and multiplies 16 by 16 bits: two roundings. The table
it prints is the one in docs/numerics.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import te, tirx

from hyq_tvm.numerics.fixed_point import quantize_multiplier, requantize, rounding_shift, saturate
from hyq_tvm.topi import fixed_point as expressions

Ints = NDArray[np.integer[Any]]
LOW, HIGH = -128, 127


def pre_shift(real: NDArray[np.float64]) -> Ints:
    """Shift after which 16 bits saturate only where the int8 output does."""
    return np.maximum(0, np.ceil(np.log2(2.0**8 / real / 2.0**15))).astype(np.int64)


def to_16_bits(acc: Ints, real: NDArray[np.float64]) -> tuple[Ints, NDArray[Any]]:
    """The accumulator in 16 bits and the factor that is left."""
    shift = pre_shift(real)
    return saturate(rounding_shift(acc, shift), -(2**15), 2**15 - 1), np.ldexp(real, shift)


def r32(acc: Ints, real: NDArray[np.float64]) -> Ints:
    """The rule."""
    return requantize(acc, *quantize_multiplier(real), 0, LOW, HIGH)


def r16(acc: Ints, real: NDArray[np.float64]) -> Ints:
    """Two roundings, a 15-bit multiplier with a shift of its own."""
    short, rest = to_16_bits(acc, real)
    return requantize(short, *quantize_multiplier(rest, bits=15), 0, LOW, HIGH)


def r16_one_instruction(acc: Ints, real: NDArray[np.float64]) -> Ints:
    """The multiplier with the fixed shift of 15 that one vpmulhrsw does."""
    short, rest = to_16_bits(acc, real)
    multiplier = np.rint(np.ldexp(rest, 15)).astype(np.int64)
    return saturate(rounding_shift(short * multiplier, 15), LOW, HIGH)


def r16_and_shift(acc: Ints, real: NDArray[np.float64]) -> Ints:
    """A vpmulhrsw and a rounding shift behind it: three roundings."""
    short, rest = to_16_bits(acc, real)
    multiplier, shift = quantize_multiplier(rest, bits=15)
    product = rounding_shift(short * multiplier.astype(np.int64), 15)
    return saturate(rounding_shift(product, np.maximum(shift - 15, 0)), LOW, HIGH)


def accumulators(
    rng: np.random.Generator, k: int, channels: int, samples: int
) -> tuple[Ints, NDArray[Any]]:
    """Sums of ``k`` products of random int8, and factors that spread them over int8."""
    deviation = 74.0 * 40.0 * np.sqrt(k) * np.exp2(rng.uniform(-1, 1, channels))
    acc = np.rint(rng.normal(size=(samples, channels)) * deviation).astype(np.int64)
    return acc, 42.0 / deviation * np.exp2(rng.uniform(-0.5, 0.5, channels))


def miss_rate(rule: Callable[..., Ints], acc: Ints, real: NDArray[np.float64]) -> float:
    """Share of outputs that are not the nearest integer of the real product."""
    nearest = np.clip(np.floor(acc * real + 0.5), LOW, HIGH)
    return float((rule(acc, real) != nearest).mean())


def kernel(rows: int, channels: int, wide: bool) -> Any:
    """A vectorised requantize of int32 ``[rows, channels]``, compiled for this CPU."""
    acc = te.placeholder((rows, channels), "int32", name="acc")
    m, s, p = (te.placeholder((channels,), "int32", name=n) for n in "msp")

    def element_r32(i: Any, j: Any) -> Any:
        return expressions.requantize(acc[i, j], m[j], s[j], 0, LOW, HIGH).astype("int8")

    def element_r16(i: Any, j: Any) -> Any:
        one = tirx.const(1, "int32")
        short = (acc[i, j] + ((one << p[j]) >> one)) >> p[j]
        product = expressions.saturate(short, -(2**15), 2**15 - 1) * m[j]
        scaled = (product + (one << (s[j] - one))) >> s[j]
        return expressions.saturate(scaled, LOW, HIGH).astype("int8")

    out = te.compute((rows, channels), element_r32 if wide else element_r16, name="out")
    schedule = tvm.s_tir.Schedule(te.create_prim_func([acc, m, s, p, out]))
    _, columns = schedule.get_loops(schedule.get_sblock("out"))
    schedule.vectorize(schedule.split(columns, [None, 16])[1])
    cpu = tvm.target.codegen.llvm_get_system_cpu()
    return tvm.compile(schedule.mod, target=tvm.target.Target({"kind": "llvm", "mcpu": cpu}))


def nanoseconds(wide: bool, rows: int = 1024, channels: int = 64) -> float:
    """Time for one output, one thread, the best of many runs."""
    rng = np.random.default_rng(0)
    arrays = [
        rng.integers(-(2**20), 2**20, (rows, channels)).astype(np.int32),
        np.full(channels, 2**30 if wide else 2**14, np.int32),
        np.full(channels, 43 if wide else 22, np.int32),
        np.full(channels, 5, np.int32),
        np.zeros((rows, channels), np.int8),
    ]
    tensors = [tvm.runtime.tensor(a) for a in arrays]
    module = kernel(rows, channels, wide).mod
    timer = module.time_evaluator("main", tvm.cpu(), number=20, repeat=20)
    return float(min(timer(*tensors).results)) / (rows * channels) * 1e9


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2000, help="rows for each K")
    samples = parser.parse_args().samples
    rng = np.random.default_rng(0)
    sets = [accumulators(rng, k, 256, samples) for k in (16, 64, 256, 1024, 4096)]
    rules = {
        "R32": (r32, nanoseconds(wide=True)),
        "R16": (r16, nanoseconds(wide=False)),
        "R16, shift fixed to 15": (r16_one_instruction, None),
        "R16, shift of 15 and a rounding shift": (r16_and_shift, None),
    }
    print("| rule | not the nearest integer, % (K = 16, 64, 256, 1024, 4096) | ns an output |")
    print("|---|---|---|")
    for name, (rule, cost) in rules.items():
        rates = ", ".join(f"{100 * miss_rate(rule, *data):.2f}" for data in sets)
        print(f"| {name} | {rates} | {'' if cost is None else f'{cost:.2f}'} |")


if __name__ == "__main__":
    main()
