"""ONNX models into float Relax modules."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tvm

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.frontend.support import check_finite, check_operators, unsupported

Shapes = Mapping[str, Sequence[int]]


def from_onnx(model: Any, input_shapes: Shapes | None = None) -> tvm.IRModule:
    """Import an ONNX model, given as a path or as a loaded ``onnx.ModelProto``.

    input_shapes: shape by input name, where the model leaves one open. Weights become constants.
    Bindings are named after the ONNX nodes, or after the module path of their weight where the
    exporter kept it (``stages.0.conv1.weight``).

    Raises ``UnsupportedModelError`` when the ``onnx`` package or the file is missing, when it is
    not ONNX, for open shapes and unknown input names, for weights that are not finite (naming the
    tensor), and for operators that cannot be handled, all at once, each with its node's name.
    """
    proto = _load(model)
    for weight in proto.graph.initializer:
        check_finite(weight.name, _array(weight))
    shapes = _shapes(proto, input_shapes or {})
    return _import(_folded(proto, shapes), shapes)


SHAPE_OPERATORS = frozenset({"Shape", "Size", "ConstantOfShape", "Range"})
"""Operators that compute with shapes: constants, once the inputs' shapes are known."""


def _folded(proto: Any, shapes: dict[str, list[int]]) -> Any:
    """The model for inputs of ``shapes``, its arithmetic with shapes done."""
    if not any(node.op_type in SHAPE_OPERATORS for node in proto.graph.node):
        return proto
    try:
        from onnxscript import optimizer
    except ImportError as error:
        raise UnsupportedModelError(
            "this ONNX model computes with shapes, which needs the onnxscript package: "
            "pip install 'hyq-tvm[onnx]'"
        ) from error
    fixed = type(proto)()
    fixed.CopyFrom(proto)
    for value in fixed.graph.input:
        for dim, length in zip(
            value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False
        ):
            dim.dim_value = length
    return optimizer.optimize(fixed)


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise UnsupportedModelError(
            "reading ONNX needs the onnx package: pip install 'hyq-tvm[onnx]'"
        ) from error
    return onnx


def _array(tensor: Any) -> Any:
    return _onnx().numpy_helper.to_array(tensor)


def _load(model: Any) -> Any:
    onnx = _onnx()
    if isinstance(model, onnx.ModelProto):
        return model
    if not isinstance(model, (str, os.PathLike)):
        raise UnsupportedModelError(
            f"from_onnx takes a path or an onnx.ModelProto, not {type(model).__name__}"
        )
    path = Path(model)
    if not path.is_file():
        raise UnsupportedModelError(f"{path}: no such file")
    try:
        proto = onnx.load(str(path))
        onnx.checker.check_model(proto)
    except Exception as error:
        raise UnsupportedModelError(f"{path}: not a valid ONNX model ({error})") from error
    return proto


def _shapes(proto: Any, given: Shapes) -> dict[str, list[int]]:
    """The static shape of every input that is not a weight."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in weights]
    unknown = sorted(set(given) - {value.name for value in inputs})
    if unknown:
        names = [value.name for value in inputs]
        raise UnsupportedModelError(f"the model has no inputs {unknown}; its inputs are {names}")
    shapes: dict[str, list[int]] = {}
    for value in inputs:
        declared = [
            dim.dim_value or dim.dim_param or "?" for dim in value.type.tensor_type.shape.dim
        ]
        shapes[value.name] = _static(value.name, declared, given.get(value.name))
    return shapes


def _static(name: str, declared: list[Any], given: Sequence[int] | None) -> list[int]:
    if given is None:
        if not all(isinstance(length, int) for length in declared):
            raise UnsupportedModelError(
                f"input {name!r} has the open shape {declared}: "
                f"give input_shapes={{{name!r}: (...)}}"
            )
        return declared
    if len(given) != len(declared) or any(
        isinstance(d, int) and d != g for d, g in zip(declared, given, strict=True)
    ):
        raise UnsupportedModelError(
            f"input {name!r}: {list(given)} does not fit the declared {declared}"
        )
    return [int(length) for length in given]


def _import(proto: Any, shapes: dict[str, list[int]]) -> tvm.IRModule:
    # TVM's importer needs the onnx package as soon as it is imported.
    from hyq_tvm.frontend.onnx_importer import Importer

    importer = Importer(proto, shapes)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            mod = importer.from_onnx(proto.graph, _opset(proto))
    except Exception as error:
        if importer.missing:
            raise unsupported(importer.missing) from error
        where = importer.labels.current or "the model"
        raise UnsupportedModelError(f"{where}: the node cannot be imported ({error})") from error
    mod = importer.labels.apply(mod)
    check_operators(mod)
    return mod


def _opset(proto: Any) -> int:
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    return int(max(versions, default=1))
