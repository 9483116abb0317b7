"""A model written twice at once: operator by operator as Relax and as a PyTorch function.

PyTorch's side never sees a pass of this project, so it also judges how models are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tvm
from numpy.typing import NDArray
from tvm import relax

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of both models: its place in PyTorch's list, Relax's variable, and its shape."""

    place: int
    var: Any
    shape: tuple[int, ...]


class Network:
    """Collects operators; ``finish`` closes the Relax function, ``run`` evaluates in PyTorch."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.builder = relax.BlockBuilder()
        self._x = relax.Var("x", relax.TensorType(tuple(shape), "float32"))
        self._scopes = [self.builder.function("main", [self._x]), self.builder.dataflow()]
        for scope in self._scopes:
            scope.__enter__()
        self._steps: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self._outputs: list[int] = []
        self.input = Value(0, self._x, tuple(shape))

    def emit(self, expr: Any, function: Callable[..., Any], *sources: Value) -> Value:
        """Bind ``expr``; ``function`` is what PyTorch makes of the sources' tensors."""
        var = self.builder.emit(expr)
        self._steps.append((function, tuple(source.place for source in sources)))
        return Value(len(self._steps), var, tuple(int(n) for n in var.ty.shape))

    def finish(self, outputs: Sequence[Value]) -> tvm.IRModule:
        """The Relax module."""
        self._outputs = [output.place for output in outputs]
        vars_ = [output.var for output in outputs]
        result = self.builder.emit_output(vars_[0] if len(vars_) == 1 else relax.Tuple(vars_))
        self._scopes[1].__exit__(None, None, None)
        self.builder.emit_func_output(result)
        self._scopes[0].__exit__(None, None, None)
        return self.builder.finalize()

    def run(self, x: Array) -> list[Array]:
        """Float outputs for one batch of the traced shape."""
        values = [torch.from_numpy(x)]
        with torch.inference_mode():
            for function, places in self._steps:
                values.append(function(*(values[place] for place in places)))
        return [values[place].numpy() for place in self._outputs]


def constant(array: Array) -> tuple[Any, Any]:
    """A float32 array for Relax and for PyTorch."""
    ready = np.ascontiguousarray(array, np.float32)
    return relax.const(ready), torch.from_numpy(ready)
