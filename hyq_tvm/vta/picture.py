"""A program's schedule as a picture: one lane a unit, one colour an instruction, layers on top."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from html import escape

from hyq_tvm.vta.isa.table import UNITS
from hyq_tvm.vta.timing import Event, Timing

COLOURS = {
    "LOAD": "#4e79a7",
    "STORE": "#f28e2b",
    "GEMM": "#59a14f",
    "VECTOR": "#b07aa1",
    "SOFTMAX": "#e15759",
}
MOST_BOXES = 3000
"""With more instructions than this, columns of the picture show shares of their cycles."""

_WIDTH, _LANE, _GAP, _LEFT, _TOP, _LAYERS = 1400, 40, 8, 80, 30, 26
_COLUMN = 2
_LETTER = 6.5


def timeline(
    timing: Timing,
    first: int = 0,
    last: int | None = None,
    layers: Mapping[int, str] | None = None,
) -> str:
    """An SVG picture of cycles ``first .. last``.

    layers: first instruction -> name, as a program has them. Few instructions are boxes of their
    own, whose titles name them; of many, each column of a lane shows how much of its time went to
    which instruction, and is white where the unit waited.
    """
    end = timing.cycles if last is None else min(last, timing.cycles)
    shown = [e for e in timing.events if e.name in COLOURS and e.end > first and e.start < end]
    scale = _Scale(first, end)
    height = _TOP + _LAYERS + (_LANE + _GAP) * len(UNITS) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f"<title>cycles {first} to {end}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        *_legend(),
        *(_layer_boxes(timing, layers, scale) if layers else ()),
        *(f'<text x="8" y="{_lane(unit) + 24}">{unit}</text>' for unit in UNITS),
        *(_boxes(shown, scale) if len(shown) <= MOST_BOXES else _columns(shown, scale)),
        *_axis(timing, scale, height),
    ]
    return "\n".join((*parts, "</svg>", ""))


class _Scale:
    """Cycles to pixels."""

    def __init__(self, first: int, end: int) -> None:
        self.first, self.end = first, end
        self._factor = (_WIDTH - _LEFT - 20) / max(end - first, 1)

    def x(self, cycle: float) -> float:
        return _LEFT + (min(max(cycle, self.first), self.end) - self.first) * self._factor

    @property
    def cycles_of_a_column(self) -> float:
        return _COLUMN / self._factor


def _lane(unit: str) -> int:
    return _TOP + _LAYERS + UNITS.index(unit) * (_LANE + _GAP)


def _legend() -> list[str]:
    parts = []
    for position, (name, colour) in enumerate(COLOURS.items()):
        x = _LEFT + 110 * position
        parts.append(f'<rect x="{x}" y="8" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 16}" y="18">{name}</text>')
    return parts


def _boxes(events: Sequence[Event], scale: _Scale) -> list[str]:
    parts = []
    for event in events:
        x, right = scale.x(event.start), scale.x(event.end)
        parts.append(
            f'<rect x="{x:.2f}" y="{_lane(event.unit)}" width="{max(right - x, 0.2):.2f}" '
            f'height="{_LANE}" fill="{COLOURS[event.name]}"><title>{escape(event.name)} '
            f"{event.index}: {event.start}..{event.end}</title></rect>"
        )
    return parts


def _columns(events: Sequence[Event], scale: _Scale) -> list[str]:
    """Stacked shares of the cycles of each column."""
    size = scale.cycles_of_a_column
    shares: dict[tuple[str, int, str], float] = {}
    for event in events:
        start, end = max(event.start, scale.first), min(event.end, scale.end)
        column = int((start - scale.first) / size)
        at: float = start
        while at < end:
            border = scale.first + (column + 1) * size
            key = (event.unit, column, event.name)
            shares[key] = shares.get(key, 0.0) + min(end, border) - at
            at, column = min(end, border), column + 1
    return [part for unit in UNITS for part in _stack(unit, shares, size)]


def _stack(unit: str, shares: Mapping[tuple[str, int, str], float], size: float) -> list[str]:
    parts, filled = [], dict[int, float]()
    for name, colour in COLOURS.items():
        path = []
        for (owner, column, kind), cycles in shares.items():
            if owner != unit or kind != name:
                continue
            height = _LANE * min(cycles / size, 1)
            bottom = _lane(unit) + _LANE - filled.get(column, 0.0)
            filled[column] = filled.get(column, 0.0) + height
            x = _LEFT + column * _COLUMN
            path.append(f"M{x} {bottom:.1f}v{-height:.1f}h{_COLUMN}v{height:.1f}z")
        if path:
            title = f"<title>{unit}: {name}</title>"
            parts.append(f'<path d="{"".join(path)}" fill="{colour}">{title}</path>')
    return parts


def _layer_boxes(timing: Timing, layers: Mapping[int, str], scale: _Scale) -> list[str]:
    """When the compute unit is at which layer."""
    starts = sorted(layers)
    reached: dict[int, tuple[int, int]] = {}
    for event in timing.events:
        if event.unit == "compute" and event.index >= starts[0]:
            start = starts[bisect_right(starts, event.index) - 1]
            low, high = reached.get(start, (event.start, event.end))
            reached[start] = (min(low, event.start), max(high, event.end))
    parts = []
    for position, (start, (low, high)) in enumerate(sorted(reached.items())):
        if high <= scale.first or low >= scale.end:
            continue
        x, right = scale.x(low), scale.x(high)
        shade = "#e8e8e8" if position % 2 else "#d0d0d0"
        parts.append(
            f'<rect x="{x:.2f}" y="{_TOP}" width="{max(right - x, 0.5):.2f}" height="18" '
            f'fill="{shade}"><title>{escape(layers[start])}: {low}..{high}</title></rect>'
        )
        parts += _label(layers[start], x, right)
    return parts


def _label(name: str, x: float, right: float) -> list[str]:
    """As much of the end of a name as fits, or nothing."""
    letters = int((right - x - 4) / _LETTER)
    if letters < 4:
        return []
    text = name if len(name) <= letters else "\u2026" + name[1 - letters :]
    return [f'<text x="{x + 2:.1f}" y="{_TOP + 13}" font-size="11">{escape(text)}</text>']


def _axis(timing: Timing, scale: _Scale, height: int) -> list[str]:
    parts = []
    for tick in range(11):
        cycle = scale.first + (scale.end - scale.first) * tick // 10
        time = cycle / timing.clock_mhz / 1000
        anchor = "start" if tick == 0 else "end" if tick == 10 else "middle"
        parts.append(
            f'<text x="{scale.x(cycle):.1f}" y="{height - 8}" text-anchor="{anchor}">'
            f"{time:.3f} ms</text>"
        )
        parts.append(
            f'<path d="M{scale.x(cycle):.1f} {_TOP + _LAYERS - 4}V{height - 22}" '
            'stroke="#00000022"/>'
        )
    return parts
