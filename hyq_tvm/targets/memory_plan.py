"""How much memory a module's tensors take when their lifetimes are known."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax

_PLANNED = (
    relax.transform.RewriteDataflowReshape,
    relax.transform.ToNonDataflow,
    relax.transform.RemovePurityChecking,
    relax.transform.CallTIRRewrite,
    relax.transform.StaticPlanBlockMemory,
)
"""The steps of TVM's own pipeline that lead to its plan of memory."""

_ALLOCATE = tvm.ir.Op.get("relax.memory.alloc_storage")


def activation_bytes(module: tvm.IRModule, target: Any) -> int:
    """Bytes that activations of a scheduled ``module`` share during a run, its largest function.

    Inputs, outputs, constants and what a kernel needs for itself are not among them.
    """
    with target:
        planned = tvm.transform.Sequential([step() for step in _PLANNED])(module)
    functions = [f for f in planned.functions.values() if isinstance(f, relax.Function)]
    return max((_storage(function) for function in functions), default=0)


def _storage(function: relax.Function) -> int:
    sizes: list[int] = []

    def visit(node: Any) -> None:
        if isinstance(node, relax.Call) and node.op == _ALLOCATE:
            sizes.extend(int(size) for size in node.args[0].values)

    relax.analysis.post_order_visit(function, visit)
    return sum(sizes)
