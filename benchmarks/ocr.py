"""PP-OCRv4's text recogniser on rendered lines: integers against float and against other tools.

``python -m benchmarks.ocr``                      ours and every peer that is installed
``python -m benchmarks.ocr --only ours --widths 192,256,320``

Every runtime reads the same 500 lines and is calibrated on the same 64 others. Judged is the greedy
CTC text: exact match and characters, spaces not counted. With several widths a line goes to the
narrowest program that holds it, ours and float alike. Results go to ``ocr.json`` and ``ocr.md`` in
the folder ``--out``, and into the page ``--page``; runtimes that are there are not measured again
(``--force`` does). Float reads a line in a narrower picture a little differently too: it has a row
for every choice of widths, and a result is compared with the float one of its own widths.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import hyq_tvm
from benchmarks.ocr_peers import PEERS
from benchmarks.ocr_results import Result, load_results, markdown, write
from benchmarks.pages import insert
from benchmarks.real_models import SHARED, UnavailableError
from hyq_tvm.demo import text_lines
from hyq_tvm.report.significance import mcnemar, paired_difference, wilson

RESULTS = Path(__file__).with_name("results")
DATA = SHARED / "data" / "ocr_lines.npz"
FLOAT = "float32"

Floats = NDArray[np.float32]
Run = Callable[[Floats], Floats]


@dataclass(frozen=True, eq=False)
class Lines:
    """Pictures uint8 BGR [n,48,320,3], their widths and texts."""

    pictures: NDArray[np.uint8]
    widths: NDArray[np.int64]
    texts: list[str]

    def take(self, rows: NDArray[np.int64]) -> Lines:
        """Some of the lines."""
        return Lines(self.pictures[rows], self.widths[rows], [self.texts[row] for row in rows])

    def inputs(self, width: int) -> Floats:
        """As the model reads them, float32 [n,3,48,width]."""
        return text_lines.normalised(self.pictures, self.widths, width)


def load_lines(split: str) -> Lines:
    """``calib`` or ``test``; raises ``UnavailableError`` without the data."""
    if not DATA.is_file():
        raise UnavailableError(f"{DATA} is missing")
    with np.load(DATA) as arrays:
        pictures, widths, texts = (
            arrays[f"{split}_{part}"] for part in ("images", "widths", "texts")
        )
    return Lines(pictures, widths, [str(text) for text in texts])


def by_width(lines: Lines, widths: tuple[int, ...]) -> dict[int, NDArray[np.int64]]:
    """Width -> rows of the lines that it is the narrowest for; every line fits the widest."""
    chosen = np.searchsorted(np.array(widths), lines.widths)
    return {width: np.flatnonzero(chosen == i) for i, width in enumerate(widths)}


def read(
    runs: Mapping[int, Run], lines: Lines, alphabet: text_lines.Alphabet, title: str
) -> tuple[list[str], float]:
    """The text of every line, and milliseconds a line."""
    texts, spent = [""] * len(lines.texts), 0.0
    with tqdm(total=len(texts), desc=title, unit="line", leave=False, disable=None) as bar:
        for width, rows in by_width(lines, tuple(sorted(runs))).items():
            for row in rows:
                x = lines.take(np.array([row])).inputs(width)
                start = time.perf_counter()
                scores = runs[width](x)
                spent += time.perf_counter() - start
                texts[row] = alphabet.text(scores[0])
                bar.update()
    return texts, 1e3 * spent / len(texts)


def judge(
    name: str,
    runs: Mapping[int, Run],
    found: tuple[list[str], float],
    exact: list[str],
    lines: Lines,
    **more: object,
) -> Result:
    """A runtime's texts against the true ones, and against the float model's."""
    texts, milliseconds = found
    right = text_lines.exact_matches(texts, lines.texts)
    before = text_lines.exact_matches(exact, lines.texts)
    change, low, high = paired_difference(before, right)
    return Result(
        name=name,
        widths=tuple(sorted(runs)),
        lines=len(texts),
        exact=float(right.mean()),
        exact_interval=wilson(int(right.sum()), len(texts)),
        characters=text_lines.character_accuracy(texts, lines.texts),
        change=change,
        change_interval=(low, high),
        mcnemar_p=mcnemar(before, right),
        same_text=float(text_lines.exact_matches(texts, exact).mean()),
        milliseconds=milliseconds,
        **more,  # type: ignore[arg-type]
    )


def ours(
    file: Path, calibration: Lines, width: int, config: hyq_tvm.QuantConfig
) -> tuple[hyq_tvm.Executable, dict[str, float]]:
    """Our program for lines up to ``width`` columns, and the seconds its making took."""
    seconds, start = {}, time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal start
        now = time.perf_counter()
        seconds[f"{stage} {width}"], start = round(now - start, 1), now

    module = hyq_tvm.from_onnx(
        str(file), input_shapes={text_lines.INPUT: (1, 3, text_lines.HEIGHT, width)}
    )
    lap("import")
    fitting = calibration.take(np.flatnonzero(calibration.widths <= width))
    quantized = hyq_tvm.quantize(module, fitting.inputs(width), config, progress=False)
    lap("quantize")
    executable = hyq_tvm.compile(quantized)
    lap("compile")
    return executable, seconds


def float_runs(file: Path, widths: tuple[int, ...]) -> dict[int, Run]:
    """The float model in PyTorch, from the graph that quantization starts from."""
    from hyq_tvm.quantization.float_executor import FloatExecutor
    from relay_passes.extract_graph import extract_graph

    def run(width: int) -> Run:
        shape = (1, 3, text_lines.HEIGHT, width)
        module = hyq_tvm.from_onnx(str(file), input_shapes={text_lines.INPUT: shape})
        executor = FloatExecutor(extract_graph(module))
        return lambda x: np.asarray(executor.run(x)[0].numpy())

    return {width: run(width) for width in widths}


def our_result(options: argparse.Namespace, name: str, test: Lines, exact: list[str]) -> Result:
    """Our own program on all lines."""
    file = text_lines.recogniser_file()
    config = hyq_tvm.QuantConfig(**json.loads(options.config))
    calibration, made, seconds = load_lines("calib"), {}, {}
    for width in options.widths:
        made[width], spent = ours(file, calibration, width, config)
        seconds.update(spent)
    runs: dict[int, Run] = {w: lambda x, e=e: np.asarray(e(x)) for w, e in made.items()}
    found = read(runs, test, text_lines.Alphabet.of_model(file), name)
    integer_only = all(e.metadata.integer_only for e in made.values())
    return judge(name, runs, found, exact, test, integer_only=integer_only, seconds=seconds,
                 versions=_versions("apache-tvm", "torch"))  # fmt: skip


def peer_result(options: argparse.Namespace, name: str, test: Lines, exact: list[str]) -> Result:
    """Another tool on all lines, at the widest width."""
    file, width = text_lines.recogniser_file(), options.widths[-1]
    start = time.perf_counter()
    run = PEERS[name](file, load_lines("calib").inputs(width), options.cache)
    seconds = {"quantize": round(time.perf_counter() - start, 1)}
    found = read({width: run}, test, text_lines.Alphabet.of_model(file), name)
    versions = _versions("onnxruntime", "openvino", "nncf")
    return judge(name, {width: run}, found, exact, test, seconds=seconds, versions=versions)


def float_result(options: argparse.Namespace, test: Lines) -> tuple[Result, list[str]]:
    """The float model, which all others are compared with; its texts as well."""
    file = text_lines.recogniser_file()
    runs = float_runs(file, options.widths)
    found = read(runs, test, text_lines.Alphabet.of_model(file), FLOAT)
    name = float_name(options.widths)
    return judge(name, runs, found, found[0], test, versions=_versions("torch")), found[0]


def float_name(widths: tuple[int, ...]) -> str:
    """The name of the float result at some widths; the widest alone is what peers read."""
    return FLOAT if len(widths) == 1 else f"{FLOAT}, widths {'/'.join(map(str, widths))}"


def our_name(options: argparse.Namespace) -> str:
    """What tells our results apart."""
    choices = ", ".join(f"{k}={v}" for k, v in json.loads(options.config).items())
    return f"hyq_tvm, {choices or 'defaults'}, widths {'/'.join(map(str, options.widths))}"


def _versions(*names: str) -> dict[str, str]:
    known = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
    return {name: known[name] for name in names if name in known}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help='a part of the names; "ours" for hyq_tvm alone')
    parser.add_argument("--widths", default="320", help="compiled widths, such as 192,256,320")
    parser.add_argument("--config", default="{}", help="JSON with fields of QuantConfig")
    parser.add_argument("--lines", type=int, help="only the first so many of the test")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--cache", type=Path, default=Path(".cache/ocr"))
    parser.add_argument("--page", type=Path, help="write the table into it: docs/accuracy.md")
    parser.add_argument("--force", action="store_true", help="measure again what is there")
    options = parser.parse_args(arguments)
    options.widths = tuple(sorted({int(width) for width in options.widths.split(",")}))
    if options.widths[-1] != text_lines.WIDTH or any(width % 8 for width in options.widths):
        parser.error(f"--widths: multiples of 8, the widest is {text_lines.WIDTH}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing, write the tables; 0 when our program is integer-only."""
    options = parse(arguments)
    test = load_lines("test")
    test = test.take(np.arange(len(test.texts))[: options.lines])
    results = {} if options.force else load_results(options.out / "ocr.json")
    float_row, exact = float_result(options, test)
    results[float_row.name] = float_row
    name, wanted = our_name(options), options.only.removeprefix("ours")
    if name not in results and wanted in name:
        results[name] = our_result(options, name, test, exact)
        write(options.out, results)
    peers = [n for n in PEERS if n not in results and options.only in n and options.only != "ours"]
    for peer in peers:
        try:
            results[peer] = peer_result(options, peer, test, exact)
        except UnavailableError as error:
            print(f"{peer}: skipped, {error}", file=sys.stderr)
        write(options.out, results)
    if options.page:
        insert(options.page, "ocr", markdown(list(results.values())))
    print(markdown(list(results.values())))
    return 0 if name not in results or results[name].integer_only else 1


if __name__ == "__main__":
    sys.exit(main())
