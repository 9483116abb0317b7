"""Time of single CPU kernels on shapes of real models, against the processor's peak.

``python -m benchmarks.kernels [--only dense] [--threads 1]``. Kernels are measured in turns, so
that a busy machine slows all of them; the minimum is what counts.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from hyq_tvm import numerics, topi
from hyq_tvm.numerics.fixed_point import quantize_multiplier
from hyq_tvm.targets.llvm import resolve
from hyq_tvm.threads import set_num_threads
from schedules.application import RULES, choose
from schedules.rule import Constant, Kernel, Spec, Workload

Array = NDArray[Any]
RNG = np.random.default_rng(0)
BYTE = 128


@dataclass(frozen=True, eq=False)
class Case:
    """One operator on arrays; ``data``: numbers of those that are not constants."""

    op: str
    params: Mapping[str, Any]
    arrays: Sequence[Array]
    data: tuple[int, ...]
    products: int

    def kernel(self, target: Any) -> Kernel:
        """The kernel that the rules choose for ``target``."""
        specs = tuple(
            Spec(a.shape, str(a.dtype), None if i in self.data else a)
            for i, a in enumerate(self.arrays)
        )
        function = topi.prim_func(self.op, self.params, [(s.shape, s.dtype) for s in specs])
        output = list(function.params)[-1].ty
        spec = Spec(tuple(int(n) for n in output.shape), str(output.dtype))
        workload = Workload(self.op, self.params, specs, spec, function)
        return choose(workload, target, RULES["llvm"](target))


def requantize(dtype: str = "int8") -> dict[str, Any]:
    high = int(np.iinfo(dtype).max)
    return {"kind": "requantize", "zero_point": 0, "low": -high, "high": high, "dtype": dtype}


SILU = {"kind": "lookup", "low": -128, "dtype": "int8"}
RESIDUAL = {"kind": "add", "zero_point": 0, "multiplier": 1, "shift": 0, "low": -32767,
            "high": 32767, "dtype": "int16"}  # fmt: skip
PLAIN = [requantize()]
TABLE = [requantize(), SILU]
WIDE_TABLE = [
    {**requantize("int16"), "low": -2047, "high": 2047},
    {"kind": "lookup", "low": -2047, "dtype": "int8"},
]
STREAM = [requantize("int16"), RESIDUAL]


def ints(dtype: Any, *shape: int) -> Array:
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max + 1, shape).astype(dtype)


def silu(largest: int) -> Array:
    """The table of an activation between grids that end at 8, for indices up to ``largest``."""
    x = np.arange(-largest, largest + 1) * (8 / largest)
    table = np.rint(x / (1 + np.exp(-x)) * (127 / 8)).astype(np.int8)
    return table[: 2 * largest] if largest == BYTE else table


def stage_tensors(
    stages: Sequence[Mapping[str, Any]], channels: int, depth: int, shape: Sequence[int]
) -> list[Array]:
    tensors: list[Array] = []
    for stage in stages:
        if stage["kind"] == "requantize":
            tensors += quantize_multiplier(RNG.uniform(0.5, 1.0, channels) / (100 * depth**0.5))
        elif stage["kind"] == "lookup":
            tensors.append(silu(-stage["low"]))
        else:
            tensors.append(ints(np.int16, *shape))
    return tensors


def dense(rows: int, depth: int, channels: int, stages: Sequence[Mapping[str, Any]]) -> Case:
    arrays = [ints(np.int8, rows, depth), ints(np.int8, channels, depth),
              ints(np.int16, channels).astype(np.int32),
              *stage_tensors(stages, channels, depth, (rows, channels))]  # fmt: skip
    data = (0, *(i for i, a in enumerate(arrays) if a.dtype == np.int16))
    return Case("dense", {"epilogue": stages}, arrays, data, rows * depth * channels)


def conv(
    size: int, inputs: int, outputs: int, kernel: int, stages: Sequence[Mapping[str, Any]],
    stride: int = 1, groups: int = 1,
) -> Case:  # fmt: skip
    pad = kernel // 2
    params = {"strides": (stride, stride), "padding": (pad,) * 4, "dilation": (1, 1),
              "groups": groups, "pad_value": 3, "epilogue": stages}  # fmt: skip
    depth = kernel * kernel * inputs // groups
    out = (size + 2 * pad - kernel) // stride + 1
    arrays = [ints(np.int8, 1, size, size, inputs),
              ints(np.int8, outputs, kernel, kernel, inputs // groups),
              ints(np.int16, outputs).astype(np.int32),
              *stage_tensors(stages, outputs, depth, (1, out, out, outputs))]  # fmt: skip
    data = (0, *(i for i, a in enumerate(arrays) if a.dtype == np.int16))
    return Case("conv2d", params, arrays, data, out * out * outputs * depth)


CASES: dict[str, Callable[[], Case]] = {
    "dense 197x192x576": lambda: dense(197, 192, 576, PLAIN),
    "dense 197x192x768 table": lambda: dense(197, 192, 768, TABLE),
    "dense 197x768x192 stream": lambda: dense(197, 768, 192, STREAM),
    "dense 1024x144x432": lambda: dense(1024, 144, 432, PLAIN),
    "dense 256x240x480 table": lambda: dense(256, 240, 480, TABLE),
    "dense 1x640x1000": lambda: dense(1, 640, 1000, PLAIN),
    "1x1 64->256 @32 table": lambda: conv(32, 64, 256, 1, TABLE),
    "1x1 64->256 @32 wide table": lambda: conv(32, 64, 256, 1, WIDE_TABLE),
    "1x1 256->64 @32": lambda: conv(32, 256, 64, 1, PLAIN),
    "1x1 16->64 @128 table": lambda: conv(128, 16, 64, 1, TABLE),
    "1x1 64->32 @128": lambda: conv(128, 64, 32, 1, PLAIN),
    "1x1 96->144 @32": lambda: conv(32, 96, 144, 1, PLAIN),
    "stem 3x3/2 3->16 @256 table": lambda: conv(256, 3, 16, 3, TABLE, stride=2),
    "3x3 96->96 @32 table": lambda: conv(32, 96, 96, 3, TABLE),
    "3x3 192->96 @32 table": lambda: conv(32, 192, 96, 3, TABLE),
    "3x3 160->160 @8 table": lambda: conv(8, 160, 160, 3, TABLE),
    "dw 3x3 256 @32 table": lambda: conv(32, 256, 256, 3, TABLE, groups=256),
    "dw 3x3/2 128 @128 table": lambda: conv(128, 128, 128, 3, TABLE, stride=2, groups=128),
}


@dataclass(frozen=True)
class Timing:
    """Seconds of one call."""

    minimum: float
    median: float


def build(cases: Mapping[str, Case], target: Any) -> tuple[Any, dict[str, list[Any]]]:
    """One module with a function a case, and the arguments of each."""
    functions, arguments = {}, {}
    for number, (name, case) in enumerate(cases.items()):
        kernel = case.kernel(target)
        functions[f"f{number}"] = kernel.function.with_attr("global_symbol", f"f{number}")
        arrays = [a.value if isinstance(a, Constant) else case.arrays[a] for a in kernel.arguments]
        output = list(kernel.function.params)[-1].ty
        out = tvm.runtime.empty([int(n) for n in output.shape], str(output.dtype))
        arguments[name] = [*[tvm.runtime.tensor(np.ascontiguousarray(a)) for a in arrays], out]
    return tvm.compile(tvm.IRModule(functions), target=target), arguments


def check(cases: Mapping[str, Case], module: Any, arguments: Mapping[str, list[Any]]) -> None:
    """Every kernel equals the golden model before it is timed."""
    for number, (name, case) in enumerate(cases.items()):
        module[f"f{number}"](*arguments[name])
        want = numerics.OPERATORS[case.op](*case.arrays, **case.params)
        np.testing.assert_array_equal(arguments[name][-1].numpy(), want, err_msg=name)


def measure(
    module: Any, arguments: Mapping[str, list[Any]], rounds: int, milliseconds: int
) -> dict[str, Timing]:
    """All kernels in turns, ``rounds`` times, each turn at least ``milliseconds`` long."""
    timers = {
        name: module.mod.time_evaluator(
            f"f{number}", tvm.cpu(), number=1, repeat=1, min_repeat_ms=milliseconds
        )
        for number, name in enumerate(arguments)
    }
    times: dict[str, list[float]] = {name: [] for name in arguments}
    for _ in range(rounds):
        for name, timer in timers.items():
            times[name].append(timer(*arguments[name]).mean)
    return {name: Timing(min(t), statistics.median(t)) for name, t in times.items()}


def main() -> None:
    """Prints one line a kernel: microseconds, products a second and the share of the peak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--milliseconds", type=int, default=4, help="length of one measurement")
    parser.add_argument(
        "--peak", type=float, default=235.0, help="10^9 int8 products a second and core"
    )
    options = parser.parse_args()
    set_num_threads(options.threads)
    target = resolve({"kind": "llvm"}, complete=True)
    cases = {name: make() for name, make in CASES.items() if options.only in name}
    module, arguments = build(cases, target)
    check(cases, module, arguments)
    print(f"{'kernel':32s} {'min us':>9s} {'median':>9s} {'GMAC/s':>8s} {'peak':>6s}")
    for name, timing in measure(module, arguments, options.rounds, options.milliseconds).items():
        speed = cases[name].products / timing.minimum / 1e9
        share = speed / (options.peak * options.threads)
        print(
            f"{name:32s} {timing.minimum * 1e6:9.1f} {timing.median * 1e6:9.1f}"
            f" {speed:8.1f} {share:6.1%}"
        )


if __name__ == "__main__":
    main()
