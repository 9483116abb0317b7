"""LowerLinearSoftmax: the softmax of a float module becomes the integer one, between two casts."""

from __future__ import annotations

import math
from typing import Any

import tvm
from tvm import relax, te, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator

from hyq_tvm.errors import ConfigError
from hyq_tvm.numerics.exponential import INTEGER_KINDS
from hyq_tvm.numerics.fixed_point import quantize_multiplier
from hyq_tvm.topi.softmax import softmax

FRACTION_BITS = 8
"""Steps of ln2 / 256: the cast's own rounding stays under a tenth of the line's error."""
LOGIT_LIMIT = 2.0**30
ONE = 2**15 - 1
KINDS = tuple(kind for kind in INTEGER_KINDS if kind != "hyq")


@tvm.transform.module_pass(opt_level=0, name="LowerLinearSoftmax")
class LowerLinearSoftmax:
    """Replace ``relax.nn.softmax`` and ``relax.nn.attention`` by calls to the integer softmax.

    kind: ``"linear_pot"`` (default), ``"linear"``, ``"table"`` or ``"poly2"``. Logits are cast to
    steps of ln2/256 (minus infinity becomes the lowest), probabilities come back with 15 bits, so
    the module keeps its float types and no calibration is needed. Softmax over a dynamic axis and
    attention with a causal mask or a window are left as they are.
    Raises ``ConfigError`` on another kind.
    """

    def __init__(self, kind: str = "linear_pot") -> None:
        if kind not in KINDS:
            raise ConfigError(f"softmax kind {kind!r}: choose one of {list(KINDS)}")
        self.kind = kind

    def transform_module(self, mod: tvm.IRModule, _context: Any) -> tvm.IRModule:
        """The module with every softmax of its Relax functions replaced."""
        rewriter = _Rewriter(mod, self.kind)
        for name, function in mod.functions_items():
            if isinstance(function, relax.Function):
                rewriter.builder_.update_func(name, rewriter.visit_expr(function))
        return rewriter.builder_.get()


@mutator
class _Rewriter(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, kind: str) -> None:
        super().__init__(mod)
        self.kind = kind

    def visit_call_(self, call: Any) -> Any:
        call = self.visit_expr_post_order(call)
        name = call.op.name if isinstance(call.op, tvm.ir.Op) else ""
        if name == "relax.nn.softmax":
            return self._softmax(call)
        if name in ("relax.nn.attention", "relax.nn.attention_bias") and _plain(call):
            return self._attention(call)
        return call

    def _softmax(self, call: Any) -> Any:
        x = call.args[0]
        shape = list(x.ty.shape)
        axis = int(call.attrs.axis) % len(shape)
        if not isinstance(shape[axis], tirx.IntImm):
            return call
        if axis == len(shape) - 1:
            return self._last_axis(x)
        order = [i for i in range(len(shape)) if i != axis] + [axis]
        moved = self.builder_.emit(relax.op.permute_dims(x, order))
        back = [order.index(i) for i in range(len(shape))]
        return relax.op.permute_dims(self.builder_.emit(self._last_axis(moved)), back)

    def _last_axis(self, x: Any) -> Any:
        return self.builder_.call_te(
            float_softmax, x, self.kind, primfunc_name_hint="linear_softmax"
        )

    def _attention(self, call: Any) -> Any:
        q, k, v = (self._emit(relax.op.permute_dims(a, [0, 2, 1, 3])) for a in call.args[:3])
        depth = int(list(q.ty.shape)[-1])
        scale = call.attrs.scale
        factor = 1 / math.sqrt(depth) if scale is None else float(scale.value)
        transposed = self._emit(relax.op.permute_dims(k, [0, 1, 3, 2]))
        logits = self._emit(relax.op.matmul(q, transposed))
        logits = self._emit(relax.op.multiply(logits, relax.const(factor, "float32")))
        if len(call.args) > 3:
            logits = self._emit(relax.op.add(logits, call.args[3]))
        weighted = self._emit(relax.op.matmul(self._emit(self._last_axis(logits)), v))
        return relax.op.permute_dims(weighted, [0, 2, 1, 3])

    def _emit(self, expression: Any) -> Any:
        return self.builder_.emit(expression)


def float_softmax(x: te.Tensor, kind: str = "linear_pot") -> te.Tensor:
    """Softmax over the last axis of float32 ``x`` by way of the integer one; float32 out."""
    step = math.log(2) / 2**FRACTION_BITS
    limit = tirx.const(LOGIT_LIMIT, "float32")

    def cast(*index: Any) -> Any:
        steps = tirx.nearbyint(x[index] * tirx.const(1 / step, "float32"))
        return tirx.max(tirx.min(steps, limit), -limit).astype("int32")

    logits = te.compute(x.shape, cast, name="softmax_logits")
    multiplier, shift = quantize_multiplier(float(ONE), bits=23)
    probabilities = softmax(
        logits,
        kind=kind,
        output="grid",
        fraction_bits=FRACTION_BITS,
        rescale_multiplier=int(multiplier),
        rescale_shift=int(shift),
        high=ONE,
        dtype="int16",
    )
    inverse = tirx.const(1 / ONE, "float32")
    return te.compute(
        x.shape, lambda *i: probabilities[i].astype("float32") * inverse, name="softmax_float"
    )


def _plain(call: Any) -> bool:
    mask, window = call.attrs.causal_mask, call.attrs.window_size
    return mask is None and (window is None or int(window) < 0)
