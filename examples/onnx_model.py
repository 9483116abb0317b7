"""An ONNX model in integers: ``python examples/onnx_model.py model.onnx --shape x=1,3,48,320``.

``--inputs`` is a .npy file of float32 inputs [n, ...] to calibrate on; without it noise serves.
"""

import argparse
from pathlib import Path

import numpy as np

import hyq_tvm

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", type=Path)
parser.add_argument("--shape", required=True, help="NAME=N,C,H,W of the only input")
parser.add_argument("--inputs", type=Path)
parser.add_argument("--target-drop", type=float, help="points of top-1 that may be lost")
parser.add_argument("--output", type=Path, default=Path("onnx_model.hyq"))
options = parser.parse_args()

name, _, numbers = options.shape.partition("=")
shape = tuple(int(number) for number in numbers.split(","))
if options.inputs:
    inputs = np.load(options.inputs)
else:
    inputs = np.random.default_rng(0).normal(size=(16, *shape[1:])).astype(np.float32)

module = hyq_tvm.from_onnx(str(options.model), input_shapes={name: shape})
quantized = hyq_tvm.quantize(module, inputs, target_drop=options.target_drop)
executable = hyq_tvm.compile(quantized)
executable.save(options.output)

for entry in executable.plan.notes.get("target_drop", {}).get("raised", []):
    print(f"raised {entry['name']}: {entry['change']}")
print(f"{options.output}: outputs {[list(spec.shape) for spec in executable.output_spec]}")
