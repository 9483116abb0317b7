"""PyTorch modules and exported programs into float Relax modules."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import tvm
from tvm import relax
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.frontend.labels import Labels
from hyq_tvm.frontend.support import check_finite, check_operators, placeholder

_ATEN = torch.ops.aten

KEPT_WHOLE = (
    _ATEN.scaled_dot_product_attention.default,
    _ATEN.silu.default,
    _ATEN.gelu.default,
    _ATEN.layer_norm.default,
    _ATEN.linear.default,
    _ATEN.conv2d.default,
    _ATEN.softmax.int,
    _ATEN.hardtanh.default,
    _ATEN.hardswish.default,
    _ATEN.hardsigmoid.default,
    _ATEN.leaky_relu.default,
    _ATEN.relu6.default,
    _ATEN.prelu.default,
    _ATEN.adaptive_avg_pool2d.default,
    _ATEN.roll.default,
)
"""What torch would take apart and this compiler wants whole."""


def from_torch(model: Any, example_inputs: Sequence[Any] | None = None) -> tvm.IRModule:
    """Import a ``torch.nn.Module`` in evaluation mode, or a ``torch.export.ExportedProgram``.

    example_inputs: float32 tensors whose shapes become the module's fixed shapes; needed for a
    module, ignored for an exported program. Weights become constants. Bindings are named after the
    module path of their weight or layer (``stages.0.conv1``); these names are what overrides use.

    Raises ``UnsupportedModelError`` for a model in training mode, for weights that are not finite
    (naming the tensor), for shapes left open, when torch cannot trace the model, and for operators
    that cannot be handled, all of them at once, each with the module path it comes from.
    """
    program = model if isinstance(model, torch.export.ExportedProgram) else None
    if program is None:
        program = _export(model, example_inputs)
    for name, tensor in [*program.state_dict.items(), *program.constants.items()]:
        if isinstance(tensor, torch.Tensor):
            check_finite(name, tensor.detach().cpu().numpy())
    _check_static(program)
    return _import(_decompose(program))


def _export(model: Any, example_inputs: Sequence[Any] | None) -> torch.export.ExportedProgram:
    if not isinstance(model, torch.nn.Module):
        raise UnsupportedModelError(
            f"from_torch takes a torch.nn.Module or an ExportedProgram, not {type(model).__name__}"
        )
    if example_inputs is None:
        raise UnsupportedModelError("from_torch needs example inputs to trace a module")
    training = [name or "the model" for name, child in model.named_modules() if child.training]
    if training:
        raise UnsupportedModelError(f"{training[0]} is in training mode: call model.eval() first")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(model, tuple(example_inputs))
    except Exception as error:
        raise UnsupportedModelError(f"torch.export cannot trace the model: {error}") from error


def _check_static(program: torch.export.ExportedProgram) -> None:
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op != "placeholder" or not isinstance(value, torch.Tensor):
            continue
        if not all(isinstance(length, int) for length in value.shape):
            raise UnsupportedModelError(
                f"input {node.name!r} has the open shape {tuple(value.shape)}: "
                "export the model without dynamic shapes"
            )


def _decompose(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    table = torch.export.default_decompositions()
    for operator in KEPT_WHOLE:
        table.pop(operator, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return program.run_decompositions(table)


def _import(program: torch.export.ExportedProgram) -> tvm.IRModule:
    importer = _Importer(program)
    mod = importer.from_exported_program(program, False, False, False, None)
    mod = importer.labels.apply(mod)
    check_operators(mod)
    return mod


class _Importer(ExportedProgramImporter):
    """TVM's importer with labels, constants computed by torch, stand-ins, and corrections.

    A stand-in takes the place of an operator that is unknown or that the importer fails on; the
    import goes on, and ``check_operators`` names all of them.
    """

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        self.labels = Labels()
        signature = program.graph_signature
        self._owners = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        tensors = {**program.state_dict, **program.constants}
        self._constants: dict[str, Any] = {
            name: tensors[target].detach()
            for name, target in self._owners.items()
            if isinstance(tensors.get(target), torch.Tensor)
        }
        table: dict[str, Callable[[Any], Any]] = {**self.create_convert_map(), **self._corrected()}
        names = {node.target.__name__ for node in program.graph.nodes if node.op == "call_function"}
        self.convert_map = {name: self._checked(table.get(name)) for name in names | set(table)}

    def _translate_fx_graph(self, *args: Any, **kwargs: Any) -> Any:
        self.labels.watch(self.block_builder)
        translated = super()._translate_fx_graph(*args, **kwargs)
        self.labels.current = ""
        return translated

    def _checked(self, convert: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
        def converted(node: Any) -> Any:
            self.labels.current = self._label(node)
            if all(argument.name in self._constants for argument in node.all_input_nodes):
                return self._computed(node)
            if convert is None:
                return self._stand_in(node)
            try:
                return convert(node)
            except Exception as error:  # noqa: BLE001 - TVM raises whatever it runs into
                return self._stand_in(node, str(error).partition("\n")[0])

        return converted

    def _computed(self, node: Any) -> Any:
        """What depends on weights alone: torch knows it exactly."""
        arguments, keywords = torch.fx.node.map_arg(
            (node.args, node.kwargs), lambda argument: self._constants[argument.name]
        )
        with torch.no_grad():
            value = node.target(*arguments, **keywords)
        self._constants[node.name] = value
        return _as_relax(value)

    def _label(self, node: Any) -> str:
        """The owner of the weight in use, else the layer, else its module and the operator."""
        for argument in node.all_input_nodes:
            owner: str = self._owners.get(argument.name, "").rpartition(".")[0]
            if owner:
                return owner
        stack = list((node.meta.get("nn_module_stack") or {"": ("", "")}).values())
        path, kind = stack[-1]
        layer = str(getattr(kind, "__module__", kind)).startswith("torch.nn.modules.")
        operator = str(node.target.__name__).partition(".")[0].strip("_")
        operator = _SHORT.get(operator, operator)
        return path if layer and path else f"{path}.{operator}".lstrip(".")

    def _stand_in(self, node: Any, reason: str = "") -> Any:
        values = node.meta.get("val")
        outputs = values if isinstance(values, (tuple, list)) else (values,)
        types = [_relax_type(value) for value in outputs]
        args = [self.env[argument] for argument in node.all_input_nodes]
        type_ = relax.TupleType(types) if isinstance(values, (tuple, list)) else types[0]
        what = str(node.target).removeprefix("aten.").removesuffix(".default")
        what = f"{what} ({reason})" if reason else what
        return placeholder(self.block_builder, what, args, type_)

    def _corrected(self) -> dict[str, Callable[[Any], Any]]:
        """Converters in place of those that ignore arguments or refuse what is simple."""
        return {
            "hardtanh.default": self._clamp_between,
            "hardtanh_.default": self._clamp_between,
            "scaled_dot_product_attention.default": self._attention,
            "avg_pool2d.default": self._average,
            "layer_norm.default": self._normalised,
        }

    def _clamp_between(self, node: Any) -> Any:
        """hardtanh, whose limits may be positional."""
        low = node.args[1] if len(node.args) > 1 else node.kwargs.get("min_val", -1.0)
        high = node.args[2] if len(node.args) > 2 else node.kwargs.get("max_val", 1.0)
        return self.block_builder.emit(relax.op.clip(self.env[node.args[0]], low, high))

    def _normalised(self, node: Any) -> Any:
        """layer_norm, perhaps without weights."""
        given = dict(zip(_NORM_ARGUMENTS, node.args, strict=False)) | node.kwargs
        weights = [self.env[given[key]] if given.get(key) else None for key in ("weight", "bias")]
        shape = tuple(given["normalized_shape"])
        return self._layer_norm_impl(
            self.env[given["input"]], *weights, given.get("eps", 1e-5), shape
        )

    def _average(self, node: Any) -> Any:
        """avg_pool2d without a divisor of its own."""
        override = node.args[6] if len(node.args) > 6 else node.kwargs.get("divisor_override")
        return self._avg_pool2d(node) if override is None else self._stand_in(node)

    def _attention(self, node: Any) -> Any:
        """Attention with its scale, and with masks that broadcast."""
        given = dict(zip(_ATTENTION_ARGUMENTS, node.args, strict=False)) | node.kwargs
        if given.get("is_causal") or given.get("enable_gqa") or given.get("dropout_p"):
            return self._stand_in(node, "causal, grouped or with dropout")
        emit, op = self.block_builder.emit, relax.op
        shape = tuple(node.meta["val"].shape)
        lead = shape[:-2] if len(shape) == 4 else (math.prod(shape[:-2]), 1)
        query, key, value = (
            emit(
                op.permute_dims(op.reshape(self.env[v], (*lead, *v.meta["val"].shape[-2:])), _HEADS)
            )
            for v in (given[name] for name in _ATTENTION_ARGUMENTS[:3])
        )
        mask = given.get("attn_mask")
        bias = None if mask is None else self._bias(self.env[mask], len(shape))
        attended = op.nn.attention(query, key, value, bias=bias, scale=given.get("scale"))
        return emit(op.reshape(op.permute_dims(emit(attended), _HEADS), shape))

    def _bias(self, mask: Any, rank: int) -> Any:
        if mask.ty.dtype != "float32" or (rank != 4 and mask.ty.ndim > 2):
            raise ValueError("a mask that is no float tensor over the heads")
        missing = 4 - mask.ty.ndim
        return relax.op.expand_dims(mask, list(range(missing))) if missing else mask


_ATTENTION_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
_NORM_ARGUMENTS = ("input", "normalized_shape", "weight", "bias", "eps")

_HEADS = (0, 2, 1, 3)
"""Heads before rows into rows before heads, and back."""

_SHORT = {"scaled_dot_product_attention": "attention", "native_batch_norm_legit_no_training": "bn"}


def _as_relax(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return relax.const(value.contiguous().numpy())
    return tuple(_as_relax(item) for item in value) if isinstance(value, (tuple, list)) else value


def _relax_type(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return relax.ObjectType()
    # A stand-in is never computed: where Relax lacks the type, any other will do.
    dtype = "float32" if value.is_complex() else str(value.dtype).removeprefix("torch.")
    return relax.TensorType(tuple(int(n) for n in value.shape), dtype)
