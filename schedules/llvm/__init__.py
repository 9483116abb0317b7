"""Rules for CPUs, most special first; the last one takes every operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schedules.llvm import (
    attention,
    conv2d,
    default,
    dense,
    depthwise,
    identity,
    layer_norm,
    softmax,
)
from schedules.rule import Rule, Tunable

TUNABLE = (
    Tunable("dense", dense.schedule, dense.space),
    Tunable("depthwise", depthwise.schedule, depthwise.space),
    Tunable("conv2d", conv2d.schedule, conv2d.space),
    Tunable("attention", attention.schedule, attention.space),
    Tunable("layer_norm", layer_norm.schedule, layer_norm.space),
)
"""Rules whose choices can be searched; the first with a space for a workload is the one."""


def rules(target: Any) -> Sequence[Rule]:
    """The rules that apply to ``target``, a ``tvm.target.Target`` of kind llvm."""
    return (
        dense.schedule,
        depthwise.schedule,
        conv2d.schedule,
        attention.schedule,
        layer_norm.schedule,
        softmax.schedule,
        identity.schedule,
        default.schedule,
    )
