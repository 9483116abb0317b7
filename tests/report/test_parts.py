"""Attachments, overview and times of a report."""

import pytest

from hyq_tvm.errors import InputError
from hyq_tvm.report.attachments import attach, markdown_tables
from hyq_tvm.report.data import LayerRow
from hyq_tvm.report.latency import by_kind
from hyq_tvm.report.overview import KINDS, kind_of, legend, overview


def test_markdown_tables_keep_their_headings(tmp_path):
    text = (
        "# One\n\ntext\n\n| a | b |\n|---|---|\n| 1 | **2** |\n\n## Two\n| c |\n|--|\n| 3 |\n| 4 |"
    )
    one, two = markdown_tables(text, tmp_path / "x.md")
    assert (one.title, one.columns, one.rows) == ("One", ["a", "b"], [["1", "2"]])
    assert (two.title, two.rows, two.note) == ("Two", [["3"], ["4"]], "from x.md")


def test_attachments_are_checked(tmp_path):
    picture = tmp_path / "cycle_timeline.svg"
    picture.write_text("<svg/>")
    tables, (found,) = attach([picture])
    assert tables == []
    assert (found.title, found.data_uri) == ("cycle timeline", "data:image/svg+xml;base64,PHN2Zy8+")
    (tmp_path / "empty.md").write_text("nothing")
    with pytest.raises(InputError, match="holds no table"):
        attach([tmp_path / "empty.md"])
    with pytest.raises(InputError, match="cannot be read"):
        attach([tmp_path / "absent.md"])
    with pytest.raises(InputError, match="cannot be read"):
        attach([tmp_path / "absent.png"])
    with pytest.raises(InputError, match=r"attach \.md"):
        attach([tmp_path / "x.pdf"])


def test_every_layer_is_a_block():
    layers = [LayerRow(f"layer{i}", op, (1, 2)) for i, op in enumerate(["conv2d", "add", "view"])]
    text = overview(layers * 20)
    assert text.count("<rect") == 60
    assert "#2 layer1: add 1×2" in text
    assert [(kind, count) for _, kind, count in legend(layers)] == [
        ("convolution", 1), ("elementwise", 1), ("other", 1),
    ]  # fmt: skip
    assert kind_of("reduce_sum") == len(KINDS) - 1


def test_times_are_added_by_kind():
    calls = {
        (0, "conv2d_3x3_32x32x96x48_1"): 3000,
        (1, "conv2d_1x1_8x8x8x8_"): 1000,
        (2, "layer_norm_64x144_"): 2500,
        (3, "reshape"): 10,
        (4, "vm.builtin.reshape"): 999999,
    }
    found = [(t.name, t.calls, t.microseconds) for t in by_kind(calls)]
    assert found == [("conv2d", 2, 4.0), ("layer_norm", 1, 2.5), ("reshape", 1, 0.01)]
