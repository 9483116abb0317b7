"""Front ends: models of other frameworks into float Relax modules."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyq_tvm.frontend.models import named_model
    from hyq_tvm.frontend.onnx import from_onnx
    from hyq_tvm.frontend.torch import from_torch

_HOMES = {
    "from_onnx": "hyq_tvm.frontend.onnx",
    "from_torch": "hyq_tvm.frontend.torch",
    "named_model": "hyq_tvm.frontend.models",
}

__all__ = ["from_onnx", "from_torch", "named_model"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
