"""The softmax unit and its exponential, compiled from their sources and driven with rows."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import ConfigError, InputError
from hyq_tvm.numerics.exponential import (
    GRID_KINDS,
    SteppedExponential,
    linear_constants,
    poly2_constants,
)
from hyq_tvm.vta.cosim.toolchain import ToolUnavailable, softmax_sources
from hyq_tvm.vta.cosim.verilated import Design, library

KINDS = {"poly2": 0, "linear": 1, "linear_pot": 2, "table": 3}
RESULTS = {"uint8": 0, "log2_4bit": 1}
LANES = (1, 4, 16)
MAX_LENGTH = 256
TOP_BITS = {"poly2": 15, "linear": 11}
"""Bits of the mantissa at a row's maximum that needs no narrowing."""
LATENCY = {"poly2": 5, "linear": 3, "linear_pot": 2, "table": 2}
"""Cycles of the exponential with a fixed scale."""
FIELDS = {"logit_shift": 3, "period": 11, "offset": 12, "constant": 18, "narrow": 2}
"""Widths of the constants, first one highest."""


@dataclass(frozen=True)
class SoftmaxUnit:
    """A unit of one kind.

    kind: of ``KINDS``. result: ``"uint8"`` or ``"log2_4bit"``. lanes: logits a cycle. length:
    longest row, up to 256, a multiple of the lanes. logit_bits: of the signed logits; 0 takes what
    the kind needs: 10 on the grid ``ln2 / 16``, 8 for the others. Raises ``ConfigError``.
    """

    kind: str = "linear_pot"
    result: str = "uint8"
    lanes: int = 1
    length: int = 256
    logit_bits: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.result not in RESULTS:
            raise ConfigError(f"{self}: kinds are {list(KINDS)}, results {list(RESULTS)}")
        if self.lanes < 1 or self.length % self.lanes or not 1 <= self.length <= MAX_LENGTH:
            raise ConfigError(f"{self}: rows of up to {MAX_LENGTH} logits, a multiple of the lanes")
        if not 0 <= self.logit_bits <= 16:
            raise ConfigError(f"{self}: logits have up to 16 bits")

    @property
    def width(self) -> int:
        """Bits of a logit."""
        return self.logit_bits or (10 if self.kind in GRID_KINDS else 8)

    @property
    def parameters(self) -> dict[str, int]:
        """Of the module ``hyq_softmax``."""
        return {
            "Kind": KINDS[self.kind],
            "Result": RESULTS[self.result],
            "Lanes": self.lanes,
            "Length": self.length,
            "LogitWidth": self.width,
        }

    def run(
        self, logits: NDArray[Any], scale: float | None = None, pause: int = 0
    ) -> tuple[NDArray[np.uint8], int]:
        """Codes of ``logits [rows, n]`` and the cycles that they took.

        scale: of the logits, for kinds that are not on the grid. pause: a cycle without input after
        every so many words. Raises ``InputError``, ``ToolUnavailable``.
        """
        rows = np.ascontiguousarray(logits, dtype=np.int16)
        limit = 1 << (self.width - 1)
        if rows.ndim != 2 or not 1 <= rows.shape[1] <= self.length:
            raise InputError(f"logits {rows.shape}: rows of 1 to {self.length} are needed")
        if rows.size and not (-limit <= rows.min() and rows.max() < limit):
            raise InputError(f"logits beyond {self.width} bits")
        constants = self._constants(scale)
        codes = np.zeros(rows.shape, np.uint8)
        call = self._library().hyq_softmax_rows
        call.restype = ctypes.c_uint64
        cycles = call(
            rows.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_int64(len(rows)),
            ctypes.c_int64(rows.shape[1]),
            ctypes.c_uint64(constants),
            ctypes.c_int64(pause),
            codes.ctypes.data_as(ctypes.c_void_p),
        )
        if not cycles:
            raise ToolUnavailable(f"{self}: the model stopped answering")
        return codes, int(cycles)

    def _constants(self, scale: float | None) -> int:
        if self.kind in GRID_KINDS:
            if scale is not None:
                raise InputError(f"kind {self.kind!r} takes logits on its grid, not a scale")
            return 0
        if scale is None:
            raise InputError(f"kind {self.kind!r} needs the scale of its logits")
        return _packed(scale_fields(self.kind, scale))

    def _library(self) -> ctypes.CDLL:
        defines = {
            "LANES": self.lanes,
            "LOGIT_BITS": self.width,
            "CODE_BITS": 4 if self.result == "log2_4bit" else 8,
        }
        sources = softmax_sources()
        design = Design.of("hyq_softmax", sources, self.parameters, "softmax.cpp", defines)
        return library(design)


def scale_fields(kind: str, scale: float) -> dict[str, int]:
    """The constants of a stepped kind as the unit takes them; raises ``ConfigError``."""
    made: SteppedExponential = (linear_constants if kind == "linear" else poly2_constants)(scale)
    narrow = made.top.bit_length() - TOP_BITS[kind]
    fields = {
        "logit_shift": made.logit_shift,
        "period": made.period,
        "offset": made.offset,
        "constant": made.constant,
        "narrow": narrow,
    }
    for name, value in fields.items():
        if not 0 <= value < 1 << FIELDS[name]:
            raise ConfigError(f"logit scale {scale!r}: {name}={value} does not fit the unit")
    return fields


def _packed(fields: dict[str, int]) -> int:
    word = 0
    for name, bits in FIELDS.items():
        word = word << bits | fields[name]
    return word


def exp_parameters(kind: str, scale: float, diff_bits: int) -> dict[str, int]:
    """Of the module ``hyq_exp_fixed``."""
    parameters = {"Kind": KINDS[kind], "DiffWidth": diff_bits}
    if kind not in GRID_KINDS:
        fields = scale_fields(kind, scale)
        names = {name: "".join(p.capitalize() for p in name.split("_")) for name in fields}
        parameters.update({names[name]: value for name, value in fields.items()})
    return parameters


def exp_weights(kind: str, scale: float, differences: NDArray[Any], bits: int) -> NDArray[Any]:
    """Weights of ``differences [n]`` of ``bits`` bits, scale fixed when the model is built."""
    values = np.ascontiguousarray(differences, dtype=np.uint16)
    weights = np.zeros(values.shape, np.uint16)
    parameters = exp_parameters(kind, scale, bits)
    sources = softmax_sources()
    design = Design.of("hyq_exp_fixed", sources, parameters, "exp.cpp", {"LATENCY": LATENCY[kind]})
    library(design).hyq_exp_weights(
        values.ctypes.data_as(ctypes.c_void_p),
        ctypes.c_int64(values.size),
        weights.ctypes.data_as(ctypes.c_void_p),
    )
    return weights
