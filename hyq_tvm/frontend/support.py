"""Which Relax operators the compiler can take, so that an import can name all others at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from hyq_tvm.errors import UnsupportedModelError

PLACEHOLDER = "unsupported:"
"""Prefix of the packed function that stands for an operator without a Relax counterpart."""

OPERATORS = frozenset(
    "relax." + name
    for name in (
        "abs add arange astype broadcast_to builtin.stop_lift_params clip concat divide erf exp "
        "expand_dims flatten full full_like image.resize2d matmul maximum mean minimum multiply "
        "negative ones ones_like permute_dims power repeat reshape rsqrt shape_of "
        "shape_to_tensor sigmoid split sqrt square squeeze stack strided_slice subtract sum "
        "take tanh tensor_to_shape tile variance where zeros zeros_like nn.adaptive_avg_pool2d "
        "nn.attention nn.attention_bias nn.avg_pool2d nn.batch_flatten nn.batch_norm nn.conv1d "
        "nn.conv2d nn.dropout nn.gelu nn.gelu_tanh nn.group_norm nn.instance_norm nn.layer_norm "
        "nn.leakyrelu nn.max_pool2d nn.pad nn.prelu nn.relu nn.silu nn.softmax"
    ).split()
)


def placeholder(builder: Any, what: str, args: list[Any], type_: Any) -> Any:
    """Emit a call that stands for the operator ``what``, so that the import can go on."""
    call = relax.call_pure_packed(PLACEHOLDER + what, *args, ty_args=type_)
    return builder.emit(call)


def check_operators(mod: tvm.IRModule) -> None:
    """Raise ``UnsupportedModelError`` naming every operator on the way that is not supported.

    On the way is what depends on an input and is needed by an output; the condition of a choice
    is left out, because a softmax made safe against fully masked rows has one.
    """
    bindings = [b for block in mod["main"].body.blocks for b in block.bindings]
    varying: set[Any] = set(mod["main"].params)
    for binding in bindings:
        shape_alone = _operator(binding.value) == "relax.shape_of"
        if not shape_alone and varying.intersection(_variables(binding.value)):
            varying.add(binding.var)
    needed = set(_variables(mod["main"].body.body))
    found = []
    for binding in reversed(bindings):
        if binding.var not in needed:
            continue
        what = _operator(binding.value)
        needed.update(_variables(binding.value, skip_condition=what == "relax.where"))
        if what and not _supported(what, binding.value) and binding.var in varying:
            found.append(f"{what.removeprefix(PLACEHOLDER)} at {binding.var.name}")
    if found:
        raise unsupported(found)


def unsupported(operators: Iterable[str]) -> UnsupportedModelError:
    """The error that lists operators, each with the place it comes from."""
    return UnsupportedModelError("unsupported operators:\n  " + "\n  ".join(sorted(operators)))


def check_finite(name: str, array: NDArray[Any]) -> None:
    """Raise ``UnsupportedModelError`` when a weight holds NaN or infinity."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    bad = int(np.count_nonzero(~np.isfinite(array)))
    raise UnsupportedModelError(f"weight {name!r} holds {bad} values that are NaN or infinite")


def _supported(what: str, value: Any) -> bool:
    if what == "relax.image.resize2d":
        return str(value.attrs.method) == "nearest_neighbor"
    return what in OPERATORS


def _operator(value: Any) -> str:
    if isinstance(value, relax.If):
        return "relax.If"
    if not isinstance(value, relax.Call):
        return ""
    if value.op.name == "relax.call_pure_packed":
        return str(value.args[0].global_symbol)
    return str(value.op.name)


def _variables(value: Any, skip_condition: bool = False) -> Iterator[Any]:
    if isinstance(value, relax.Var):
        yield value
        return
    children: Any = ()
    if isinstance(value, relax.Tuple):
        children = value.fields
    elif isinstance(value, relax.TupleGetItem):
        children = (value.tuple_value,)
    elif isinstance(value, relax.If):
        children = (value.cond,)
    elif isinstance(value, relax.Call):
        children = value.args[1:] if skip_condition else value.args
    for child in children:
        yield from _variables(child)
