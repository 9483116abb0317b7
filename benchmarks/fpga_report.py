"""Tables and plots of ``benchmarks.fpga_resources``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.fpga_synthesis import Row
from hyq_tvm.vta.cosim.softmax_unit import KINDS, LANES

BEGIN, END = "<!-- tables -->", "<!-- end of tables -->"
RESOURCES = ("lut", "ff", "dsp", "bram")
ERRORS = ("max_error", "mean_error", "rms_error", "output_error")

PARTS = {
    "XC7Z020": (53_200, 106_400, 220, 280),
    "XC7K160T": (101_400, 202_800, 600, 650),
    "XC7K325T": (203_800, 407_600, 840, 890),
    "XC7K410T": (254_200, 508_400, 1_540, 1_590),
    "XC7VX485T": (303_600, 607_200, 2_800, 2_060),
    "XC7VX690T": (433_200, 866_400, 3_600, 2_940),
    "XC7V2000T": (1_221_600, 2_443_200, 2_160, 2_584),
}
"""LUT, FF, DSP48E1 and 18-kbit BRAM of 7-series parts, from their vendor's selection guide."""


def tables(rows: Mapping[str, Row]) -> str:
    """All rows as Markdown; ratios are poly2's over the row's, everything else equal."""
    sections = (
        ("Exponential alone, scale fixed", _resources(rows, "exp/")),
        ("Whole unit, scale at run time", _resources(rows, "unit/")),
        ("Placed and routed, ECP5-25k", _clocks(rows)),
        ("Errors of probabilities", _errors(rows)),
        ("Whole core", _cores(rows)),
    )
    return "\n".join(f"### {title}\n\n{text}\n" for title, text in sections if text)


def document(text: str, rows: Mapping[str, Row]) -> str:
    """A page with the tables between its marks replaced; raises ``ValueError`` without marks."""
    head, found, rest = text.partition(BEGIN)
    _, closed, tail = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"the page has no {BEGIN} ... {END}")
    return f"{head}{BEGIN}\n{tables(rows)}{END}{tail}"


def _markdown(heading: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    body = [f"| {' | '.join(str(cell) for cell in line)} |" for line in lines]
    return (
        "\n".join([f"| {' | '.join(heading)} |", "|---" * len(heading) + "|", *body])
        if body
        else ""
    )


def _resources(rows: Mapping[str, Row], prefix: str) -> str:
    """LUTs and flip-flops, how many times fewer than poly2's, DSP and BRAM."""
    lines = []
    for name, row in rows.items():
        if not name.startswith(prefix):
            continue
        kinds = "|".join(sorted(KINDS, key=len, reverse=True))
        base = rows.get(re.sub(rf"/({kinds})/", "/poly2/", name), {})
        ratios = [f"{base[k] / max(row[k], 1):.2f}" if base else "-" for k in ("lut", "ff")]
        lines.append([name.removeprefix(prefix), *(row[key] for key in RESOURCES), *ratios])
    return _markdown(("row", *RESOURCES, "lut x", "ff x"), lines)


def _clocks(rows: Mapping[str, Row]) -> str:
    keys = ("mhz", "comb", "ff", "dsp", "bram")
    found = [(n, r) for n, r in rows.items() if n.startswith("clock/")]
    lines = [[name.removeprefix("clock/"), *(row[key] for key in keys)] for name, row in found]
    return _markdown(("unit", "MHz", *keys[1:]), lines)


def _errors(rows: Mapping[str, Row]) -> str:
    found = [(n, r) for n, r in rows.items() if n.startswith("accuracy/")]
    lines = [[n.removeprefix("accuracy/"), *(f"{r[key]:.2e}" for key in ERRORS)] for n, r in found]
    return _markdown(("kind/result", *(e.replace("_", " ") for e in ERRORS)), lines)


def fitting(row: Row) -> list[str]:
    """The parts with enough of everything."""
    need = [row[key] for key in RESOURCES]
    return [
        part
        for part, sizes in PARTS.items()
        if all(used <= size for used, size in zip(need, sizes, strict=True))
    ]


def _cores(rows: Mapping[str, Row]) -> str:
    found = [(n, r) for n, r in rows.items() if n.startswith("core/")]
    lines = [
        [n.removeprefix("core/"), *(r[key] for key in RESOURCES), ", ".join(fitting(r)) or "none"]
        for n, r in found
    ]
    return _markdown(("core", *RESOURCES, "7-series parts that it fits"), lines)


def plot(rows: Mapping[str, Row], path: Path) -> None:
    """LUTs and flip-flops of whole units without DSP blocks, N = 256, uint8."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "hyq"
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5))
    for axis, key in zip(axes, ("lut", "ff"), strict=True):
        for index, kind in enumerate(KINDS):
            found = [(n, rows.get(f"unit/{kind}/uint8/lanes={n}/n=256/nodsp")) for n in LANES]
            bars = [(position, row[key]) for position, (_, row) in enumerate(found) if row]
            axis.bar([p + 0.2 * index for p, _ in bars], [v for _, v in bars], 0.2, label=kind)
        axis.set_xticks([p + 0.3 for p in range(len(LANES))], [f"{n} lanes" for n in LANES])
        axis.set_ylabel(key.upper())
        if axis.patches:
            axis.set_yscale("log")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
