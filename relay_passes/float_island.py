"""Float islands in Relax: layers that a plan excludes from quantization."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tvm import relax
from tvm.relax import op as R

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.quantization.integer_program import Instruction

Attrs = Mapping[str, Any]


def float_island(arguments: list[Any], instruction: Instruction) -> Any:
    """The float32 Relax expression of an excluded graph operator.

    ``arguments``: its inputs, then its constants in the order of ``params["constants"]``.
    Raises ``UnsupportedModelError`` naming a layer that cannot be excluded.
    """
    op = str(instruction.params["op"])
    if op not in _ISLANDS:
        raise UnsupportedModelError(
            f"{instruction.layer}: {op} cannot be excluded from quantization; "
            f"these can: {', '.join(sorted(_ISLANDS))}"
        )
    names = list(instruction.params["constants"])
    split = len(arguments) - len(names)
    constants = dict(zip(names, arguments[split:], strict=True))
    return _ISLANDS[op](arguments[:split], constants, instruction.params["attrs"])


def _conv2d(x: list[Any], constants: dict[str, Any], attrs: Attrs) -> Any:
    result = R.nn.conv2d(
        x[0],
        constants["weight"],
        strides=list(attrs["strides"]),
        padding=list(attrs["padding"]),
        dilation=list(attrs["dilation"]),
        groups=int(attrs["groups"]),
        data_layout="NHWC",
        kernel_layout="OHWI",
    )
    return R.add(result, constants["bias"])


def _dense(x: list[Any], constants: dict[str, Any], _: Attrs) -> Any:
    return R.add(R.linear(x[0], constants["weight"]), constants["bias"])


def _attention(x: list[Any], constants: dict[str, Any], attrs: Attrs) -> Any:
    q, k, v = x
    rank = len(q.ty.shape)
    transposed = R.permute_dims(k, [*range(rank - 2), rank - 1, rank - 2])
    logits = R.multiply(R.matmul(q, transposed), relax.const(float(attrs["scale"]), "float32"))
    if "bias" in constants:
        logits = R.add(logits, constants["bias"])
    return R.matmul(R.nn.softmax(logits, axis=-1), v)


def _layer_norm(x: list[Any], constants: dict[str, Any], attrs: Attrs) -> Any:
    gamma, beta = constants["gamma"], constants["beta"]
    return R.nn.layer_norm(x[0], gamma, beta, axes=[-1], epsilon=float(attrs["eps"]))


_ISLANDS: dict[str, Callable[[list[Any], dict[str, Any], Attrs], Any]] = {
    "conv2d": _conv2d,
    "dense": _dense,
    "attention": _attention,
    "layer_norm": _layer_norm,
    "softmax": lambda x, _c, _a: R.nn.softmax(x[0], axis=-1),
}
