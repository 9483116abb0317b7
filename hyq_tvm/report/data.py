"""What a report shows, as plain data: whoever measures fills it in, nothing here measures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Card:
    """One figure of the summary: ``value`` large, ``label`` above, ``note`` small below."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table of results. Every row has as many cells as there are ``columns``."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"{self.title}: a row of {len(row)} in {len(self.columns)} columns"
                )


@dataclass(frozen=True)
class LayerRow:
    """One operator of the integer program.

    scale: one number, or one per channel. alpha: distribution scaling of the layer's input
    channels, empty where there is none. sqnr_db: signal to quantization noise of the output
    against the float model. margin_bits: how many bits of the accumulator the proven worst case
    leaves unused. Unknown figures are ``None``.
    """

    name: str
    op: str
    shape: Sequence[int] = ()
    scale: Sequence[float] = ()
    zero_point: int | None = None
    bits: int | None = None
    alpha: Sequence[float] = ()
    alpha_cost: str = ""
    softmax: str = ""
    sqnr_db: float | None = None
    margin_bits: float | None = None

    @property
    def elements(self) -> int:
        """How many numbers the tensor holds; the key that sorts shapes."""
        return math.prod(self.shape)

    @property
    def alpha_spread(self) -> float | None:
        """Largest alpha over the smallest; ``None`` without scaling."""
        return max(self.alpha) / min(self.alpha) if self.alpha else None


@dataclass(frozen=True)
class ChannelRanges:
    """Largest magnitude per channel of one layer's input, before and after distribution scaling.

    ``before`` and ``after`` have one value a channel, in the units that are rounded: x, x / alpha.
    """

    name: str
    before: Sequence[float]
    after: Sequence[float]

    def __post_init__(self) -> None:
        if not self.before or len(self.before) != len(self.after):
            raise ValueError(f"{self.name}: {len(self.before)} channels, then {len(self.after)}")


@dataclass(frozen=True)
class SoftmaxCurve:
    """Largest error of the probabilities of one softmax kind, at each scale of the logits."""

    kind: str
    scales: Sequence[float]
    errors: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.scales) != len(self.errors):
            raise ValueError(f"{self.kind}: {len(self.scales)} scales, {len(self.errors)} errors")


@dataclass(frozen=True)
class OperatorTime:
    """All calls of one kind of operator in one run."""

    name: str
    calls: int
    microseconds: float


@dataclass(frozen=True)
class Picture:
    """An image that lies on the page itself; ``data_uri`` begins with ``data:``."""

    title: str
    data_uri: str

    def __post_init__(self) -> None:
        if not self.data_uri.startswith("data:image/"):
            raise ValueError(f"{self.title}: a page loads nothing, give a data: URI")


@dataclass(frozen=True)
class Report:
    """All sections of a report; an empty one is left out.

    results: tables at the top. tables, pictures: what else was measured, further down. facts:
    versions, dates, options.
    """

    title: str
    cards: Sequence[Card] = ()
    results: Sequence[Table] = ()
    layers: Sequence[LayerRow] = ()
    ranges: Sequence[ChannelRanges] = ()
    softmax: Sequence[SoftmaxCurve] = ()
    facts: Sequence[tuple[str, str]] = field(default_factory=tuple)
    times: Sequence[OperatorTime] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    lead: str = ""


def number(value: float | None, digits: int = 3) -> str:
    """A figure for people: ``digits`` significant ones, a dash for what is unknown."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.{digits}g}"


def tenths(value: float | None) -> str:
    """A figure with one decimal, a dash for what is unknown."""
    finite = value is not None and math.isfinite(value)
    return f"{value:.1f}" if finite else number(value)


def scale_text(scale: Sequence[float]) -> str:
    """One scale, or the span of per-channel ones."""
    if not scale:
        return "–"
    if len(scale) == 1:
        return number(scale[0])
    return f"{number(min(scale), 2)} … {number(max(scale), 2)}"
