"""Latency of an INT8 model against batch, resolution and threads.

    python -m benchmarks.scaling --model mobilevit_xxs --batch 1,8,32 --size 128,256,512

Batches are measured at the model's own resolution and resolutions with one image. ``gmac`` is the
work of a call in 10^9 products and ``gmac/s`` the speed: where latency is linear in work, it stays.
Every point is a program of its own and takes a minute or two to compile; ``--cache`` keeps them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import latency_report
from benchmarks.kernel_profile import call_times, library_of, products
from benchmarks.latency_models import MODELS, LatencyModel, integer_program
from benchmarks.latency_report import Row
from benchmarks.peers import FOLDER, check_models, numbers
from benchmarks.timing import in_turns, wall
from hyq_tvm.threads import set_num_threads


def resized(model: LatencyModel, size: int) -> LatencyModel:
    """The model on images of another resolution; the same one at its own."""
    if model.sample[-1] == size:
        return model
    return replace(model, name=f"{model.name}_{size}", sample=(model.sample[0], size, size))


def points(
    model: LatencyModel, batches: Sequence[int], sizes: Sequence[int]
) -> dict[str, tuple[LatencyModel, int]]:
    """What is measured, by name: a model and a batch."""
    own = model.sample[-1]
    wanted = [(batch, own) for batch in batches] + [(1, size) for size in sizes]
    return {
        f"batch {batch}, {size}x{size}": (resized(model, size), batch)
        for batch, size in dict.fromkeys(wanted)
    }


def measure(
    found: dict[str, tuple[LatencyModel, int]], threads: Sequence[int], turns: int, cache: Path
) -> list[Row]:
    """One row a point and number of threads."""
    rows = []
    for name, (model, batch) in found.items():
        program, images = integer_program(model, batch, cache), model.images(batch)
        library = library_of(cache, model, batch)
        work = sum(products(called) for _, called in call_times(library, images, 1)) / 1e9
        for count in sorted(threads, reverse=True):
            set_num_threads(count)
            timing = in_turns({name: wall(partial(program, images))}, turns)[name]
            facts = {"gmac": work, "gmac/s": work / timing.minimum}
            rows.append(Row(f"{count} thread(s)", name, timing, facts))
    return rows


def draw(path: Path, title: str, rows: Sequence[Row]) -> None:
    """Latency over work, one line a number of threads, beside the line of the first point."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 4.5))
    for group in latency_report.groups(rows):
        own = sorted((row for row in rows if row.group == group), key=lambda r: r.facts["gmac"])
        work = [row.facts["gmac"] for row in own]
        axis.loglog(work, [row.timing.minimum * 1e3 for row in own], "o-", label=group)
        first = own[0].timing.minimum * 1e3 / work[0]
        axis.loglog(work, [first * w for w in work], ":", color="0.6")
    axis.set_xlabel("10^9 products")
    axis.set_ylabel("ms")
    axis.set_title(title)
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main(arguments: list[str] | None = None) -> None:
    """Writes ``scaling-<model>`` .json, .md and .png."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mobilevit_xxs", help=f"of {[*MODELS]}")
    parser.add_argument("--batch", type=numbers, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--size", type=numbers, default=[128, 256, 384, 512])
    parser.add_argument("--threads", type=numbers, default=[1])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the results")
    parser.add_argument("--cache", type=Path, default=Path(".cache/latency"))
    options = parser.parse_args(arguments)
    check_models(parser, [options.model])
    # TVM's pool never grows: it starts with the most threads.
    set_num_threads(max(options.threads))
    found = points(MODELS[options.model], options.batch, options.size)
    rows = measure(found, options.threads, options.turns, options.cache)
    name, title = f"scaling-{options.model}", f"{options.model}: latency against work"
    base = next(iter(found))
    print(latency_report.write(options.out, name, title, rows, base))
    draw(options.out / f"{name}.png", title, rows)


if __name__ == "__main__":
    main()
