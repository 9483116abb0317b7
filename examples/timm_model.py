"""A timm model in integers: ``python examples/timm_model.py --model mobilevit_xxs --images DIR``.

Without ``--images`` it calibrates on noise, which shows the steps but no useful accuracy; without
``--checkpoint`` the weights are random.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

import hyq_tvm
from hyq_tvm.frontend import named_model
from hyq_tvm.images import ImageFolder

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", default="mobilevit_xxs")
parser.add_argument("--checkpoint", type=Path, help=".npz, .safetensors, .pt or .pth")
parser.add_argument("--images", type=Path, help="a folder of some 100 pictures, without labels")
parser.add_argument("--size", type=int, help="height and width, where not the model's own")
parser.add_argument("--output", type=Path, default=Path("timm_model.hyq"))
options = parser.parse_args()

model, prepare = named_model(options.model, options.checkpoint, options.size)
example = torch.zeros(1, 3, *prepare.size)
noise = np.random.default_rng(0).normal(size=(8, 3, *prepare.size)).astype(np.float32)
images = ImageFolder(options.images, prepare) if options.images else noise

module = hyq_tvm.from_torch(model, (example,))
quantized = hyq_tvm.quantize(module, images, preprocess=prepare)
executable = hyq_tvm.compile(quantized)
executable.save(options.output)

logits = executable(noise[:2])
print(f"{options.output}: integer-only {executable.metadata.integer_only}")
print(f"classes of two inputs: {logits.argmax(axis=1).tolist()}")
