"""AddIntegerEntry: split ``main`` before its last dequantize, so that raw integers can be had.

``main_integers`` computes everything up to the integers that the final ``dequantize`` of each
output reads; ``main`` calls it and dequantizes. Nothing is compiled twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax

from hyq_tvm.topi.registry import OP_ATTRIBUTE, PARAMS_ATTRIBUTE

INTEGERS = "main_integers"


@dataclass(frozen=True)
class OutputGrid:
    """The integers behind one output: ``real = scale * (q - zero_point)``.

    shape: of the output. scale: one number, or one per index of the last axis.
    """

    shape: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...]
    zero_point: int


@dataclass(frozen=True)
class _Tail:
    """How one output leaves the integers: the call of ``dequantize`` and the final shape."""

    call: Any
    shape: tuple[int, ...]
    dequantized: tuple[int, ...]

    @property
    def source(self) -> Any:
        return self.call.args[1].fields[0]


def output_grids(mod: tvm.IRModule) -> tuple[OutputGrid, ...]:
    """The grids of ``main``'s outputs in order; empty if one of them is computed in float."""
    tails = _tails(mod)
    return tuple(_grid(mod, tail) for tail in tails or ())


def add_integer_entry(mod: tvm.IRModule) -> tvm.IRModule:
    """The module with both entries; ``main`` keeps its signature and its results.

    A module with an output computed in float comes back as it is.
    """
    tails = _tails(mod)
    if not tails:
        return mod
    main = mod["main"]
    others = {ref: func for ref, func in mod.functions_items() if ref.name_hint != "main"}
    builder = relax.BlockBuilder(tvm.IRModule(others, attrs=mod.attrs))
    integers = builder.add_func(_integer_function(mod, tails), INTEGERS)
    _add_main(builder, main, integers, tails)
    return relax.transform.DeadCodeElimination(["main", INTEGERS])(builder.finalize())


@tvm.transform.module_pass(opt_level=0, name="AddIntegerEntry")
class AddIntegerEntry:
    """``add_integer_entry`` as a pass, for pipelines."""

    def transform_module(self, mod: tvm.IRModule, _context: Any) -> tvm.IRModule:
        """See ``add_integer_entry``."""
        return add_integer_entry(mod)


def _tails(mod: tvm.IRModule) -> tuple[_Tail, ...] | None:
    """One tail an output, or None if an output is not dequantized last."""
    function = mod["main"]
    values = {b.var: b.value for block in function.body.blocks for b in block.bindings}
    result = function.body.body
    outputs = list(result.fields) if isinstance(result, relax.Tuple) else [result]
    tails = []
    for output in outputs:
        call = _origin(output, values)
        if call is None or not _is_dequantize(mod, call):
            return None
        tails.append(_Tail(call, _shape(output), _shape(call)))
    return tuple(tails)


def _origin(var: Any, values: dict[Any, Any]) -> Any:
    """The value that ``var`` stands for behind aliases and reshapes; None for a parameter."""
    value: Any = values.get(var)
    while isinstance(value, relax.Var) or _is_op(value, "relax.reshape"):
        value = values.get(value if isinstance(value, relax.Var) else value.args[0])
    return value


def _is_dequantize(mod: tvm.IRModule, call: Any) -> bool:
    if not _is_op(call, "relax.call_tir"):
        return False
    attrs = mod[call.args[0]].attrs or {}
    return str(attrs.get(OP_ATTRIBUTE, "")) == "dequantize"


def _is_op(value: Any, name: str) -> bool:
    return isinstance(value, relax.Call) and value.op.same_as(tvm.ir.Op.get(name))


def _grid(mod: tvm.IRModule, tail: _Tail) -> OutputGrid:
    params = json.loads(str(mod[tail.call.args[0]].attrs[PARAMS_ATTRIBUTE]))
    scale = tuple(float(s) for s in params["scale"])
    dtype = str(tail.source.ty.dtype)
    return OutputGrid(tail.shape, dtype, scale, int(params["zero_point"]))


def _integer_function(mod: tvm.IRModule, tails: tuple[_Tail, ...]) -> Any:
    """``main`` without its tails: it returns what they read, in the shapes of the outputs."""
    main = mod["main"]
    blocks = list(main.body.blocks)
    results = []
    for index, tail in enumerate(tails):
        grid = _grid(mod, tail)
        place = next(i for i, block in enumerate(blocks) if _makes(block, tail.source))
        result = relax.Var(f"integers{index}", relax.TensorType(grid.shape, grid.dtype))
        binding = relax.VarBinding(result, relax.op.reshape(tail.source, grid.shape))
        blocks[place] = _extended(blocks[place], binding)
        results.append(result)
    body = results[0] if len(results) == 1 else relax.Tuple(results)
    types = [result.ty for result in results]
    function = relax.Function(
        main.params,
        relax.SeqExpr(blocks, body),
        types[0] if len(types) == 1 else relax.TupleType(types),
    )
    return relax.utils.copy_with_new_vars(function).with_attr("global_symbol", INTEGERS)


def _makes(block: Any, var: Any) -> bool:
    return any(binding.var.same_as(var) for binding in block.bindings)


def _extended(block: Any, binding: Any) -> Any:
    kind = relax.DataflowBlock if isinstance(block, relax.DataflowBlock) else relax.BindingBlock
    return kind([*block.bindings, binding])


def _add_main(builder: Any, main: Any, integers: Any, tails: tuple[_Tail, ...]) -> None:
    """``main`` again: it calls ``integers`` and turns each result into float."""
    params = [relax.Var(param.name, param.ty) for param in main.params]
    with builder.function("main", params, attrs=dict(main.attrs or {})):
        with builder.dataflow():
            called = builder.emit(relax.Call(integers, params))
            results = [
                builder.emit_output(_dequantized(builder, part, tail))
                for part, tail in zip(_parts(builder, called, len(tails)), tails, strict=True)
            ]
        builder.emit_func_output(results[0] if len(results) == 1 else relax.Tuple(results))


def _parts(builder: Any, called: Any, count: int) -> list[Any]:
    if count == 1:
        return [called]
    return [builder.emit(relax.TupleGetItem(called, index)) for index in range(count)]


def _dequantized(builder: Any, integers: Any, tail: _Tail) -> Any:
    read = _reshaped(builder, integers, _shape(tail.source))
    output = relax.TensorType(tail.dequantized, "float32")
    call = relax.call_tir(tail.call.args[0], relax.Tuple([read]), output)
    return _reshaped(builder, builder.emit(call), tail.shape)


def _reshaped(builder: Any, value: Any, shape: tuple[int, ...]) -> Any:
    if _shape(value) == shape:
        return value
    return builder.emit(relax.op.reshape(value, shape))


def _shape(expr: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in expr.ty.shape)
