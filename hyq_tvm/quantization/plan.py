"""The QuantPlan: every decision of a quantization as plain data to read, edit and diff."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm import documents
from hyq_tvm.errors import ConfigError, HyqError, PlanError
from hyq_tvm.quantization.config import BITS, SOFTMAX_KINDS, QuantConfig

VERSION = 1
WIDE = ":wide"
"""Suffix of a tensor's second grid: 16-bit, symmetric, per tensor; read by adds and norms."""


@dataclass(frozen=True)
class TensorPlan:
    """The integer grid of one tensor: ``real = scale * (q - zero_point)`` (N1).

    scale: one number, or one per channel (last axis) where distribution scaling acts.
    bits: 4, 6, 8 (stored int8), 12 (table inputs, stored int16) or 16 (stored int16).
    symmetric: zero_point is 0 and the lowest integer is minus the highest.
    low, high: the calibrated range in real units before alpha, for people and reports.
    """

    scale: tuple[float, ...]
    zero_point: int
    bits: int
    symmetric: bool
    observer: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.bits not in (4, 6, 8, 12, 16):
            raise PlanError(f"bits={self.bits!r}: a tensor has 4, 6, 8, 12 or 16")
        if type(self.bits) is not int or type(self.zero_point) is not int:
            raise PlanError("bits and zero_point are whole numbers")
        if type(self.symmetric) is not bool or not isinstance(self.observer, str):
            raise PlanError("symmetric is true or false, observer a name")
        if not all(_is_number(end) for end in (self.low, self.high)):
            raise PlanError(f"low={self.low!r}, high={self.high!r}: a range has finite ends")
        if not self.scale or not all(np.isfinite(s) and s > 0 for s in self.scale):
            raise PlanError(f"scale={self.scale!r}: scales are finite and positive")
        if not self.qmin <= self.zero_point <= self.qmax or (self.symmetric and self.zero_point):
            raise PlanError(f"zero_point={self.zero_point!r} is outside the tensor's grid")

    @property
    def qmin(self) -> int:
        """Lowest integer of the grid."""
        return -(1 << (self.bits - 1)) + (1 if self.symmetric else 0)

    @property
    def qmax(self) -> int:
        """Highest integer of the grid."""
        return (1 << (self.bits - 1)) - 1

    @property
    def dtype(self) -> str:
        """Storage type."""
        return "int8" if self.bits <= 8 else "int16"

    @property
    def scales(self) -> NDArray[np.float64]:
        """The scale as an array of length 1 or C."""
        return np.asarray(self.scale, dtype=np.float64)


@dataclass(frozen=True)
class LayerPlan:
    """Decisions about one operator.

    op: the operator in the canonical graph. exclude: computed in float.
    alpha: per input channel factors of distribution scaling, already part of the input
    tensor's ``scale``; empty means none. alpha_cost: "free" or what it costs at run time.
    bias_shift: per output channel, what is added to the float bias; empty means nothing.
    softmax, softmax_weight_bits, softmax_fraction_bits: kind, width of the unnormalised
    weights and F of the power-of-two grid, of attention and softmax operators;
    softmax_logit_scale: the 8-bit logits' scale, which the kind ``"hyq"`` alone needs.
    """

    op: str
    weight_bits: int = 8
    exclude: bool = False
    alpha: tuple[float, ...] = ()
    alpha_cost: str = ""
    bias_shift: tuple[float, ...] = ()
    softmax: str = ""
    softmax_weight_bits: int = 8
    softmax_fraction_bits: int = 4
    softmax_logit_scale: float = 0.0

    def __post_init__(self) -> None:
        choices: tuple[tuple[str, tuple[Any, ...]], ...] = (
            ("weight_bits", BITS),
            ("exclude", (False, True)),
            ("softmax", ("", *SOFTMAX_KINDS)),
            ("softmax_weight_bits", (8, 16)),
            ("softmax_fraction_bits", tuple(range(1, 9))),
        )
        for name, allowed in choices:
            value = getattr(self, name)
            if type(value) is not type(allowed[0]) or value not in allowed:
                raise PlanError(f"{name}={value!r}: choose one of {list(allowed)}")
        if not all(_is_number(a) and a > 0 for a in self.alpha):
            raise PlanError("alpha: factors are finite and positive")
        if not all(map(_is_number, self.bias_shift)):
            raise PlanError("bias_shift: numbers are finite")
        if not _is_number(self.softmax_logit_scale) or self.softmax_logit_scale < 0:
            raise PlanError(
                f"softmax_logit_scale={self.softmax_logit_scale!r}: a scale is positive"
            )
        if not isinstance(self.op, str) or not isinstance(self.alpha_cost, str):
            raise PlanError("op and alpha_cost are texts")


