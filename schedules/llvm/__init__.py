"""Rules for CPUs, most special first; the last one takes every operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schedules.llvm import attention, conv2d, default, dense, depthwise, layer_norm
from schedules.rule import Rule


def rules(target: Any) -> Sequence[Rule]:
    """The rules that apply to ``target``, a ``tvm.target.Target`` of kind llvm."""
    return (
        dense.schedule,
        depthwise.schedule,
        conv2d.schedule,
        attention.schedule,
        layer_norm.schedule,
        default.schedule,
    )
