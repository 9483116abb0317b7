"""The pass that replaces marked PrimFuncs by the kernels of a target's rules."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tvm
from tvm import relax

from hyq_tvm.topi.registry import OP_ATTRIBUTE, PARAMS_ATTRIBUTE
from schedules import cuda, llvm
from schedules.recorded import Records
from schedules.rule import Constant, Kernel, Rule, Spec, Tunable, Workload

RULES: dict[str, Callable[[Any], Sequence[Rule]]] = {"llvm": llvm.rules, "cuda": cuda.rules}
"""Target kind -> ``rules(target)``, the most special first."""

TUNABLES: Mapping[str, Sequence[Tunable]] = {"llvm": llvm.TUNABLE, "cuda": cuda.TUNABLE}
"""Target kind -> those of its rules that have choices."""

OPAQUE_PATTERN = 8  # Relax's name for "never fuse this"


def apply(module: tvm.IRModule, target: Any, records: Path | Records | None = None) -> tvm.IRModule:
    """``module`` with every marked PrimFunc replaced by the kernel of the first rule that takes it.

    Results stay the same, bit for bit; the marks are gone. target: a ``tvm.target.Target``; a kind
    without rules gets the module back as it is. records: a folder of tuning records, which come
    before those of the package; or exactly the records to use. Raises ``TuningError`` where a
    folder's records cannot be read.
    """
    kind = str(target.kind.name)
    if kind not in RULES:
        return module
    known = records if isinstance(records, Records) else Records.load(records)

    def kernel(workload: Workload) -> Kernel:
        tuned = known.kernel(workload, target, TUNABLES[kind])
        return tuned or choose(workload, target, RULES[kind](target))

    return _Scheduler(module, kernel).run()


def workloads(module: tvm.IRModule) -> list[Workload]:
    """The marked operators of ``main``, one for every call."""
    found: list[Workload] = []

    def collect(call: Any) -> None:
        if isinstance(call, relax.Call) and _is_call_tir(call):
            function = module[call.args[0]]
            if _is_marked(function):
                found.append(_workload(function, list(call.args[1]), call))

    relax.analysis.post_order_visit(module["main"], collect)
    return found


def choose(workload: Workload, target: Any, rules: Sequence[Rule]) -> Kernel:
    """The kernel of the first rule that takes the workload; raises ``ValueError`` if none does."""
    for rule in rules:
        kernel = rule(workload, target)
        if kernel is not None:
            return kernel
    raise ValueError(f"no rule schedules the operator {workload.op!r}")


@relax.expr_functor.mutator
class _Scheduler(relax.PyExprMutator):
    """Walks ``main`` and swaps the callees of ``call_tir``."""

    def __init__(self, module: tvm.IRModule, kernel: Callable[[Workload], Kernel]) -> None:
        super().__init__(module)
        self._module = module
        self._kernel = kernel

    def run(self) -> tvm.IRModule:
        for variable, function in self._module.functions_items():
            if isinstance(function, relax.Function):
                self.builder_.update_func(variable, self.visit_expr(function))
        result = relax.transform.DeadCodeElimination()(self.builder_.get())
        return result.with_attrs(dict(self._module.attrs)) if self._module.attrs else result

    def visit_call_(self, call: Any) -> Any:
        call = super().visit_call_(call)
        if not _is_call_tir(call):
            return call
        function = self._module[call.args[0]]
        if not _is_marked(function):
            return call
        arguments = list(call.args[1])
        kernel = self._kernel(_workload(function, arguments, call))
        reference = self.builder_.add_func(_finished(kernel), f"{kernel.name}_")
        passed = [self._argument(a, arguments) for a in kernel.arguments]
        return relax.call_tir(reference, relax.Tuple(passed), call.ty_args[0])

    def _argument(self, argument: int | Constant, arguments: list[Any]) -> Any:
        if isinstance(argument, int):
            return arguments[argument]
        value = argument.value
        return relax.const(value, str(value.dtype))


def _is_call_tir(call: Any) -> bool:
    return bool(call.op == tvm.ir.Op.get("relax.call_tir"))


def _is_marked(function: Any) -> bool:
    return function.attrs is not None and OP_ATTRIBUTE in function.attrs


def _finished(kernel: Kernel) -> Any:
    function = kernel.function
    for attribute in (OP_ATTRIBUTE, PARAMS_ATTRIBUTE, "global_symbol"):
        function = function.without_attr(attribute)
    # TVM's own rules for GPUs would schedule everything that does not say it is.
    return function.with_attrs({"op_pattern": OPAQUE_PATTERN, "tirx.is_scheduled": True})


def _workload(function: Any, arguments: list[Any], call: Any) -> Workload:
    return Workload(
        op=str(function.attrs[OP_ATTRIBUTE]),
        params=json.loads(str(function.attrs[PARAMS_ATTRIBUTE])),
        arguments=tuple(_spec(a) for a in arguments),
        output=_spec_of_type(call.ty_args[0]),
        function=function,
    )


def _spec(argument: Any) -> Spec:
    spec = _spec_of_type(argument.ty)
    if isinstance(argument, tvm.ir.GenericConst):
        return Spec(spec.shape, spec.dtype, argument.value.numpy())
    return spec


def _spec_of_type(tensor: Any) -> Spec:
    return Spec(tuple(int(n) for n in tensor.shape), str(tensor.dtype))
