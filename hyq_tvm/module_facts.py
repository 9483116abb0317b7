"""What a Relax module says about itself: inputs, outputs, plan, layers computed in float."""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import prod
from typing import Any

import tvm
from tvm import relax

from hyq_tvm.artifact import TensorSpec
from hyq_tvm.errors import FloatComputationError, UnsupportedModelError
from hyq_tvm.images import Preprocessing
from hyq_tvm.quantization.plan import QuantPlan
from hyq_tvm.report.inspection import layer_rows
from relay_passes.add_integer_entry import output_grids
from relay_passes.quantize_graph import LAYERS_ATTRIBUTE, PLAN_ATTRIBUTE
from relay_passes.read_program import read_program

PREPROCESSING_ATTRIBUTE = "hyq.preprocessing"


def check_module(mod: object) -> None:
    """Raise ``UnsupportedModelError`` unless ``mod`` is a Relax module with a ``main``."""
    if not isinstance(mod, tvm.IRModule):
        raise UnsupportedModelError(
            f"expected a tvm.IRModule, got {type(mod).__name__}: import the model with "
            "hyq_tvm.from_torch or hyq_tvm.from_onnx first"
        )
    names = [ref.name_hint for ref in mod.get_global_vars()]
    if "main" not in names or not isinstance(mod["main"], relax.Function):
        raise UnsupportedModelError(f"the module has no Relax function main, only {sorted(names)}")


def is_quantized(mod: tvm.IRModule) -> bool:
    """Whether ``hyq_tvm.quantize`` made the module."""
    return PLAN_ATTRIBUTE in (mod.attrs or {})


def plan_text(mod: tvm.IRModule) -> str:
    """The JSON of the module's plan; empty for a float module."""
    return str((mod.attrs or {}).get(PLAN_ATTRIBUTE, ""))


def input_specs(mod: tvm.IRModule) -> tuple[TensorSpec, ...]:
    """The inputs of ``main``; raises ``UnsupportedModelError`` on a shape that is not static."""
    params = mod["main"].params
    return tuple(TensorSpec(p.name, _shape(p.name, p.ty), str(p.ty.dtype)) for p in params)


def output_specs(mod: tvm.IRModule) -> tuple[TensorSpec, ...]:
    """The outputs of ``main``, with their integer grids where all of them have one."""
    result = mod["main"].ret_ty
    types = list(result.fields) if isinstance(result, relax.TupleType) else [result]
    names = [f"output{index}" for index in range(len(types))]
    grids = output_grids(mod)
    if not grids:
        shapes = [_shape(name, ty) for name, ty in zip(names, types, strict=True)]
        return tuple(
            TensorSpec(name, shape, str(ty.dtype))
            for name, shape, ty in zip(names, shapes, types, strict=True)
        )
    return tuple(
        TensorSpec(name, grid.shape, "float32", grid.dtype, grid.scale, grid.zero_point)
        for name, grid in zip(names, grids, strict=True)
    )


def with_preprocessing(mod: tvm.IRModule, preprocessing: Preprocessing) -> tvm.IRModule:
    """The module with a note of how pictures become its input."""
    return mod.with_attr(PREPROCESSING_ATTRIBUTE, json.dumps(preprocessing.to_dict()))


def notes(mod: tvm.IRModule) -> dict[str, Any]:
    """Facts for the metadata: the accumulator margins of every layer, and the preprocessing."""
    found: dict[str, Any] = {}
    attrs = mod.attrs or {}
    if PREPROCESSING_ATTRIBUTE in attrs:
        found["preprocessing"] = json.loads(str(attrs[PREPROCESSING_ATTRIBUTE]))
    if is_quantized(mod):
        found["layers"] = _layer_notes(mod)
    return found


def _layer_notes(mod: tvm.IRModule) -> list[dict[str, Any]]:
    """What the plan alone does not say about every instruction; nothing beside float layers."""
    try:
        program = read_program(mod)
    except FloatComputationError:
        return []
    rows = layer_rows(program, QuantPlan.from_json(plan_text(mod)))
    return [
        {
            "name": row.name,
            "op": row.op,
            "shape": list(row.shape),
            "alpha": [min(row.alpha), max(row.alpha)] if row.alpha else [],
            "softmax": row.softmax,
            "margin_bits": row.margin_bits,
        }
        for row in rows
    ]


def exact_softmax_layers(plan: QuantPlan) -> set[str]:
    """Layers whose softmax the plan wants computed in float."""
    return {name for name, layer in plan.layers.items() if layer.softmax == "exact"}


def float_costs(mod: tvm.IRModule, layers: Iterable[str]) -> tuple[str, ...]:
    """For every layer computed in float: how many float tensors it makes and their size."""
    labels = json.loads(str((mod.attrs or {}).get(LAYERS_ATTRIBUTE, "{}")))
    sizes: dict[str, list[int]] = {name: [] for name in layers}
    for block in mod["main"].body.blocks:
        for binding in block.bindings:
            layer = labels.get(binding.var.name, ("", binding.var.name))[1]
            if layer in sizes and str(getattr(binding.var.ty, "dtype", "")) == "float32":
                sizes[layer].append(4 * prod(int(n) for n in binding.var.ty.shape))
    return tuple(
        f"{layer}: {len(parts)} float tensors of {sum(parts) / 1024:.0f} KiB a batch"
        for layer, parts in sizes.items()
    )


def _shape(name: str, ty: Any) -> tuple[int, ...]:
    try:
        return tuple(int(n) for n in ty.shape)
    except (TypeError, ValueError) as error:
        raise UnsupportedModelError(
            f"{name} has the dynamic shape {ty.shape}: export the model with static shapes"
        ) from error
