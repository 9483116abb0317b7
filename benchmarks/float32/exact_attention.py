"""The exact-softmax twin of an integer model: float attention between the same integers.

Everything else stays as it is, so that the difference in latency is the attentions' alone. Queries,
keys and values are read as int8, products and softmax are float32 and unfused, the result is
rounded to the grid that the integer attention has.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax

from benchmarks.float32.model import Emitter, UnsupportedError
from benchmarks.float32.target import float_target
from hyq_tvm.runtime import VirtualMachine, load_library
from hyq_tvm.topi.registry import OP_ATTRIBUTE, PARAMS_ATTRIBUTE
from schedules.application import apply


@relax.expr_functor.mutator
class _Exact(relax.PyExprMutator):
    """Replaces the integer attentions of ``main``."""

    def __init__(self, module: tvm.IRModule, target: Any) -> None:
        super().__init__(module)
        self._module = module
        self._emitter = Emitter(self.builder_, target)

    def run(self) -> tvm.IRModule:
        main = self._module.get_global_var("main")
        self.builder_.update_func(main, self.visit_expr(self._module["main"]))
        return relax.transform.DeadCodeElimination()(self.builder_.get())

    def visit_call_(self, call: Any) -> Any:
        call = super().visit_call_(call)
        if call.op != tvm.ir.Op.get("relax.call_tir"):
            return call
        attributes = self._module[call.args[0]].attrs or {}
        if str(attributes.get(OP_ATTRIBUTE, "")) != "attention":
            return call
        params = json.loads(str(attributes[PARAMS_ATTRIBUTE]))
        arguments = list(call.args[1])
        if params.get("has_bias") or len(arguments) > 6:
            raise UnsupportedError("the exact twin has no attention with a bias")
        multiplier, shift = (int(np.ravel(a.value.numpy())[0]) for a in arguments[3:5])
        scales = (logit_scale(params, multiplier, shift), result_scale(params))
        store = {key: params[key] for key in ("zero_point", "low", "high")}
        store["output"] = params["dtype"]
        return self._emitter.attention(*arguments[:3], scales, store)


def logit_scale(params: Mapping[str, Any], multiplier: int, shift: int) -> float:
    """What one step of an int32 score is worth (AT2): the grid's step is ``ln2 / 2^F``."""
    return math.ldexp(multiplier, -shift) * math.log(2) / 2 ** int(params.get("fraction_bits", 4))


def result_scale(params: Mapping[str, Any]) -> float:
    """``Sv / So`` (AT5)."""
    return math.ldexp(int(params["rescale_multiplier"]), -int(params["rescale_shift"]))


def exact_module(quantized: tvm.IRModule, target: Any) -> tvm.IRModule:
    """``quantized`` with exact attentions; the rest still to be scheduled."""
    return _Exact(quantized, target).run()


def exact_program(quantized: tvm.IRModule, library: Path) -> VirtualMachine:
    """The twin, compiled by way of the file ``library``."""
    target = float_target()
    library.parent.mkdir(parents=True, exist_ok=True)
    module = apply(exact_module(quantized, target), target)
    tvm.compile(module, target=target).export_library(str(library))
    return VirtualMachine(load_library(library))
