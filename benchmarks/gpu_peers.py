"""The same work elsewhere on the GPU: PyTorch's models, softmax and FlashAttention, TVM's models.

    python -m benchmarks.gpu_peers operators CASES SECONDS | model NAME BATCH SECONDS
                                   | tvm PEER FOLDER DTYPE SHAPE SECONDS

Prints a line of JSON, times by peer, for each operator or for the model. In processes of their own,
since compiling a model may take longer than there is time, and a failure may take the GPU with it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_cases import OpCase
from hyq_tvm import cuda_device
from hyq_tvm.errors import HyqError

TORCH, TVM = "torch.compile fp16", "TVM fp16"
_ANSWER = '{"'


class MissingPeerError(Exception):
    """PyTorch, or something that it needs, is not there; the message says what."""


def torch_on_gpu() -> Any:
    """PyTorch; raises ``MissingPeerError`` without it or without a GPU that it can use."""
    try:
        import torch
    except ImportError as error:
        raise MissingPeerError(f"PyTorch is not installed ({error})") from error
    if not torch.cuda.is_available():
        raise MissingPeerError("this PyTorch finds no GPU")
    return torch


def model_seconds(name: str, batch: int, seconds: float) -> float:
    """torch.compile in fp16, max-autotune with CUDA graphs; time of a call, input on the GPU."""
    torch = torch_on_gpu()
    try:
        from benchmarks.latency_models import MODELS
    except ImportError as error:
        raise MissingPeerError(str(error)) from error
    module = MODELS[name].module().cuda().half()
    made = torch.compile(module, mode="max-autotune")
    images = torch.from_numpy(MODELS[name].images(batch)).cuda().half()
    with torch.inference_mode():
        return _seconds(torch, lambda: made(images), seconds)


def softmax_seconds(case: OpCase, dtype: str, seconds: float) -> float:
    """torch.softmax over the last axis."""
    torch = torch_on_gpu()
    logits = torch.randn(case.shape, device="cuda", dtype=getattr(torch, dtype))
    return _seconds(torch, lambda: torch.softmax(logits, -1), seconds)


def flash_attention_seconds(case: OpCase, seconds: float) -> float:
    """scaled_dot_product_attention in fp16, its FlashAttention kernel alone."""
    torch = torch_on_gpu()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    shape = (case.samples, case.heads, case.tokens, case.depth)
    q, k, v = (torch.randn(shape, device="cuda", dtype=torch.float16) for _ in range(3))
    attend = torch.nn.functional.scaled_dot_product_attention
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return _seconds(torch, lambda: attend(q, k, v), seconds)


def peers_of(case: OpCase) -> Sequence[tuple[str, Callable[[float], float]]]:
    """Names and measurements of what does the same as an operator."""
    if case.depth:
        return [("torch FlashAttention fp16", lambda s: flash_attention_seconds(case, s))]
    return [
        (f"torch softmax {dtype}", lambda s, dtype=dtype: softmax_seconds(case, dtype, s))
        for dtype in ("float16", "float32")
    ]


def _seconds(torch: Any, call: Callable[[], object], seconds: float) -> float:
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    calls, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(10):
            call()
        calls += 10
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / calls


def tvm_seconds(folder: Path, dtype: str, shape: Sequence[int], seconds: float) -> float:
    """What ``gpu_tvm`` built; time of a call, input on the GPU."""
    library = folder / "lib.so"
    code = cuda_device.code_of(cuda_device.cubins_beside(library))
    machine = cuda_device.Machine(cuda_device.load_library(library, code))
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    once = machine.seconds_per_call("main", [x], 3)
    calls = max(3, min(2000, round(seconds / 5 / max(once, 1e-6))))
    return min(machine.seconds_per_call("main", [x], calls) for _ in range(5))


def ask(arguments: Sequence[str], seconds: float) -> tuple[list[dict[str, Any]], str]:
    """What a process of this module answers in so many seconds, and why it is no more."""
    if seconds <= 0:
        return [], "out of time"
    command = [sys.executable, "-m", "benchmarks.gpu_peers", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
        answered, said = done.stdout, done.stderr.decode(errors="replace").strip()
        reason = said.splitlines()[-1][:200] if said else f"the process ended: {done.returncode}"
    except subprocess.TimeoutExpired as error:
        answered, reason = error.stdout or b"", "out of time"
    lines = answered.decode(errors="replace").splitlines()
    return [json.loads(line) for line in lines if line.startswith(_ANSWER)], reason


def _answer(measurements: Sequence[tuple[str, Callable[[float], float]]], seconds: float) -> None:
    found: dict[str, Any] = {}
    for peer, measure in measurements:
        try:
            found[peer] = measure(seconds)
        except (MissingPeerError, HyqError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            found[peer] = f"skipped: {reason}"
    print(json.dumps(found), flush=True)


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    what, *rest, last = arguments
    seconds = float(last)
    if what == "operators":
        for case in json.loads(rest[0]):
            _answer(peers_of(OpCase(**case)), seconds)
    elif what == "model":
        name, batch = rest[0], int(rest[1])
        _answer([(TORCH, lambda s: model_seconds(name, batch, s))], seconds)
    else:
        peer, place, dtype, shape = rest[0], Path(rest[1]), rest[2], json.loads(rest[3])
        _answer([(peer, lambda s: tvm_seconds(place, dtype, shape, s))], seconds)


if __name__ == "__main__":
    main(sys.argv[1:])
