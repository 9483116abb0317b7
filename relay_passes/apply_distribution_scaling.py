"""ApplyDistributionScaling: per-channel factors move range from a layer's input into its weights.

For a layer y = W x the pass computes y = (W diag(alpha)) (x / alpha) (HyQ, QADS). The division is
folded into the layer that makes x where that is linear with constant weights or a layer_norm, and
nothing else reads x; otherwise one multiply by 1/alpha is inserted. The function computed in real
numbers does not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax.expr_functor import PyExprMutator, mutator

from hyq_tvm.errors import ConfigError

Factors = NDArray[np.float32]

INPUT_AXIS = {"relax.nn.conv2d": 1, "relax.matmul": 0}
"""Weight axis of the input channels (OIHW convolution without groups, matmul [K, N])."""
OUTPUT_AXIS = {"relax.nn.conv2d": 0, "relax.matmul": 1}
CHANNELS_BEHIND = {"relax.nn.conv2d": 3, "relax.matmul": 1}
"""The channels' axis of activations, counted from the last axis, which is 1."""


@dataclass(frozen=True)
class _Scaled:
    """Argument ``index`` of a binding's call is a constant to be multiplied by ``factor``."""

    index: int
    factor: Factors


@tvm.transform.module_pass(opt_level=0, name="ApplyDistributionScaling")
class ApplyDistributionScaling:
    """Scale the inputs of the named layers of ``main``.

    alphas: name of a conv2d or matmul binding -> one positive factor per input channel. Weights
    must be constants; convolutions are NCHW/OIHW with one group, or depthwise.
    Raises ``ConfigError`` on factors that are not positive. A layer that is missing, has no
    constant weight, or whose channel count is not the number of factors is named when the pass
    runs; TVM's pass manager turns that ``ConfigError`` into a ``RuntimeError`` of its message.
    """

    def __init__(self, alphas: Mapping[str, Factors]) -> None:
        self.alphas = {name: np.asarray(a, np.float32).reshape(-1) for name, a in alphas.items()}
        for name, alpha in self.alphas.items():
            if not (np.isfinite(alpha).all() and (alpha > 0).all()):
                raise ConfigError(f"{name}: scaling factors are finite and positive")

    def transform_module(self, mod: tvm.IRModule, _context: Any) -> tvm.IRModule:
        """The module with the factors applied to ``main``."""
        plan = _Plan(mod["main"])
        for name, alpha in self.alphas.items():
            plan.add(name, alpha)
        rewriter = _Rewriter(mod, plan)
        rewriter.builder_.update_func(mod.get_global_var("main"), rewriter.visit_expr(mod["main"]))
        return rewriter.builder_.get()


class _Plan:
    """Which constants are multiplied, and which inputs need a multiply of their own."""

    def __init__(self, function: Any) -> None:
        blocks = function.body.blocks
        self.bindings = {b.var: b.value for block in blocks for b in block.bindings}
        self.by_name = {var.name: var for var in self.bindings}
        self.readers: dict[Any, int] = {}
        for value in [*self.bindings.values(), function.body.body]:
            for argument in _variables(value):
                self.readers[argument] = self.readers.get(argument, 0) + 1
        self.scaled: dict[Any, list[_Scaled]] = {}
        self.divided: dict[Any, Factors] = {}

    def add(self, name: str, alpha: Factors) -> None:
        """Plan one layer; raises ``ConfigError`` as the pass does."""
        if name not in self.by_name:
            raise ConfigError(f"no layer {name!r} to scale; layers: {', '.join(self._layers())}")
        var = self.by_name[name]
        call = self.bindings[var]
        if not _is_linear(call):
            raise ConfigError(f"{name}: only conv2d and matmul with constant weights are scaled")
        weight = call.args[1].value.numpy()
        axis = 0 if _depthwise(call) else INPUT_AXIS[call.op.name]
        if _groups(call) > 1 and not _depthwise(call):
            raise ConfigError(f"{name}: grouped convolutions cannot be scaled")
        if weight.shape[axis] != alpha.size:
            raise ConfigError(f"{name}: {weight.shape[axis]} input channels, {alpha.size} factors")
        self._scale(var, 1, _along(alpha, weight.ndim, axis))
        self._divide(var, call.args[0], alpha)

    def _layers(self) -> list[str]:
        return [name for name, var in self.by_name.items() if _is_linear(self.bindings[var])]

    def _divide(self, reader: Any, source: Any, alpha: Factors) -> None:
        steps = self._absorbers(source, 1.0 / alpha, self.bindings[reader].op.name)
        if steps is None:
            self.divided[reader] = 1.0 / alpha
            return
        for var, index, factor in steps:
            self._scale(var, index, factor)

    def _absorbers(
        self, var: Any, factor: Factors, reader: str
    ) -> list[tuple[Any, int, Factors]] | None:
        """The constants of the producers of ``var`` to multiply, or None if they cannot absorb.

        reader: the operator that reads the channels. Only what makes them on the axis that it
        reads can absorb: convolutions for convolutions, matmuls and norms for matmuls.
        """
        call: Any = self.bindings.get(var)
        if not _operator(call) or self.readers[var] != 1:
            return None
        if _is_linear(call) and _operator(call) == reader:
            rank = len(call.args[1].ty.shape)
            return [(var, 1, _along(factor, rank, OUTPUT_AXIS[reader]))]
        if _is_norm(call) and reader == "relax.matmul":
            return [(var, 1, factor), (var, 2, factor)]
        if _operator(call) == "relax.add" and _constant(call, 1) and not _constant(call, 0):
            rest = self._absorbers(call.args[0], factor, reader)
            shape = tuple(int(n) for n in call.args[1].ty.shape)
            axis = len(shape) - CHANNELS_BEHIND[reader]
            if rest is not None and axis >= 0 and shape[axis] == factor.size:
                return [*rest, (var, 1, _along(factor, len(shape), axis))]
        return None

    def _scale(self, var: Any, index: int, factor: Factors) -> None:
        self.scaled.setdefault(var, []).append(_Scaled(index, factor))


