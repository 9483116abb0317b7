"""The demonstration's figures as tables, and its report."""

from __future__ import annotations

import os
import platform
from datetime import date
from pathlib import Path

import numpy as np

import hyq_tvm
from hyq_tvm.artifact import package_versions
from hyq_tvm.demo.data import load_split, to_input
from hyq_tvm.demo.pipeline import Outcome
from hyq_tvm.report import Card, Report, Table, write_report
from hyq_tvm.report.inspection import channel_ranges, integer_sqnr, layer_rows
from hyq_tvm.report.softmax_curves import softmax_curves
from relay_passes.extract_graph import extract_graph

TITLES = {"test": "clean", "hard": "turned, covered, noisy"}
INSPECTED_IMAGES = 8


def percent(share: float) -> str:
    """A share of 1 as per cent with one decimal."""
    return f"{100 * share:.1f} %"


def kilobytes(size: int) -> str:
    """Bytes as kB."""
    return f"{size / 1000:.0f} kB"


def accuracy_table(outcome: Outcome) -> Table:
    """Top-1 of both models on every split."""
    return Table(
        "Accuracy",
        ("test images", "number", "float top-1", "integer top-1", "same answer"),
        [
            (
                TITLES[score.name],
                f"{len(score.split):,}",
                percent(score.float_top1),
                percent(score.integer_top1),
                percent(score.agreement),
            )
            for score in outcome.scores
        ],
    )


def cost_table(outcome: Outcome) -> Table:
    """Latency and size of both models."""
    exact, integer = outcome.float_latency, outcome.integer_latency
    return Table(
        "Cost of one image",
        ("model", "median ms", "least ms", "constants"),
        [
            (
                "float32, PyTorch eager",
                f"{exact.median:.2f}",
                f"{exact.minimum:.2f}",
                kilobytes(outcome.float_bytes),
            ),
            (
                "integers, compiled",
                f"{integer.median:.2f}",
                f"{integer.minimum:.2f}",
                kilobytes(outcome.integer_bytes),
            ),
        ],
        note="One image at a time, one thread, both models in turn. PyTorch spends most of its "
        "time on a model this small between operators: larger models gain less.",
    )


def write(path: str | os.PathLike[str], outcome: Outcome) -> Path:
    """Inspect every layer on a few images and write the report; returns its path."""
    return write_report(path, build_report(outcome))


def build_report(outcome: Outcome) -> Report:
    """The summary, every layer on a few images, and the figures."""
    exact, integer = outcome.float_latency, outcome.integer_latency
    images = sum(len(score.split) for score in outcome.scores)
    same = sum(int(np.sum(score.exact == score.integer)) for score in outcome.scores)
    hard = next(score for score in outcome.scores if score.name == "hard")
    clean = next(score for score in outcome.scores if score.name == "test")
    cards = (
        Card(
            "Top-1, clean images", percent(clean.integer_top1), f"float {percent(clean.float_top1)}"
        ),
        Card("Top-1, hard images", percent(hard.integer_top1), f"float {percent(hard.float_top1)}"),
        Card("Same answer as float", percent(same / images), f"{images:,} images"),
        Card("Median latency", f"{integer.median:.2f} ms", f"float {exact.median:.2f} ms"),
        Card(
            "Constants", kilobytes(outcome.integer_bytes), f"float {kilobytes(outcome.float_bytes)}"
        ),
        Card("Compile time", f"{outcome.seconds['compile']:.1f} s", "quantized module to code"),
    )
    plan = outcome.executable.plan
    config = plan.config
    graph = extract_graph(outcome.imported)
    inspected = [image[None] for image in to_input(load_split("hard").images[:INSPECTED_IMAGES])]
    sqnr = integer_sqnr(outcome.program, graph, plan, inspected)
    return Report(
        title="A digit classifier in integers only",
        lead=f"A MobileViT-like network with {outcome.parameters:,} parameters: every operation "
        "between the quantized input and the dequantized logits is integer arithmetic.",
        cards=cards,
        results=(accuracy_table(outcome), cost_table(outcome)),
        layers=layer_rows(outcome.program, plan, sqnr),
        ranges=channel_ranges(graph, plan, inspected),
        softmax=softmax_curves(),
        facts=(
            ("Date", date.today().isoformat()),
            ("Processor", f"{processor_name()}, {os.cpu_count()} cores"),
            ("Python", platform.python_version()),
            ("hyq-tvm", hyq_tvm.__version__),
            *package_versions().items(),
            ("Scaling", str(config.scaling)),
            ("Softmax", config.softmax),
            ("Observer", config.observer),
            ("Calibrated in", f"{outcome.seconds['quantize']:.1f} s"),
            ("Checked", f"{outcome.golden_integers} output integers equal to the NumPy model's"),
            ("Images", "UCI Optical Recognition of Handwritten Digits, CC BY 4.0"),
        ),
    )


def processor_name() -> str:
    """The processor as Linux names it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
