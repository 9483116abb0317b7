"""What a user may choose about quantization, in one frozen record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from hyq_tvm.errors import ConfigError

SCALINGS = (None, "smoothquant", "qads_paper", "qads")
SOFTMAX_KINDS = ("linear_pot", "linear", "table", "poly2", "exact", "hyq")
OBSERVERS = ("auto", "minmax", "percentile", "mse")
WIDTHS = ("auto", "uniform")
BITS = (4, 6, 8)
TENSOR_OVERRIDES = ("observer", "bits", "low", "high")
LAYER_OVERRIDES = ("softmax", "softmax_weight_bits", "weight_bits", "exclude", "scaling")


@dataclass(frozen=True)
class QuantConfig:
    """How a float model becomes integers.

    scaling: per-channel distribution scaling of conv and linear inputs: ``None``,
        ``"smoothquant"``, ``"qads_paper"`` (HyQ to the letter) or ``"qads"`` (default).
    softmax: which integer exponential attention uses (docs/numerics.md).
    activation_bits: 4, 6 or 8: what convolutions and linear layers read; storage stays int8.
    weight_bits: 4, 6 or 8.
    widths: ``"auto"`` gives all other tensors, the model's input included, 8 bits or what
        ``residual_bits``, ``table_bits`` and ``softmax_weight_bits`` say; ``"uniform"`` gives every
        tensor ``activation_bits`` but for logits and outputs: plain quantization, to compare with.
    observer: how ranges are chosen: ``"minmax"``, ``"percentile"``, ``"mse"`` or ``"auto"``
        (per tensor, by the error at the output of the layer that reads it).
    residual_bits: 8, 16 or ``"auto"``: the width of tensors that residual adds carry.
    softmax_weight_bits: 8, 16 or ``"auto"``: the width of the unnormalised softmax weights.
    table_bits: 8, 12 or ``"auto"``: the width of the input of an activation table.
    bias_correction: whether biases may make up for the mean error of rounding their layer's input
        and weights; done where a simulation of the model on calibration images gains from it.
    percentile: the two-sided percentile that the percentile observer keeps, in (50, 100].
    samples: rows of each layer's input kept for observers and scaling (bounds memory).
    seed: seeds every random choice.
    overrides: per tensor or layer name, for instance
        ``{"blocks.0.qkv": {"exclude": True}, "blocks.1.add": {"bits": 16}}``.

    Raises ``ConfigError`` naming the field and its choices.
    """

    scaling: str | None = "qads"
    softmax: str = "linear_pot"
    activation_bits: int = 8
    weight_bits: int = 8
    widths: str = "auto"
    observer: str = "auto"
    residual_bits: int | str = "auto"
    softmax_weight_bits: int | str = "auto"
    table_bits: int | str = "auto"
    bias_correction: bool = True
    percentile: float = 99.99
    samples: int = 2048
    seed: int = 0
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        choices: tuple[tuple[str, tuple[Any, ...]], ...] = (
            ("scaling", SCALINGS),
            ("softmax", SOFTMAX_KINDS),
            ("activation_bits", BITS),
            ("weight_bits", BITS),
            ("widths", WIDTHS),
            ("observer", OBSERVERS),
            ("residual_bits", ("auto", 8, 16)),
            ("softmax_weight_bits", ("auto", 8, 16)),
            ("table_bits", ("auto", 8, 12)),
            ("bias_correction", (False, True)),
        )
        for name, allowed in choices:
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name}={getattr(self, name)!r}: choose one of {list(allowed)}")
        self._check_types()
        if not 50 < self.percentile <= 100:
            raise ConfigError(f"percentile={self.percentile!r}: choose a number in (50, 100]")
        if self.samples < 64:
            raise ConfigError(f"samples={self.samples!r}: choose 64 or more")
        for name, override in self.overrides.items():
            unknown = set(override) - set(TENSOR_OVERRIDES) - set(LAYER_OVERRIDES)
            if unknown:
                known = [*TENSOR_OVERRIDES, *LAYER_OVERRIDES]
                raise ConfigError(
                    f"override of {name!r}: unknown {sorted(unknown)}; known: {known}"
                )

    def _check_types(self) -> None:
        if type(self.samples) is not int or type(self.seed) is not int or self.seed < 0:
            raise ConfigError("samples and seed are whole numbers, and seed is not negative")
        if type(self.percentile) not in (int, float):
            raise ConfigError(f"percentile={self.percentile!r}: choose a number in (50, 100]")
        tables = isinstance(self.overrides, Mapping)
        if not tables or not all(isinstance(o, Mapping) for o in self.overrides.values()):
            raise ConfigError("overrides: give {name: {option: value}}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a plan file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> QuantConfig:
        """The inverse of ``to_dict``; raises ``ConfigError`` on unknown fields."""
        unknown = set(data) - {f.name for f in fields(cls)}
        if unknown:
            raise ConfigError(f"unknown fields {sorted(unknown)} in a quantization config")
        return cls(**data)
