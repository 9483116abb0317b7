"""TVM's own build of the same models in fp16, and of softmax, as TVM makes it without tuning.

The float module of our front end, BatchNorm folded, convolutions in NHWC, everything in fp16, then
TVM's pipeline for GPUs with its default schedules (dlight: tensor cores for products whose sizes
are above 64) and one CUDA graph. Machine code is made here, so that a host without compiler can run
it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import tvm
from tvm import relax
from tvm.support import nvcc

from benchmarks.gpu_peers import MissingPeerError
from benchmarks.latency_models import MODELS, imported
from hyq_tvm.cuda_device import cubin_name
from hyq_tvm.targets.cuda import CudaTarget, emitted_source, source_only

_LAYOUT = {"relax.nn.conv2d": ["NHWC", "OHWI"]}


def _only_cuda_intrinsics() -> None:
    """TVM's package of intrinsics without those of other devices: all of them take a minute."""
    name = "tvm.s_tir.tensor_intrin"
    spec = None if name in sys.modules else find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        package = ModuleType(name)
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules[name] = package


def half(module: tvm.IRModule) -> tvm.IRModule:
    """A float32 module in fp16 with float32 inputs and outputs, channels last."""
    passes = relax.transform
    return tvm.transform.Sequential(
        [
            passes.DecomposeOpsForInference(),
            passes.FoldConstant(),
            passes.ConvertLayout(_LAYOUT),
            passes.FoldConstant(),
            passes.ToMixedPrecision("float16"),
        ]
    )(module)


def build(name: str, batch: int, target: CudaTarget, folder: Path) -> None:
    """Write the model's library and machine code; raises ``MissingPeerError`` without nvcc."""
    export(half(imported(MODELS[name], batch)), target, folder)


def softmax(shape: Sequence[int], dtype: str) -> tvm.IRModule:
    """Exact softmax over the last axis, scheduled by TVM."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(tuple(shape), dtype))
    with builder.function("main", [x]):
        with builder.dataflow():
            made = builder.emit_output(relax.op.nn.softmax(x, -1))
        builder.emit_func_output(made)
    return builder.finalize()


def export(module: tvm.IRModule, target: CudaTarget, folder: Path) -> None:
    """The same of a module in fp16; raises ``MissingPeerError`` where it cannot be built."""
    _only_cuda_intrinsics()
    device, config = target.device, {"relax.backend.use_cuda_graph": True}
    try:
        with source_only(), tvm.transform.PassContext(opt_level=3, config=config), device:
            executable = tvm.compile(module, target=device)
            cubins = _machine_code(emitted_source(executable), target)
    except (RuntimeError, ValueError, AttributeError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise MissingPeerError(f"TVM cannot build it: {reason}") from error
    folder.mkdir(parents=True, exist_ok=True)
    executable.export_library(str(folder / "lib.so"))
    for arch, cubin in cubins.items():
        (folder / cubin_name(arch)).write_bytes(cubin)


def _machine_code(emitted: str, target: CudaTarget) -> dict[str, Any]:
    """By TVM's call of nvcc: its sources include headers, its arithmetic may be fused."""
    return {
        arch: bytes(nvcc.compile_cuda(emitted, "cubin", arch=arch, compiler="nvcc"))
        for arch in target.architectures
    }
