"""Hybrids with random weights, whole: what quantizing and compiling them takes, and what it costs.

``python -m benchmarks.hybrids --model mobilevit_s,efficientformer_l1 --images 100``

Every model is calibrated with the default configuration on ``--images`` pictures, compiled, and run
on others: SQNR of the logits against torch, and all output integers against the NumPy golden model.
A model has a process of its own, so that peak memory is its own. A result is one JSON file in the
results' folder and is not measured again (``--force`` does); the table of all is ``hybrids.md``,
and ``--page`` puts it into a page of the documentation.

Weights are timm's own initialisation, pictures smooth random fields with noise on them, both from a
seed. Networks that were never trained differ in how much they amplify any error, so the table
has a yardstick: the SQNR of the float model whose weights alone are rounded to 8 bits.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import hyq_tvm
from benchmarks.pages import insert
from benchmarks.real_models import import_timm
from hyq_tvm.quantization import gemm
from hyq_tvm.quantization.fake_quant import weight_on_grid
from hyq_tvm.quantization.float_executor import FloatExecutor
from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.planner import calibrate, plan_from_statistics
from hyq_tvm.report.significance import sqnr_db
from relay_passes.extract_graph import extract_graph
from relay_passes.read_program import golden

RESULTS = Path(__file__).with_name("results")
PREFIX = "hybrids-"
SEED = 0
COARSE = 8
JUDGED = 8
COMPARED = 2

MODELS = {
    "mobilevit_xxs": 256,
    "mobilevit_xs": 256,
    "mobilevit_s": 256,
    "mobilevitv2_050": 256,
    "mobilevitv2_075": 256,
    "efficientformer_l1": 224,
    "efficientformer_l3": 224,
    "efficientformer_l7": 224,
    "vit_tiny_patch16_224": 224,
    "deit_tiny_patch16_224": 224,
    "swin_tiny_patch4_window7_224": 224,
    "levit_128s": 224,
    "efficientvit_m0": 224,
    "fastvit_t8": 256,
}
"""Names in timm, and the size of their square input."""


@dataclass(frozen=True)
class Result:
    """What one model took and gave. Times in seconds, memory in GiB."""

    model: str
    size: int
    calibration_images: int
    sqnr_db: float
    weights_alone_db: float
    same_class: float
    integers_equal: bool
    compared_images: int
    peak_memory: float
    seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def pictures(count: int, size: int, seed: int) -> NDArray[np.float32]:
    """[count, 3, size, size] of about zero mean and unit variance."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, COARSE, COARSE, generator=draw)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")
    noise = torch.randn(count, 3, size, size, generator=draw)
    return np.asarray((smooth + 0.3 * noise).numpy())


def random_model(name: str) -> Any:
    """The timm model in evaluation mode, the same weights every time."""
    torch.manual_seed(SEED)
    return import_timm().create_model(name, pretrained=False).eval()


def rounded_weights(graph: Graph) -> Graph:
    """The float graph with the weights of its layers on their 8-bit grids."""

    def rounded(node: Node) -> Node:
        if node.op not in ("conv2d", "dense"):
            return node
        weight = gemm.grouped_weight(node)
        columns = torch.ones(weight.shape[0], weight.shape[2])
        found = weight_on_grid(weight, columns, 8).reshape(node.params["weight"].shape)
        return node.with_(params={**node.params, "weight": found.numpy()})

    return Graph([rounded(node) for node in graph], graph.outputs)


def measure(name: str, images: int) -> Result:
    """Calibrate, compile, run and compare one model in this process."""
    size, seconds = MODELS[name], {}
    model = random_model(name)
    start = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal start
        now = time.perf_counter()
        seconds[stage], start = round(now - start, 1), now

    module = hyq_tvm.from_torch(model, (torch.from_numpy(pictures(1, size, SEED)),))
    graph = extract_graph(module)
    lap("import")
    config = hyq_tvm.QuantConfig()
    statistics = calibrate(graph, calibration_pictures(images, size), config)
    lap("calibrate")
    plan = plan_from_statistics(graph, statistics, config)
    lap("plan")
    quantized = hyq_tvm.quantize(module, plan=plan)
    lap("quantize")
    executable = hyq_tvm.compile(quantized)
    lap("compile")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    test = pictures(JUDGED, size, SEED + 2)
    with torch.inference_mode():
        exact = model(torch.from_numpy(test)).numpy()
    found = np.asarray(executable(test))
    coarse = FloatExecutor(rounded_weights(graph))
    weights_alone = np.concatenate([coarse.run(image[None])[0].numpy() for image in test])
    reference = golden(quantized)
    expected = np.concatenate([reference(test[i : i + 1])[0] for i in range(COMPARED)])
    return Result(
        model=name,
        size=size,
        calibration_images=images,
        sqnr_db=sqnr_db(exact, found),
        weights_alone_db=sqnr_db(exact, weights_alone),
        same_class=float((exact.argmax(1) == found.argmax(1)).mean()),
        integers_equal=bool(np.array_equal(expected, found[:COMPARED])),
        compared_images=COMPARED,
        peak_memory=round(peak, 2),
        seconds=seconds,
        versions={n: importlib.metadata.version(n) for n in ("apache-tvm", "torch", "timm")},
    )


def calibration_pictures(images: int, size: int) -> Iterator[NDArray[np.float32]]:
    """Batches [1, 3, size, size] of pictures that no other seed here draws."""
    for number in range(images):
        yield pictures(1, size, 1000 + number)


def markdown(results: list[Result]) -> str:
    """A table of all results."""
    lines = [
        "# Hybrids with random weights, default configuration",
        "",
        "| model | input | calibration images | calibrate s | plan s | compile s | peak GiB "
        "| SQNR dB | weights alone dB | same class | integers = golden |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in sorted(results, key=lambda r: list(MODELS).index(r.model)):
        s = r.seconds
        equal = f"yes, {r.compared_images} images" if r.integers_equal else "NO"
        lines.append(
            f"| {r.model} | {r.size} | {r.calibration_images} | {s['calibrate']:.0f} "
            f"| {s['plan']:.0f} | {s['quantize'] + s['compile']:.0f} | {r.peak_memory:.2f} "
            f"| {r.sqnr_db:.1f} | {r.weights_alone_db:.1f} | {r.same_class:.0%} | {equal} |"
        )
    return "\n".join(lines) + "\n"


def load_results(folder: Path) -> list[Result]:
    """All results of a folder."""
    files = sorted(folder.glob(f"{PREFIX}*.json"))
    return [Result(**json.loads(file.read_text(encoding="utf-8"))) for file in files]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; an unknown model ends the program with a message."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=",".join(MODELS), help="comma-separated; all")
    parser.add_argument("--images", type=int, default=100, help="for calibration; 100")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--page", type=Path, help="write the table into it: docs/accuracy.md")
    parser.add_argument("--force", action="store_true", help="measure again what is there")
    options = parser.parse_args(arguments)
    options.model = options.model.split(",")
    unknown = sorted(set(options.model) - set(MODELS))
    if unknown:
        parser.error(f"unknown models {unknown}; choose of {list(MODELS)}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing, write the table; 0 if all integers are equal."""
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.model:
        file = options.out / f"{PREFIX}{name}.json"
        if file.exists() and not options.force:
            continue
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            result = pool.apply(measure, (name, options.images))
        file.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
        print(markdown([result]).splitlines()[-1], flush=True)
    results = load_results(options.out)
    (options.out / "hybrids.md").write_text(markdown(results), encoding="utf-8")
    if options.page:
        insert(options.page, "hybrids", markdown(results))
    print(markdown(results))
    return 0 if all(result.integers_equal for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
