"""Read an integer module back as an integer program: the golden model of any quantized module."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import GenericConst

from hyq_tvm.errors import FloatComputationError
from hyq_tvm.quantization.integer_program import Argument, Instruction, IntegerProgram
from hyq_tvm.topi.registry import OP_ATTRIBUTE, PARAMS_ATTRIBUTE
from relay_passes.quantize_graph import LAYERS_ATTRIBUTE


def read_program(mod: tvm.IRModule) -> IntegerProgram:
    """The program of ``main``: marked PrimFunc calls, and reshapes as changes of view.

    Raises ``FloatComputationError`` on a binding that is neither (it has no golden definition).
    """
    return ProgramReader(mod).read()


def golden(mod: tvm.IRModule) -> Callable[..., list[NDArray[Any]]]:
    """The NumPy model of a quantized module: float32 inputs to a list of float32 outputs."""
    return read_program(mod).run


class ProgramReader:
    """Bindings of a module as instructions. source: var -> the tensor that it stands for."""

    def __init__(self, mod: tvm.IRModule) -> None:
        self.mod = mod
        attrs = mod.attrs or {}
        self.labels = json.loads(str(attrs.get(LAYERS_ATTRIBUTE, "{}")))
        self.source: dict[Any, str] = {}
        self.instructions: list[Instruction] = []

    def read(self) -> IntegerProgram:
        """The whole of ``main``."""
        main = self.mod["main"]
        inputs = {}
        for param in main.params:
            self.source[param] = param.name
            inputs[param.name] = _shape(param)
        for block in main.body.blocks:
            for binding in block.bindings:
                self.bind(binding.var, binding.value)
        result = main.body.body
        fields = list(result.fields) if isinstance(result, relax.Tuple) else [result]
        outputs = {self.source[field]: _shape(field) for field in fields}
        return IntegerProgram(tuple(self.instructions), inputs, outputs)

    def bind(self, var: Any, value: Any) -> None:
        """Read one binding; vars that it uses are in ``source`` already."""
        if isinstance(value, relax.Var):
            self.source[var] = self.source[value]
        elif value.op.same_as(tvm.ir.Op.get("relax.reshape")):
            self.source[var] = self.source[value.args[0]]
        elif value.op.same_as(tvm.ir.Op.get("relax.call_tir")):
            self._call(var, value)
        else:
            raise FloatComputationError(
                f"{var.name}: {value.op.name} computes in float: it has no golden model"
            )

    def _call(self, var: Any, call: Any) -> None:
        attrs = self.mod[call.args[0]].attrs or {}
        if OP_ATTRIBUTE not in attrs:
            raise FloatComputationError(f"{var.name}: {call.args[0]} is not marked as an operator")
        name, layer = self.labels.get(var.name, (var.name, var.name))
        self.source[var] = name
        self.instructions.append(
            Instruction(
                name=name,
                op=str(attrs[OP_ATTRIBUTE]),
                arguments=tuple(self._argument(a) for a in call.args[1].fields),
                params=json.loads(str(attrs[PARAMS_ATTRIBUTE])),
                shape=_shape(var),
                dtype=_dtype(var),
                layer=layer,
            )
        )

    def _argument(self, expr: Any) -> Argument:
        if isinstance(expr, GenericConst):
            return Argument.constant(np.array(expr.value.numpy()))
        return Argument(self.source[expr], _shape(expr), _dtype(expr))


def _shape(expr: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in expr.ty.shape)


def _dtype(expr: Any) -> str:
    return str(expr.ty.dtype)
