"""Operators that the GPU suite measures, with their inputs; NumPy alone, for hosts without TVM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.numerics.exponential import grid_requantizer
from hyq_tvm.numerics.softmax_tables import attention_constants

KIND = "linear_pot"
_SCALE = 1e-4
_BITS = 4


@dataclass(frozen=True)
class OpCase:
    """``softmax`` of int32 logits [samples, heads, tokens, tokens], or ``attention``.

    depth: elements a head; 0 for softmax. data: which arguments are no constants.
    """

    op: str
    samples: int
    heads: int
    tokens: int
    depth: int = 0

    @property
    def name(self) -> str:
        """For reports and file names."""
        sizes = [self.samples, self.heads, self.tokens, self.depth or self.tokens]
        return f"{self.op}-{'x'.join(map(str, sizes))}"

    @property
    def data(self) -> range:
        """Numbers of the arguments that are inputs."""
        return range(3 if self.depth else 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of every input."""
        if self.depth:
            return self.samples * self.heads, self.tokens, self.depth
        return self.samples, self.heads, self.tokens, self.tokens

    def inputs(self) -> list[NDArray[Any]]:
        """The same ones every time."""
        rng = np.random.default_rng(0)
        if self.depth:
            return [rng.integers(-127, 128, self.shape, dtype=np.int8) for _ in self.data]
        normal = rng.standard_normal(self.shape, dtype=np.float32)
        return [np.rint(normal * np.float32(3 / _SCALE)).astype(np.int32)]

    def constants(self) -> list[NDArray[Any]]:
        """The arguments behind the inputs."""
        if self.depth:
            made = _attention(self.depth, self.tokens)
            return [made[key] for key in ("multiplier", "shift", "table")]
        return list(grid_requantizer(_SCALE, _BITS, self.tokens).tensors)

    def specs(self) -> list[tuple[tuple[int, ...], str]]:
        """Shapes and dtypes of all arguments."""
        dtype = "int8" if self.depth else "int32"
        own = [(self.shape, dtype) for _ in self.data]
        return own + [(tuple(c.shape), str(c.dtype)) for c in self.constants()]

    def params(self) -> Mapping[str, Any]:
        """Of the operator table in docs/architecture.md."""
        if not self.depth:
            return {"kind": KIND, "output": "uint8", "fraction_bits": _BITS}
        made = _attention(self.depth, self.tokens)
        rescale = {key: made[key] for key in ("rescale_multiplier", "rescale_shift")}
        return {"kind": KIND, "zero_point": 0, "low": -128, "high": 127, "dtype": "int8",
                "weight_bits": 8, "fraction_bits": _BITS, "has_bias": False, **rescale}  # fmt: skip


@cache
def _attention(depth: int, tokens: int) -> dict[str, Any]:
    return attention_constants(
        0.05, 0.05, 0.03, depth**-0.5, 0.02, depth, tokens, KIND, 8, _BITS, None
    )


CASES = (
    OpCase("softmax", 64, 12, 197),
    OpCase("softmax", 64, 16, 256),
    OpCase("attention", 64, 12, 197, 64),
    OpCase("attention", 64, 16, 256, 64),
)
BY_NAME = {case.name: case for case in CASES}
