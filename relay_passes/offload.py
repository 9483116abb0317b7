"""Offload: runs of integer operators become calls of a device; the rest stays on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from hyq_tvm.quantization.integer_program import IntegerProgram
from hyq_tvm.topi.registry import OP_ATTRIBUTE
from relay_passes.read_program import ProgramReader


@dataclass(frozen=True, eq=False)
class Offloaded:
    """A region on a device. handle: uint8 [n], what the device's function knows it by.

    inputs, outputs: the region's tensors in the order in which that function takes them.
    """

    handle: NDArray[np.uint8]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


Accepts = Callable[[str, str], bool]
"""``(tensor, operator)``: whether the device computes this."""

Place = Callable[[IntegerProgram], Offloaded]
"""Brings a region onto the device."""


def offload(mod: tvm.IRModule, function: str, accepts: Accepts, place: Place) -> tvm.IRModule:
    """Replace neighbouring accepted operators by calls of the packed function ``function``.

    It is called with the handle, the inputs and then the outputs, which it fills. Reshapes between
    accepted operators go with them. Operators that are not marked stay where they are.
    """
    result = mod
    for ref, func in mod.functions_items():
        if isinstance(func, relax.Function):
            changed = _Rewriter(mod, func, function, accepts, place).rewrite()
            result = tvm.IRModule({**dict(result.functions_items()), ref: changed}, attrs=mod.attrs)
    roots = [ref.name_hint for ref, f in mod.functions_items() if isinstance(f, relax.Function)]
    return relax.transform.DeadCodeElimination(roots)(result)


@dataclass(frozen=True)
class _Region:
    """Bindings ``first .. last`` of a block: operators of the device, and views between them."""

    bindings: tuple[Any, ...]


class _Rewriter:
    def __init__(
        self, mod: tvm.IRModule, func: Any, name: str, accepts: Accepts, place: Place
    ) -> None:
        self._mod, self._func, self._name = mod, func, name
        self._accepts, self._place = accepts, place
        self._labels = ProgramReader(mod).labels
        self._origin: dict[Any, Any] = {}

    def rewrite(self) -> Any:
        blocks = [self._block(block) for block in self._func.body.blocks]
        body = relax.SeqExpr(blocks, self._func.body.body)
        function = relax.Function(self._func.params, body, self._func.ret_ty)
        return function.with_attrs(dict(self._func.attrs or {}))

    def _block(self, block: Any) -> Any:
        dataflow = isinstance(block, relax.DataflowBlock)
        made: list[Any] = []
        for part in self._parts(block.bindings):
            made += self._offloaded(part, dataflow) if isinstance(part, _Region) else [part]
        return relax.DataflowBlock(made) if dataflow else relax.BindingBlock(made)

    def _parts(self, bindings: Iterable[Any]) -> list[Any]:
        """Bindings of the CPU, and regions in place of all others."""
        parts: list[Any] = []
        run: list[Any] = []
        inside: set[Any] = set()
        for binding in bindings:
            source = view_source(binding.value)
            if source is not None:
                self._origin[binding.var] = self._origin.get(source, source)
            if self._is_device(binding) or source in inside:
                run.append(binding)
                inside.add(binding.var)
                continue
            if source is None and run:
                parts.append(_Region(tuple(run)))
                run, inside = [], set()
            parts.append(binding)
        return [*parts, _Region(tuple(run))] if run else parts

    def _is_device(self, binding: Any) -> bool:
        value = binding.value
        if not _is_op(value, "relax.call_tir"):
            return False
        op = (self._mod[value.args[0]].attrs or {}).get(OP_ATTRIBUTE)
        name = self._labels.get(binding.var.name, (binding.var.name,))[0]
        return op is not None and self._accepts(str(name), str(op))

    def _offloaded(self, region: _Region, dataflow: bool) -> list[Any]:
        made = {binding.var for binding in region.bindings}
        wanted = self._wanted(region, made)
        views = [b for b in region.bindings if view_source(b.value) is not None]
        reader, given = self._read(region)
        sources = {reader.source[var]: var for var in given}
        results = {reader.source[var]: var for var in wanted}
        program = IntegerProgram(
            tuple(reader.instructions),
            {name: _shape(var) for name, var in sources.items()},
            {name: _shape(var) for name, var in results.items()},
        )
        placed = self._place(program)
        arguments = [relax.const(placed.handle), *(sources[name] for name in placed.inputs)]
        outputs = [results[name] for name in placed.outputs]
        types = [relax.TensorType(_shape(var), _dtype(var)) for var in outputs]
        call = relax.op.call_dps_packed(self._name, relax.Tuple(arguments), types)
        kept = [b for b in views if self._origin[b.var] in set(wanted)]
        return [*_bind(call, outputs, dataflow), *kept]

    def _wanted(self, region: _Region, made: set[Any]) -> list[Any]:
        """What the region computes and somebody outside reads, behind views."""
        inside = set(region.bindings)
        used: set[Any] = set(relax.analysis.free_vars(self._func.body.body))
        for block in self._func.body.blocks:
            for binding in block.bindings:
                if binding not in inside:
                    used.update(relax.analysis.free_vars(binding.value))
        roots = {self._origin.get(var, var) for var in used & made}
        return [b.var for b in region.bindings if b.var in roots]

    def _read(self, region: _Region) -> tuple[ProgramReader, list[Any]]:
        """The region's instructions, and the vars from outside that they read."""
        reader = ProgramReader(self._mod)
        given: list[Any] = []
        for binding in region.bindings:
            for var in relax.analysis.free_vars(binding.value):
                if var not in reader.source:
                    reader.source[var] = self._labels.get(var.name, (var.name,))[0]
                    given.append(var)
            reader.bind(binding.var, binding.value)
        return reader, given


def view_source(value: Any) -> Any:
    """The var that an alias or a reshape shows; None for everything else."""
    if isinstance(value, relax.Var):
        return value
    return value.args[0] if _is_op(value, "relax.reshape") else None


def _bind(call: Any, outputs: list[Any], dataflow: bool) -> list[Any]:
    """Bindings that give the outputs of a call their old names."""
    if len(outputs) == 1:
        return [relax.VarBinding(outputs[0], call)]
    types = relax.TupleType([relax.TensorType(_shape(v), _dtype(v)) for v in outputs])
    both = (relax.DataflowVar if dataflow else relax.Var)("offloaded", types)
    parts = [
        relax.VarBinding(var, relax.TupleGetItem(both, index)) for index, var in enumerate(outputs)
    ]
    return [relax.VarBinding(both, call), *parts]


def _is_op(value: Any, name: str) -> bool:
    return isinstance(value, relax.Call) and value.op.same_as(tvm.ir.Op.get(name))


def _shape(var: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in var.ty.shape)


def _dtype(var: Any) -> str:
    return str(var.ty.dtype)