@dataclass(frozen=True)
class QuantPlan:
    """Grids by tensor name (``name`` and perhaps ``name:wide``), decisions by node name.

    notes: ``predicted_sqnr_db``, signal to noise of the outputs by the planner's linear estimate,
    ``simulated_sqnr_db``, the same by simulating the model on images that calibration kept,
    and ``softmax_max_dp``, operator -> the greatest error of a probability on calibration data.
    """

    config: QuantConfig
    fingerprint: str
    tensors: Mapping[str, TensorPlan] = field(default_factory=dict)
    layers: Mapping[str, LayerPlan] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    version: int = VERSION

    @property
    def has_narrow_weights(self) -> bool:
        """Whether a layer's weights have fewer than 8 bits."""
        return any(layer.weight_bits < 8 for layer in self.layers.values())

    def to_json(self) -> str:
        """Readable JSON; ``from_json`` gives the same plan back."""
        data = asdict(self)
        data["config"] = self.config.to_dict()
        return json.dumps(data, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> QuantPlan:
        """Parse and check a plan; raises ``PlanError`` naming the field that is wrong."""
        try:
            data = documents.parse(text)
        except ValueError as error:
            raise PlanError(f"not a plan: {error}") from error
        if not isinstance(data, dict) or data.get("version") != VERSION:
            raise PlanError(f"not a plan of version {VERSION}: make it again with quantize()")
        unknown = sorted(set(data) - {f.name for f in fields(cls)})
        if unknown:
            raise PlanError(f"a plan has no fields {unknown}")
        try:
            return cls(
                config=QuantConfig.from_dict(data["config"]),
                fingerprint=str(data["fingerprint"]),
                tensors={k: _tensor(k, v) for k, v in data["tensors"].items()},
                layers={k: _layer(k, v) for k, v in data["layers"].items()},
                notes=dict(data.get("notes", {})),
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise PlanError(f"the plan lacks or garbles {error}") from error
        except ConfigError as error:
            raise PlanError(f"the plan's config: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON; the file is complete or untouched.

        Raises ``PlanError`` where it cannot be written.
        """
        target = Path(path)
        try:
            handle, name = tempfile.mkstemp(dir=target.parent or ".", prefix=f".{target.name}.")
        except (OSError, ValueError) as error:
            raise PlanError(f"{target} cannot be written: {error}") from error
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(self.to_json())
            Path(name).chmod(0o644)
            Path(name).replace(target)
        except OSError as error:
            raise PlanError(f"{target} cannot be written: {error}") from error
        finally:
            Path(name).unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> QuantPlan:
        """Read a plan file; raises ``PlanError`` naming the file."""
        try:
            return cls.from_json(documents.read_text(path))
        except HyqError as error:
            raise PlanError(f"{path}: {error}") from error
        except (OSError, ValueError) as error:
            raise PlanError(f"{path}: cannot be read ({error})") from error

    def with_tensor(self, name: str, **changes: Any) -> QuantPlan:
        """A copy with fields of one tensor changed."""
        if name not in self.tensors:
            raise PlanError(f"no tensor {name!r} in the plan")
        return replace(self, tensors={**self.tensors, name: replace(self.tensors[name], **changes)})

    def with_layer(self, name: str, **changes: Any) -> QuantPlan:
        """A copy with fields of one layer changed."""
        if name not in self.layers:
            raise PlanError(f"no layer {name!r} in the plan")
        return replace(self, layers={**self.layers, name: replace(self.layers[name], **changes)})


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.floating)) and bool(np.isfinite(value))


def _tensor(name: str, data: Mapping[str, Any]) -> TensorPlan:
    try:
        return TensorPlan(**{**data, "scale": tuple(float(s) for s in data["scale"])})
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise PlanError(f"tensor {name!r}: {error}") from error


def _layer(name: str, data: Mapping[str, Any]) -> LayerPlan:
    try:
        lists = {key: tuple(map(float, data.get(key, ()))) for key in ("alpha", "bias_shift")}
        return LayerPlan(**{**data, **lists})
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise PlanError(f"layer {name!r}: {error}") from error
