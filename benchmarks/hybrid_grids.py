"""Why a hybrid loses what it loses: too few steps, too narrow ranges, or both.

``python -m benchmarks.hybrid_grids --model mobilevitv2_050``

Plans a model of ``benchmarks.hybrids`` with the defaults and simulates it on the pictures that
nothing was calibrated on: as planned, with every range twice as wide, with 16-bit grids over the
planned ranges, and with both. Weights are rounded as planned in all four. Prints the SQNR at the
logits over all pictures, of the worst and of the best one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import hyq_tvm
from benchmarks.hybrids import JUDGED, MODELS, SEED, calibration_pictures, pictures, random_model
from hyq_tvm.quantization.float_executor import FloatExecutor
from hyq_tvm.quantization.graph import Graph
from hyq_tvm.quantization.plan import QuantPlan, TensorPlan
from hyq_tvm.quantization.planner import calibrate, plan_from_statistics
from hyq_tvm.quantization.simulate import Simulator
from hyq_tvm.report.significance import sqnr_db
from relay_passes.extract_graph import extract_graph

FINE_BITS = 16

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """SQNR in dB at the outputs: over all pictures together, and of single ones."""

    grids: str
    sqnr_db: float
    worst_db: float
    best_db: float


def wider(plan: QuantPlan, factor: float) -> QuantPlan:
    """The plan with every grid's steps, and so its range, ``factor`` times as large."""

    def changed(tensor: TensorPlan) -> TensorPlan:
        return replace(tensor, scale=tuple(factor * step for step in tensor.scale))

    return replace(plan, tensors={name: changed(t) for name, t in plan.tensors.items()})


def finer(plan: QuantPlan) -> QuantPlan:
    """The plan with 16 bits over the same ranges, for the simulator alone."""

    def changed(tensor: TensorPlan) -> TensorPlan:
        parts = 2 ** (FINE_BITS - tensor.bits)
        steps = tuple(step / parts for step in tensor.scale)
        return replace(tensor, bits=FINE_BITS, scale=steps, zero_point=tensor.zero_point * parts)

    return replace(plan, tensors={name: changed(t) for name, t in plan.tensors.items()})


def compare(graph: Graph, plan: QuantPlan, test: Floats) -> list[Row]:
    """The four grids on pictures [n, *shape of an image]; the graph takes one at a time."""
    executor = FloatExecutor(graph)
    exact = [executor.run(picture[None])[0].numpy() for picture in test]
    plans = {
        "as planned": plan,
        "twice the range": wider(plan, 2.0),
        "16 bits": finer(plan),
        "16 bits, twice the range": wider(finer(plan), 2.0),
    }
    return [_row(name, Simulator(graph, tried), test, exact) for name, tried in plans.items()]


def _row(name: str, simulator: Simulator, test: Floats, exact: Sequence[Any]) -> Row:
    found = [simulator.run(picture[None])[0].numpy() for picture in test]
    each = [sqnr_db(want, got) for want, got in zip(exact, found, strict=True)]
    return Row(name, sqnr_db(np.concatenate(exact), np.concatenate(found)), min(each), max(each))


def planned(name: str, images: int) -> tuple[Graph, QuantPlan]:
    """A model's graph and its plan, as ``benchmarks.hybrids`` makes them."""
    size = MODELS[name]
    example = torch.from_numpy(pictures(1, size, SEED))
    graph = extract_graph(hyq_tvm.from_torch(random_model(name), (example,)))
    config = hyq_tvm.QuantConfig()
    statistics = calibrate(graph, calibration_pictures(images, size), config)
    return graph, plan_from_statistics(graph, statistics, config)


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table."""
    lines = [
        "| grids of activations | SQNR dB | worst picture | best picture |",
        "|---|---|---|---|",
    ]
    lines += [f"| {r.grids} | {r.sqnr_db:.1f} | {r.worst_db:.1f} | {r.best_db:.1f} |" for r in rows]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Print the table of one model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=MODELS, default="mobilevitv2_050")
    parser.add_argument("--images", type=int, default=100, help="for calibration; 100")
    options = parser.parse_args(arguments)
    graph, plan = planned(options.model, options.images)
    test = pictures(JUDGED, MODELS[options.model], SEED + 2)
    print(markdown(compare(graph, plan, test)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
