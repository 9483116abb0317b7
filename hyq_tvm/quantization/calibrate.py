"""One pass over the calibration data: ranges, histograms, sampled rows and sensitivities.

Batches of any size are cut into runs of the traced one, so the result depends on the images and
their order alone. Where the last run is not full, images from the beginning fill it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from hyq_tvm.errors import CalibrationError, UnsupportedModelError
from hyq_tvm.quantization.collector import Collector, Statistics
from hyq_tvm.quantization.graph import Graph
from hyq_tvm.quantization.sensitivity import GradientPass

__all__ = ["ExecutorFactory", "Statistics", "collect", "runs"]

Float = NDArray[np.float32]
ExecutorFactory = Callable[[Graph], Any]
Progress = Callable[[int], None]


def runs(batches: Iterable[Any], shape: tuple[int, ...]) -> Iterator[tuple[Float, int]]:
    """Arrays of exactly ``shape`` and how many of their images are new.

    ``batches``: arrays or tensors [n, *shape[1:]] of float32, any n. Raises ``CalibrationError``
    on another shape or dtype, NaN or infinity, or no data at all.
    """
    first: Float | None = None
    held = np.zeros((0, *shape[1:]), np.float32)
    for number, batch in enumerate(_each(batches)):
        held = np.concatenate([held, _checked(batch, shape, number)])
        while len(held) >= shape[0]:
            run, held = held[: shape[0]], held[shape[0] :]
            first = run if first is None else first
            yield run, shape[0]
    if first is None and not len(held):
        raise CalibrationError("the calibration data is empty: give at least one image")
    if len(held):
        source = held if first is None else first
        filling = np.resize(source, shape)[: shape[0] - len(held)]
        yield np.concatenate([held, filling]), len(held)


def _each(batches: Iterable[Any]) -> Iterator[Any]:
    try:
        return iter(batches)
    except TypeError as error:
        raise CalibrationError(
            f"calibration data must be an iterable of float32 batches, not {type(batches).__name__}"
        ) from error


def _checked(batch: Any, shape: tuple[int, ...], number: int) -> Float:
    array = np.asarray(batch.detach().cpu() if hasattr(batch, "detach") else batch)
    where = f"calibration batch {number}"
    if array.dtype != np.float32:
        raise CalibrationError(f"{where} has dtype {array.dtype}: convert it to float32")
    if array.shape[1:] != shape[1:] or array.ndim != len(shape):
        raise CalibrationError(
            f"{where} has shape {array.shape}, but the model reads (n, "
            f"{', '.join(map(str, shape[1:]))}) with any n"
        )
    if not np.isfinite(array).all():
        raise CalibrationError(f"{where} holds NaN or infinity")
    return array


def collect(
    graph: Graph,
    batches: Iterable[Any],
    samples: int,
    seed: int,
    executor_factory: ExecutorFactory,
    progress: Progress | None = None,
) -> Statistics:
    """Run the float model over the data once, forward and backward.

    samples: rows kept per tensor. progress: called with the number of new images after each run;
    without it a bar is drawn when standard error is a terminal.
    Raises ``CalibrationError`` (see ``runs``; also when an activation is not finite) and
    ``UnsupportedModelError`` for a model of several inputs.
    """
    if len(graph.inputs) != 1:
        raise UnsupportedModelError(
            f"calibration feeds one input, but the model has {[n.name for n in graph.inputs]}"
        )
    shape = graph.inputs[0].shape
    executor, collector = executor_factory(graph), Collector(graph, samples, seed)
    gradients = GradientPass(graph, seed)
    quiet = progress is not None or not sys.stderr.isatty()
    with tqdm(desc="calibrating", unit="image", disable=quiet) as bar:
        for number, (run, new) in enumerate(runs(batches, shape)):
            collector.begin(number, run)
            executor.run(run, tap=collector.see_tensor)
            collector.energy += gradients.run(number, run, collector.see_gradient)
            bar.update(new)
            if progress is not None:
                progress(new)
    return collector.finish()
