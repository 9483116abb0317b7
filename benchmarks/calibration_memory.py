"""Peak memory of calibrating on many images: statistics are kept, images are not.

``python -m benchmarks.calibration_memory --model mobilevit_xxs --images 1000``

The model has random weights, the images are drawn one by one, and calibration is all that this
process does, so that its peak is calibration's. The peak is noted after every hundred images too:
a peak that no longer moves belongs to any number of them. The result is one JSON file in the
results' folder; the exit status is 0 below ``--most`` GiB.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import hyq_tvm
from benchmarks.hybrids import MODELS, SEED, pictures, random_model
from hyq_tvm.quantization.planner import calibrate
from relay_passes.extract_graph import extract_graph

RESULTS = Path(__file__).with_name("results")
EVERY = 100


def peak_gib() -> float:
    """The most memory that this process has held so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)


def watched(
    images: int, size: int, batch: int, peaks: dict[int, float]
) -> Iterator[NDArray[np.float32]]:
    """Batches of float32 [n, 3, size, size]; notes the peak after every ``EVERY`` images."""
    for start in range(0, images, batch):
        if start % EVERY == 0 and start:
            peaks[start] = peak_gib()
        count = min(batch, images - start)
        yield np.concatenate([pictures(1, size, 1000 + start + i) for i in range(count)])


def measure(name: str, images: int, batch: int) -> dict[str, Any]:
    """Calibrate in this process: peaks in GiB by number of images, and seconds."""
    size, peaks = MODELS[name], {}
    example = torch.from_numpy(pictures(1, size, SEED))
    graph = extract_graph(hyq_tvm.from_torch(random_model(name), (example,)))
    before, start = peak_gib(), time.perf_counter()
    calibrate(graph, watched(images, size, batch, peaks), hyq_tvm.QuantConfig())
    peaks[images] = peak_gib()
    return {
        "model": name,
        "size": size,
        "images": images,
        "batch": batch,
        "before_gib": before,
        "peak_gib": peaks,
        "seconds": round(time.perf_counter() - start, 1),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write one model's peaks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mobilevit_xxs", choices=MODELS)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=1, help="images that come at once")
    parser.add_argument("--most", type=float, default=4.0, help="GiB; more is a failure")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args(arguments)
    found = measure(options.model, options.images, options.batch)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"calibration_memory-{options.model}.json"
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0 if found["peak_gib"][options.images] < options.most else 1


if __name__ == "__main__":
    sys.exit(main())