@mutator
class _Rewriter(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, plan: _Plan) -> None:
        super().__init__(mod)
        self.plan = plan

    def visit_var_binding_(self, binding: Any) -> None:
        var, value = binding.var, binding.value
        scaled = self.plan.scaled.get(var, [])
        divided = self.plan.divided.get(var)
        if not scaled and divided is None:
            super().visit_var_binding_(binding)
            return
        arguments = [self.visit_expr(argument) for argument in value.args]
        for item in scaled:
            constant = arguments[item.index].value.numpy() * item.factor
            arguments[item.index] = relax.const(constant.astype(np.float32))
        if divided is not None:
            rank = len(arguments[0].ty.shape)
            axis = rank - CHANNELS_BEHIND[value.op.name]
            factor = relax.const(_along(divided, rank, axis))
            arguments[0] = self.builder_.emit(relax.op.multiply(arguments[0], factor))
        call = relax.Call(value.op, arguments, value.attrs, value.ty_args)
        self.set_var_remap(var, self.builder_.emit(call, name_hint=var.name))


def _variables(value: Any) -> list[Any]:
    if isinstance(value, relax.Var):
        return [value]
    fields = (
        list(value.fields) if isinstance(value, relax.Tuple) else list(getattr(value, "args", []))
    )
    found: list[Any] = []
    for field in fields:
        found.extend(_variables(field))
    return found


def _operator(value: Any) -> str:
    """The name of a called operator; nothing for all that is no such call."""
    is_call = isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.Op)
    return str(value.op.name) if is_call else ""


def _is_linear(call: Any) -> bool:
    if _operator(call) == "relax.matmul":
        return _constant(call, 1) and len(call.args[1].ty.shape) == 2
    return _operator(call) == "relax.nn.conv2d" and _constant(call, 1)


def _is_norm(call: Any) -> bool:
    """Whether a call is a layer_norm over the last axis with constant weights."""
    if _operator(call) != "relax.nn.layer_norm" or not (_constant(call, 1) and _constant(call, 2)):
        return False
    rank = len(call.ty.shape)
    return [int(axis) % rank for axis in call.attrs.axes] == [rank - 1]


def _constant(call: Any, index: int) -> bool:
    return isinstance(call.args[index], GenericConst)


def _groups(call: Any) -> int:
    return int(call.attrs.groups) if call.op.name == "relax.nn.conv2d" else 1


def _depthwise(call: Any) -> bool:
    if call.op.name != "relax.nn.conv2d":
        return False
    outputs, inputs = (int(n) for n in list(call.args[1].ty.shape)[:2])
    return inputs == 1 and _groups(call) == outputs


def _along(factor: Factors, rank: int, axis: int) -> Factors:
    shape = [1] * rank
    shape[axis] = factor.size
    return factor.reshape(shape).astype(np.float32)
