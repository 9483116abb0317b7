"""What ``benchmarks.accuracy`` measures, and the table of its results."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hyq_tvm

PREFIX = "accuracy-"


@dataclass(frozen=True)
class Case:
    """One combination: which model, how it is quantized, and where it runs."""

    model: str
    bits: int = 8
    scaling: str | None = "qads"
    softmax: str = "linear_pot"
    observer: str = "auto"
    widths: str = "auto"
    target: str = "llvm"
    simulate: bool = False
    weights: int = 8

    @property
    def name(self) -> str:
        """File name of the result, without its ending."""
        how = "simulated" if self.simulate else self.target
        bits = f"a{self.bits}" if self.weights == 8 else f"w{self.weights}a{self.bits}"
        parts = (self.model, bits, self.scaling or "none", self.softmax, self.observer)
        return PREFIX + "-".join((*parts, self.widths, how))

    def config(self) -> Any:
        """The library's configuration of this case."""
        return hyq_tvm.QuantConfig(
            scaling=self.scaling,
            softmax=self.softmax,
            activation_bits=self.bits,
            weight_bits=self.weights,
            observer=self.observer,
            widths=self.widths,
            # What everybody does is to be compared with, not what it could be.
            bias_correction=self.widths != "uniform",
        )


@dataclass(frozen=True)
class Result:
    """What was measured. Shares are in 0..1; intervals hold 95 %."""

    case: Case
    images: int
    float_top1: float
    integer_top1: float
    integer_interval: tuple[float, float]
    change: float
    change_interval: tuple[float, float]
    agreement: float
    mcnemar_p: float
    sqnr_db: float
    seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def markdown(results: list[Result]) -> str:
    """A table of all results, the models in order and the best first within a width."""
    lines = [
        "# Integer against float, top-1 on real images",
        "",
        "| model | images | bits, weights / act. | widths | scaling | softmax | observer | on "
        "| float | integer | change (95 %) | agreement | McNemar p | SQNR dB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    key: Callable[[Result], Any] = lambda r: (  # noqa: E731
        (r.case.model, -r.case.weights, -r.case.bits, -r.sqnr_db)
    )
    for r in sorted(results, key=key):
        c = r.case
        low, high = r.change_interval
        where = "simulated" if c.simulate else c.target
        lines.append(
            f"| {c.model} | {r.images} | {c.weights} / {c.bits} | {c.widths} "
            f"| {c.scaling or 'none'} "
            f"| {c.softmax} | {c.observer} | {where} | {r.float_top1:.2%} | {r.integer_top1:.2%} "
            f"| {100 * r.change:+.2f} ({100 * low:+.2f} .. {100 * high:+.2f}) "
            f"| {r.agreement:.2%} | {r.mcnemar_p:.3g} | {r.sqnr_db:.1f} |"
        )
    return "\n".join(lines) + "\n"


def load_results(folder: Path) -> list[Result]:
    """All results of a folder, by file name."""
    loaded = []
    for path in sorted(folder.glob(f"{PREFIX}*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        loaded.append(Result(**{**data, "case": Case(**data["case"])}))
    return loaded
