"""The same work in PyTorch on the GPU: fp16 and fp32 models, softmax, FlashAttention."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.gpu_cases import OpCase


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
