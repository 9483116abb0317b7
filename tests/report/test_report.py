import re
from html.parser import HTMLParser

import pytest

from hyq_tvm.report import (
    Card,
    ChannelRanges,
    LayerRow,
    OperatorTime,
    Picture,
    Report,
    SoftmaxCurve,
    Table,
    render,
    write_report,
)
from hyq_tvm.report.data import number, scale_text

LAYERS = (
    LayerRow(
        "stem.conv", "conv2d", (1, 16, 16, 16), (0.02,), -3, 8, (1.0, 4.0), "free", "", 41.5, 9
    ),
    LayerRow(
        "block.attn", "attention", (1, 64, 32), (0.01,), 0, 8, softmax="linear_pot", sqnr_db=33
    ),
    LayerRow("block.add", "add", bits=16),
)
FULL = Report(
    title="All sections",
    lead="A lead.",
    cards=(Card("Agreement", "99.1 %", "597 images"),),
    results=(Table("Accuracy", ("images", "float"), (("clean", "99.5 %"),), "a note"),),
    layers=LAYERS,
    ranges=(
        ChannelRanges("stem.conv", (1.0, 9.0, 2.0), (4.0, 4.5, 4.2)),
        ChannelRanges("block.proj", (1.0, 9.0, 2.0), (4.0, 4.5, 4.2)),
    ),
    softmax=(SoftmaxCurve("linear_pot", (0.01, 0.1, 1.0), (0.012, 0.014, 0.0)),),
    facts=(("apache-tvm", "0.27.0"),),
    times=(OperatorTime("conv2d", 12, 340.5), OperatorTime("dense", 3, 20.0)),
    tables=(Table("Peers", ("runtime", "ms"), (("other", "2.5"),)),),
    pictures=(Picture("Cycle timeline", "data:image/svg+xml;base64,PHN2Zy8+"),),
)


class Checker(HTMLParser):
    """Balance of tags, identifiers, and everything that a browser would load."""

    VOID = frozenset("meta input br link img hr col".split())

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.loads, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.loads += [v for k, v in attrs if k in ("href", "action", "poster", "srcset")]
        self.loads += [v for k, v in attrs if k == "src" and not v.startswith("data:image/")]
        self.loads += [v for k, v in attrs if k == "xlink:href" and not v.startswith("#")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(text):
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    return checker


def test_every_section_is_there():
    text = render(FULL)
    for piece in (
        "All sections", "A lead.", "99.1 %", "a note", "stem.conv", "linear_pot", "apache-tvm",
        "Where precision and time go", "before and after distribution scaling",
        "prefers-color-scheme",
        "The model", "Spare bits of the accumulators", "Spread of the scaling factors",
        "Latency by operator", "Peers", "Cycle timeline", "1 convolution",
    ):  # fmt: skip
        assert piece in text
    assert checked(text).tags.count("svg") == 8


def test_the_page_is_well_formed_and_loads_nothing():
    checker = checked(render(FULL))
    assert checker.loads == []
    assert len(checker.ids) == len(set(checker.ids))
    assert "@import" not in render(FULL)
    assert "url(http" not in render(FULL)


def test_empty_sections_are_left_out():
    text = render(Report("Nothing measured"))
    assert checked(text).tags.count("section") == 0
    assert "<script" not in text
    assert "<svg" not in text


def test_a_report_without_any_sqnr_has_no_waterfall():
    text = render(Report("t", layers=(LayerRow("a", "add"),)))
    assert "layer by layer" not in text
    assert "<table" in text


def test_names_are_escaped():
    nasty = "<script>alert(1)</script>&\"'"
    text = render(
        Report(
            nasty,
            cards=(Card(nasty, nasty),),
            layers=(LayerRow(nasty, nasty, softmax=nasty, sqnr_db=1.0),),
            ranges=(ChannelRanges(nasty, (1.0,), (1.0,)),),
            softmax=(SoftmaxCurve(nasty, (1.0,), (0.1,)),),
            facts=((nasty, nasty),),
        )
    )
    assert "<script>alert" not in text
    assert text.count("<script>") == 1
    checked(text)


def test_figures_follow_the_colours_of_the_page():
    text = render(FULL)
    assert "var(--series-1)" in text
    assert "currentColor" in text
    assert not re.search(r"#10a10\d", text)


def test_the_same_report_gives_the_same_bytes():
    assert render(FULL) == render(FULL)


def test_unknown_figures_show_as_dashes_and_sort_last():
    row = next(
        r
        for r in render(FULL).split("<tr>")
        if r.count("block.add")
        and "sticky" not in r
        and "<th scope" in r
        and 'title="block.add"' in r
    )
    assert 'data-value="">–' in row
    assert "None" not in row


def test_channels_that_are_all_zero_are_drawn():
    text = render(Report("t", ranges=(ChannelRanges("dead", (0.0, 0.0), (0.0, 0.0)),)))
    assert "<svg" in text


def test_writing_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    assert write_report(path, FULL) == path
    assert path.read_text(encoding="utf-8") == render(FULL)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_report(path, FULL)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_report(tmp_path / "absent" / "report.html", FULL)


def test_malformed_data_is_refused():
    with pytest.raises(ValueError, match="row of 1 in 2 columns"):
        Table("t", ("a", "b"), (("x",),))
    with pytest.raises(ValueError, match="2 channels, then 1"):
        ChannelRanges("x", (1.0, 2.0), (1.0,))
    with pytest.raises(ValueError, match="0 channels"):
        ChannelRanges("x", (), ())
    with pytest.raises(ValueError, match="loads nothing"):
        Picture("x", "https://example.org/x.png")
    with pytest.raises(ValueError, match="1 scales, 0 errors"):
        SoftmaxCurve("linear", (1.0,), ())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (float("inf"), "∞"),
        (-float("inf"), "-∞"),
        (0.0123456, "0.0123"),
        (0, "0"),
    ],
)
def test_numbers_for_people(value, text):
    assert number(value) == text


def test_scales_for_people():
    assert scale_text(()) == "–"
    assert scale_text((0.012345,)) == "0.0123"
    assert scale_text((0.5, 0.01, 2.0)) == "0.01 … 2"


def test_alpha_spread_is_a_ratio():
    assert LAYERS[0].alpha_spread == 4
    assert LAYERS[2].alpha_spread is None
