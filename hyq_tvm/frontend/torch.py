"""PyTorch modules and exported programs into float Relax modules."""

from __future__ import annotations

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
    try:
        mod = importer.from_exported_program(program, False, False, False, None)
    except Exception as error:
        where = importer.labels.current or "the model"
        raise UnsupportedModelError(
            f"{where}: the operator cannot be imported ({error})"
        ) from error
    mod = importer.labels.apply(mod)
    check_operators(mod)
    return mod


class _Importer(ExportedProgramImporter):
    """TVM's importer, with labels, with stand-ins for unknown operators, and corrected."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        self.labels = Labels()
        signature = program.graph_signature
        self._owners = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        corrected = {
            "hardtanh.default": self._clamp_between,
            "hardtanh_.default": self._clamp_between,
        }
        table: dict[str, Callable[[Any], Any]] = {**self.create_convert_map(), **corrected}
        names = {node.target.__name__ for node in program.graph.nodes if node.op == "call_function"}
        self.convert_map = {
            name: self._labelled(table.get(name, self._stand_in)) for name in names | set(table)
        }

    def _translate_fx_graph(self, *args: Any, **kwargs: Any) -> Any:
        self.labels.watch(self.block_builder)
        translated = super()._translate_fx_graph(*args, **kwargs)
        self.labels.current = ""
        return translated

    def _labelled(self, convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def converted(node: Any) -> Any:
            self.labels.current = self._label(node)
            return convert(node)

        return converted

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
        return path if layer and path else f"{path}.{operator}".lstrip(".")

    def _stand_in(self, node: Any) -> Any:
        values = node.meta.get("val")
        outputs = values if isinstance(values, (tuple, list)) else (values,)
        types = [_relax_type(value) for value in outputs]
        args = [self.env[argument] for argument in node.all_input_nodes]
        type_ = relax.TupleType(types) if isinstance(values, (tuple, list)) else types[0]
        what = str(node.target).removeprefix("aten.").removesuffix(".default")
        return placeholder(self.block_builder, what, args, type_)

    def _clamp_between(self, node: Any) -> Any:
        """hardtanh: its limits may be positional."""
        low = node.args[1] if len(node.args) > 1 else node.kwargs.get("min_val", -1.0)
        high = node.args[2] if len(node.args) > 2 else node.kwargs.get("max_val", 1.0)
        return self.block_builder.emit(relax.op.clip(self.env[node.args[0]], low, high))


def _relax_type(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return relax.ObjectType()
    # A stand-in is never computed: where Relax lacks the type, any other will do.
    dtype = "float32" if value.is_complex() else str(value.dtype).removeprefix("torch.")
    return relax.TensorType(tuple(int(n) for n in value.shape), dtype)
