"""The frame of a kernel whose code is written down statement by statement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.rule import Spec


def prim_func(name: str, arguments: Sequence[Spec], output: Spec, body: Callable[..., None]) -> Any:
    """The PrimFunc whose code ``body(*inputs, output)`` emits; the buffers it gets are flat."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({"tirx.noalias": True})
        specs = [*arguments, output]
        whole = [T.arg(f"p{i}", T.Buffer(s.shape, s.dtype)) for i, s in enumerate(specs)]
        body(*[_flat(b, s) for b, s in zip(whole, specs, strict=True)])
    return builder.get()


def _flat(buffer: Any, spec: Spec) -> Any:
    return T.decl_buffer((spec.size,), spec.dtype, data=buffer.data)
