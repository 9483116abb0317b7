"""Kernels on the emulated GPU, and through NVIDIA's compiler."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm

from hyq_tvm import cuda_device
from hyq_tvm.errors import TargetError
from hyq_tvm.targets import cuda, cuda_toolchain
from hyq_tvm.targets.cuda_toolchain import Compiled
from schedules.application import choose
from schedules.cuda import source
from schedules.rule import Kernel, Rule
from tests.schedules.calls import Call
from tests.schedules.cuda.emulator import EmulatedCompiler

TARGET = tvm.target.Target(
    {"kind": "cuda", "arch": "sm_75", "host": {"kind": "llvm", "mtriple": "x86_64-linux-gnu"}}
)
FLOAT = re.compile(r"\.(?:f16|f32|f64|bf16)\b")


def emulated(kernels: Sequence[Kernel]) -> Any:
    """One module with the kernels ``f0``, ``f1``, ... on the emulated GPU."""
    compiler = EmulatedCompiler()

    def code(emitted: str) -> bytes:
        return compiler.compile(source.complete(emitted), "sm_90").cubin

    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "lib.so"
        with cuda_device.callback(code):
            _compiled(kernels).export_library(str(library))
        return cuda_device.load_library(library, code)


def assert_exact(calls: Mapping[str, Call], rules: Sequence[Rule]) -> list[Kernel]:
    """Every call's kernel, run thread by thread, makes the golden model's integers."""
    kernels = [choose(call.workload(), TARGET, rules) for call in calls.values()]
    module = emulated(kernels)
    gpu = tvm.runtime.device("cuda", 0)
    for number, (name, call) in enumerate(calls.items()):
        want = call.golden()
        out = tvm.runtime.tensor(np.full(want.shape, 77, want.dtype), device=gpu)
        arrays = [np.ascontiguousarray(a) for a in call.passed(kernels[number])]
        module[f"f{number}"](*[tvm.runtime.tensor(a, device=gpu) for a in arrays], out)
        np.testing.assert_array_equal(out.numpy(), want, err_msg=name, strict=True)
    return kernels


def machine_code(kernels: Sequence[Kernel], arch: str) -> Compiled:
    """What NVIDIA's compiler makes of the kernels; skips where there is none."""
    try:
        compiler = cuda_toolchain.compiler()
    except TargetError as error:
        pytest.skip(str(error))
    return cuda.machine_code(compiler, cuda_source(kernels), arch)


def cuda_source(kernels: Sequence[Kernel]) -> str:
    """Complete CUDA source."""
    seen: list[str] = []

    def code(emitted: str) -> bytes:
        seen.append(emitted)
        return b"\x7fELF"

    with cuda_device.callback(code):
        compiled = _compiled(kernels)
    return source.complete(seen[0] if seen else cuda.emitted_source(compiled))


def entries(ptx: str) -> dict[str, str]:
    """The body of every kernel in PTX by its name."""
    parts = re.split(r"\.visible \.entry (\w+)\(", ptx)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _compiled(kernels: Sequence[Kernel]) -> Any:
    functions = {
        f"f{i}": k.function.with_attr("global_symbol", f"f{i}") for i, k in enumerate(kernels)
    }
    with TARGET:
        return tvm.compile(tvm.IRModule(functions), target=TARGET)
