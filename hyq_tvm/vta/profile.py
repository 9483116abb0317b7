"""Where a program's cycles go, layer by layer."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from hyq_tvm.vta.cycles import steps
from hyq_tvm.vta.isa.table import GEMM
from hyq_tvm.vta.program import Program
from hyq_tvm.vta.timing import Event, Timing

WAITING = "waiting"


@dataclass
class LayerProfile:
    """A layer's share of the compute unit's time.

    first: its first instruction. cycles: from when the layer before it leaves the compute unit to
    when it does so itself. busy: cycles by instruction, on the compute unit and beside it.
    products: cycles in which the multiplier array has work.
    """

    name: str
    first: int
    cycles: int = 0
    products: int = 0
    busy: dict[str, int] = field(default_factory=dict)

    @property
    def utilisation(self) -> float:
        """Of the multiplier array's peak over the layer's cycles."""
        return self.products / max(self.cycles, 1)

    @property
    def product_utilisation(self) -> float:
        """Of the multiplier array's peak over the cycles of GEMM instructions; 1 without any."""
        return self.products / self.busy["GEMM"] if self.busy.get("GEMM") else 1.0


def profile(program: Program, timing: Timing) -> list[LayerProfile]:
    """The layers of a program in order; what is before the first one has no name."""
    starts = sorted(program.layers)
    layers = [LayerProfile(program.layers[start], start) for start in starts]
    if not starts or starts[0] > 0:
        starts, layers = [0, *starts], [LayerProfile("", 0), *layers]
    reached = 0
    for event in sorted(timing.events, key=lambda e: (e.end, e.index)):
        layer = layers[bisect_right(starts, event.index) - 1]
        add(layer, event.name, event.end - event.start)
        if event.unit == "compute":
            add(layer, WAITING, max(event.start - reached, 0))
            layer.cycles += event.end - reached
            reached = event.end
            layer.products += _products(program, event)
    return layers


def add(layer: LayerProfile, name: str, cycles: int) -> None:
    """Count cycles under a name."""
    layer.busy[name] = layer.busy.get(name, 0) + cycles


def _products(program: Program, event: Event) -> int:
    row = program.rows[event.index]
    return steps([int(v) for v in row]) if row[0] == GEMM.opcode else 0


def table(layers: Sequence[LayerProfile]) -> list[tuple[str, ...]]:
    """Rows of text: the heading, then a row a layer."""
    names = ("GEMM", "VECTOR", "SOFTMAX", WAITING, "LOAD", "STORE")
    heading = ("layer", "cycles", "utilisation", *(name.lower() for name in names))
    rows = [
        (
            layer.name,
            str(layer.cycles),
            f"{layer.utilisation:.0%}",
            *(str(layer.busy.get(name, 0)) for name in names),
        )
        for layer in layers
    ]
    return [heading, *rows]
