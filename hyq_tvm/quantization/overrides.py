"""Overrides by name: checked against the graph before any work is done."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from hyq_tvm.errors import ConfigError
from hyq_tvm.quantization.config import (
    LAYER_OVERRIDES,
    OBSERVERS,
    SCALINGS,
    SOFTMAX_KINDS,
    QuantConfig,
)
from hyq_tvm.quantization.graph import Graph

CHOICES: Mapping[str, tuple[Any, ...]] = {
    "observer": OBSERVERS,
    "bits": (4, 6, 8, 12, 16),
    "softmax": SOFTMAX_KINDS,
    "softmax_weight_bits": (8, 16),
    "weight_bits": (4, 6, 8),
    "exclude": (True, False),
    "scaling": SCALINGS,
}


def check_overrides(graph: Graph, config: QuantConfig) -> None:
    """Raise ``ConfigError`` on a name that the graph lacks, or a value that is no choice.

    The message lists the names that come close.
    """
    for name, override in config.overrides.items():
        if name not in graph:
            close = difflib.get_close_matches(name, list(graph.nodes), n=5, cutoff=0.4)
            hint = f"did you mean one of {close}?" if close else "inspect lists all names"
            raise ConfigError(f"override of {name!r}: the model has no such tensor; {hint}")
        for option, value in override.items():
            _check_value(name, option, value)


def _check_value(name: str, option: str, value: Any) -> None:
    if option in ("low", "high"):
        if not isinstance(value, int | float) or (value > 0 if option == "low" else value < 0):
            sign = "at most" if option == "low" else "at least"
            raise ConfigError(f"override of {name!r}: {option}={value!r} must be {sign} 0")
    elif value not in CHOICES[option]:
        raise ConfigError(
            f"override of {name!r}: {option}={value!r}: choose one of {list(CHOICES[option])}"
        )


def override_of(config: QuantConfig, names: tuple[str, ...], option: str, default: Any) -> Any:
    """The first override of an option among several tensors that share a grid, or ``default``."""
    for name in names:
        if option in config.overrides.get(name, {}):
            return config.overrides[name][option]
    return default


def layer_option(config: QuantConfig, name: str, option: str, default: Any) -> Any:
    """A layer's override, or ``default``."""
    if option not in LAYER_OVERRIDES:
        raise KeyError(option)
    return config.overrides.get(name, {}).get(option, default)
