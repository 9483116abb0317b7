"""Rules for NVIDIA GPUs, most special first; the last one takes every operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schedules.cuda import attention, default, depthwise, layer_norm, products, softmax
from schedules.rule import Rule, Tunable

TUNABLE: tuple[Tunable, ...] = ()
"""Rules whose choices can be searched."""


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
