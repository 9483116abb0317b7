"""CheckIntegerOnly: no float computation between the input quantize and the output dequantize."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import tvm
import tvm_ffi
from tvm import relax
from tvm.ir import Expr

from hyq_tvm.errors import FloatComputationError
from hyq_tvm.topi.registry import OP_ATTRIBUTE
from relay_passes.quantize_graph import LAYERS_ATTRIBUTE

CONVERSIONS = frozenset({"quantize", "dequantize"})


def check_integer_only(mod: tvm.IRModule, allow: Collection[str] = ()) -> list[str]:
    """The layers of ``main`` that compute in float and are allowed to, in order.

    ``allow``: layer names, or operators such as ``"softmax"`` by their instruction's name.
    A float computation is any binding with a float32 result other than a ``dequantize``, and any
    PrimFunc but ``quantize`` and ``dequantize`` in which a float expression occurs. A
    ``dequantize`` may only feed the outputs or an allowed layer, a ``quantize`` only read the
    inputs or one. Raises ``FloatComputationError`` listing all offenders with their operators.
    """
    main = mod["main"]
    bindings = [binding for block in main.body.blocks for binding in block.bindings]
    layers = _layers(mod, bindings)
    readers = _readers(bindings, main.body.body)
    made = {binding.var for binding in bindings}
    offenders: dict[str, str] = {}
    for binding in bindings:
        reason = _float_reason(mod, binding, readers, made)
        if reason:
            offenders.setdefault(layers[binding.var], reason)
    refused = [f"{layer} ({why})" for layer, why in offenders.items() if layer not in allow]
    if refused:
        raise FloatComputationError(
            f"float computation in {len(refused)} layer(s): {'; '.join(refused)}. "
            "Pass allow_float=[names] to accept it"
        )
    return list(offenders)


def _float_reason(mod: Any, binding: Any, readers: dict[Any, list[Any]], made: set[Any]) -> str:
    value = binding.value
    if isinstance(value, relax.Var) or _is_op(value, "relax.reshape"):
        return ""
    if not _is_op(value, "relax.call_tir"):
        return str(value.op.name) if _is_float(binding.var) else ""
    function = mod[value.args[0]]
    op = str((function.attrs or {}).get(OP_ATTRIBUTE, f"function {value.args[0].name_hint}"))
    if op == "dequantize":
        inner = [r for r in readers.get(binding.var, ()) if r is not None]
        return "" if not inner else "float result read inside the graph"
    if op == "quantize":
        return "reads a float of the graph" if value.args[1].fields[0] in made else ""
    return op if _computes_float(function) else ""


def _readers(bindings: list[Any], result: Any) -> dict[Any, list[Any]]:
    """Who reads a variable, through aliases and reshapes; None stands for the function's output."""
    readers: dict[Any, list[Any]] = {}
    outputs = list(result.fields) if isinstance(result, relax.Tuple) else [result]
    for output in outputs:
        readers.setdefault(output, []).append(None)
    for binding in reversed(bindings):
        value = binding.value
        if isinstance(value, relax.Var):
            readers.setdefault(value, []).extend(readers.get(binding.var, []))
        elif _is_op(value, "relax.reshape"):
            readers.setdefault(value.args[0], []).extend(readers.get(binding.var, []))
        else:
            for argument in _arguments(value):
                readers.setdefault(argument, []).append(binding.var)
    return readers


def _arguments(call: Any) -> list[Any]:
    if _is_op(call, "relax.call_tir"):
        return [a for a in call.args[1].fields if isinstance(a, relax.Var)]
    return [a for a in call.args if isinstance(a, relax.Var)]


def _computes_float(function: Any) -> bool:
    found: list[str] = []

    def visit(expression: Any) -> None:
        dtype = str(getattr(expression.ty, "dtype", ""))
        if dtype.startswith(("float", "bfloat")):
            found.append(dtype)

    tvm_ffi.structural_walk(function.body, (Expr, visit))
    return bool(found)


def _is_op(value: Any, name: str) -> bool:
    return isinstance(value, relax.Call) and value.op.same_as(tvm.ir.Op.get(name))


def _is_float(var: Any) -> bool:
    return str(getattr(var.ty, "dtype", "")).startswith("float")


def _layers(mod: Any, bindings: list[Any]) -> dict[Any, str]:
    """The layer of every variable; what a float island computes on the way has its result's."""
    labels = json.loads(str((mod.attrs or {}).get(LAYERS_ATTRIBUTE, "{}")))
    layers: dict[Any, str] = {}
    following = ""
    for binding in reversed(bindings):
        name = binding.var.name
        following = labels[name][1] if name in labels else following
        layers[binding.var] = following or name
    return layers
