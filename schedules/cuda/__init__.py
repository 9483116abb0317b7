"""Rules for NVIDIA GPUs, most special first; the last one takes every operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schedules.cuda import (
    attention,
    attention_sizes,
    default,
    depthwise,
    layer_norm,
    products,
    softmax,
)
from schedules.rule import Rule, Tunable

TUNABLE = (
    Tunable("tensor_cores", products.weighted, products.weighted_tiles),
    Tunable("dot", products.weighted, products.small_choices),
    Tunable("matmul", products.batched, products.batched_tiles),
    Tunable("depthwise", depthwise.schedule, depthwise.space),
    Tunable("attention", attention.schedule, attention_sizes.space),
    Tunable("layer_norm", layer_norm.schedule, layer_norm.space),
    Tunable("softmax", softmax.schedule, softmax.space),
)
"""Rules whose choices can be searched; the first with a space for a workload is the one."""


def rules(target: Any) -> Sequence[Rule]:
    """The rules that apply to ``target``, a ``tvm.target.Target`` of kind cuda."""
    return (
        products.weighted,
        products.batched,
        depthwise.schedule,
        attention.schedule,
        layer_norm.schedule,
        softmax.schedule,
        default.schedule,
    )
