"""The model at a glance: every operator as a small block, coloured by kind, in order."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from hyq_tvm.report.data import LayerRow

KINDS: tuple[tuple[str, frozenset[str]], ...] = (
    ("convolution", frozenset({"conv2d"})),
    ("linear", frozenset({"dense"})),
    ("attention", frozenset({"attention", "matmul", "softmax"})),
    ("normalisation", frozenset({"layer_norm", "group_norm"})),
    ("elementwise", frozenset({"add", "multiply", "identity"})),
    ("other", frozenset()),
)
"""Kind -> its operators; what is in none is of the last. The n-th kind has the n-th colour."""

COLUMNS, STEP, SIDE = 32, 15, 12


def kind_of(op: str) -> int:
    """The number of an operator's kind."""
    return next((i for i, (_, ops) in enumerate(KINDS) if op in ops), len(KINDS) - 1)


def overview(layers: Sequence[LayerRow]) -> str:
    """An SVG with one block a layer, left to right and down, named when it is pointed at."""
    rows = -(-len(layers) // COLUMNS)
    blocks = []
    for i, layer in enumerate(layers):
        x, y = i % COLUMNS * STEP, i // COLUMNS * STEP
        title = f"#{i + 1} {layer.name}: {layer.op} {'×'.join(map(str, layer.shape))}"
        blocks.append(
            f'<rect x="{x}" y="{y}" width="{SIDE}" height="{SIDE}" rx="2" '
            f'style="fill:var(--series-{kind_of(layer.op) + 1})"><title>{escape(title)}</title>'
            "</rect>"
        )
    size = f"0 0 {COLUMNS * STEP} {max(rows, 1) * STEP}"
    return f'<svg viewBox="{size}" role="img" aria-label="All layers">{"".join(blocks)}</svg>'


def legend(layers: Sequence[LayerRow]) -> list[tuple[int, str, int]]:
    """(number of the colour, kind, how many layers) of the kinds that occur."""
    counts = [0] * len(KINDS)
    for layer in layers:
        counts[kind_of(layer.op)] += 1
    return [(i + 1, KINDS[i][0], count) for i, count in enumerate(counts) if count]
