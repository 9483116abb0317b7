"""TVM's ONNX importer with labels, and with stand-ins for unknown operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
from tvm import relax, topi
from tvm.relax.frontend.onnx import onnx_frontend

from hyq_tvm.frontend.labels import Labels
from hyq_tvm.frontend.support import placeholder


class Importer(onnx_frontend.ONNXGraphImporter):
    """TVM's importer; the methods below replace its own of the same names.

    ``missing`` lists the operators that stand-ins were put in place of; ``labels`` knows which
    node each binding comes from.
    """

    def __init__(self, proto: Any, shapes: dict[str, list[int]]) -> None:
        super().__init__(shapes, "float32", False, True)
        self.labels = Labels()
        self.labels.watch(self.bb)
        self.bb.emit_te = self._emit_te
        self.missing: list[str] = []
        self._known = {*onnx_frontend._get_convert_map(), "If", "Constant"}
        self._types = _inferred_types(proto, shapes)
        self._node: Any = None

    def _check_for_unsupported_ops(self, graph: Any) -> None:
        """Refuse nothing: stand-ins let the import name all that is unsupported."""

    def _parse_value_proto(self, value_proto: Any) -> Any:
        if hasattr(value_proto, "op_type"):
            self._node = value_proto
            self.labels.current = _label(value_proto)
        return super()._parse_value_proto(value_proto)

    def _convert_operator(self, op_name: str, inputs: Any, attrs: Any, opset: int) -> Any:
        if op_name not in self._known:
            return self._stand_in(op_name, inputs)
        try:
            value = super()._convert_operator(op_name, inputs, attrs, opset)
        except Exception as error:  # noqa: BLE001 - TVM raises whatever it runs into
            return self._stand_in(f"{op_name} ({str(error).partition(chr(10))[0]})", inputs)
        if isinstance(value, relax.Tuple):
            return relax.Tuple([self._bound(field) for field in value.fields])
        return self._bound(value)

    def _bound(self, value: Any) -> Any:
        """Bind a call here, or each of its readers would bind it anew and without a name."""
        if isinstance(value, relax.Call):
            return self.bb.emit(value)
        if isinstance(value, relax.Var):
            self.labels.adopt(self.bb, value)
        return value

    def _emit_te(self, function: Any, *args: Any, **_: Any) -> Any:
        """The Relax operator in place of a tensor expression, which nothing could see through."""
        if function not in _RELAX_OF_TE:
            raise ValueError(f"computed by {function.__name__}")
        return self.bb.emit(_RELAX_OF_TE[function](*args))

    def _stand_in(self, op_name: str, inputs: Any) -> Any:
        self.missing.append(f"{op_name} at {self.labels.current}")
        args = [value for value in inputs if isinstance(value, relax.Expr)]
        guess = args[0].ty if args else relax.ObjectType()
        outputs = [self._types.get(name, guess) for name in self._node.output]
        type_ = outputs[0] if len(outputs) == 1 else relax.TupleType(outputs)
        return placeholder(self.bb, op_name, args, type_)


def _bounded(operator: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def bound(value: Any, limit: Any) -> Any:
        return operator(value, relax.const(limit) if isinstance(limit, float) else limit)

    return bound


def _padded(value: Any, before: list[int], after: list[int], constant: float) -> Any:
    widths = [int(w) for pair in zip(before, after, strict=True) for w in pair]
    return relax.op.nn.pad(value, widths, "constant", constant)


_RELAX_OF_TE: dict[Any, Callable[..., Any]] = {
    topi.maximum: _bounded(relax.op.maximum),
    topi.minimum: _bounded(relax.op.minimum),
    topi.nn.pad: _padded,
    topi.tile: relax.op.tile,
}


def _label(node: Any) -> str:
    """The module path of a node's weight where the exporter kept it, else the node's name."""
    paths = [name.removesuffix(".weight") for name in node.input if name.endswith(".weight")]
    return str(paths[0] if paths else node.name or node.output[0])


def _inferred_types(proto: Any, shapes: dict[str, list[int]]) -> dict[str, Any]:
    """Types of intermediate tensors, as far as ONNX can tell."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(proto)
    for value in fixed.graph.input:
        dims = value.type.tensor_type.shape.dim
        for dim, length in zip(dims, shapes.get(value.name, ()), strict=False):
            dim.dim_value = length
    types = {}
    for value in onnx.shape_inference.infer_shapes(fixed).graph.value_info:
        tensor = value.type.tensor_type
        shape = [dim.dim_value for dim in tensor.shape.dim]
        if tensor.elem_type and all(shape):
            dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
            types[value.name] = relax.TensorType(shape, dtype)
    return types
