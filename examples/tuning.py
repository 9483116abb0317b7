"""Tune the embedded digit classifier: ``python examples/tuning.py --minutes 2``.

A second run goes on where the first one stopped; records of several machines can be merged.
"""

import argparse
import time
from pathlib import Path

import torch

import hyq_tvm
from hyq_tvm.demo.data import load_split, to_input
from hyq_tvm.demo.model import INPUT_SHAPE, load_model

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--minutes", type=float, default=2)
parser.add_argument("--trials", type=int, help="stop after so many measurements")
parser.add_argument("--records", type=Path, default=Path("records"))
options = parser.parse_args()

module = hyq_tvm.from_torch(load_model(), (torch.zeros(INPUT_SHAPE),))
quantized = hyq_tvm.quantize(module, to_input(load_split("calib").images))
hyq_tvm.tune(quantized, records=options.records, minutes=options.minutes, trials=options.trials)

image = to_input(load_split("test").images[:1])
for title, records in (("rules alone", None), ("tuned", options.records)):
    executable = hyq_tvm.compile(quantized, records=records)
    times = []
    for _ in range(100):
        start = time.perf_counter()
        executable(image)
        times.append(time.perf_counter() - start)
    print(f"{title}: {1e3 * min(times):.3f} ms an image")
