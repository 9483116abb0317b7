"""Compile CNN-transformer hybrids to integer-only INT8 inference with Apache TVM.

The names below load on first use: importing this package needs neither TVM nor PyTorch, so a host
that only runs saved executables stays small.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hyq_tvm import threads as _threads
from hyq_tvm.errors import (
    AccumulatorOverflowError,
    ArtifactError,
    CalibrationError,
    ConfigError,
    DeviceError,
    DeviceProgramError,
    FloatComputationError,
    HyqError,
    InputError,
    PlanError,
    TargetError,
    TuningError,
    UnsupportedModelError,
)
from hyq_tvm.threads import num_threads, set_num_threads

if TYPE_CHECKING:
    from hyq_tvm.compiler import compile, quantize, tune
    from hyq_tvm.executable import Executable, load
    from hyq_tvm.frontend import from_onnx, from_torch
    from hyq_tvm.quantization.config import QuantConfig
    from hyq_tvm.quantization.plan import QuantPlan

__version__ = "0.1.0"

_threads.configure()

_HOMES = {
    "Executable": "hyq_tvm.executable",
    "QuantConfig": "hyq_tvm.quantization.config",
    "QuantPlan": "hyq_tvm.quantization.plan",
    "compile": "hyq_tvm.compiler",
    "from_onnx": "hyq_tvm.frontend",
    "from_torch": "hyq_tvm.frontend",
    "load": "hyq_tvm.executable",
    "quantize": "hyq_tvm.compiler",
    "tune": "hyq_tvm.compiler",
}

__all__ = [
    "AccumulatorOverflowError",
    "ArtifactError",
    "CalibrationError",
    "ConfigError",
    "DeviceError",
    "DeviceProgramError",
    "Executable",
    "FloatComputationError",
    "HyqError",
    "InputError",
    "PlanError",
    "QuantConfig",
    "QuantPlan",
    "TargetError",
    "TuningError",
    "UnsupportedModelError",
    "__version__",
    "compile",
    "from_onnx",
    "from_torch",
    "load",
    "num_threads",
    "quantize",
    "set_num_threads",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
