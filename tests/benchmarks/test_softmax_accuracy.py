"""The tables of the softmax benchmark say what docs/numerics.md promises."""

from __future__ import annotations

import pytest

from benchmarks.softmax_accuracy import (
    attention_table,
    bound_table,
    main,
    normalised_table,
    scale_table,
    tails_table,
    width_table,
)


def cells(lines):
    """First column -> numbers of the row, without the two lines of the header."""
    rows = [line.strip("| ").split(" | ") for line in list(lines)[2:]]
    return {row[0]: [float(cell) for cell in row[1:]] for row in rows}


def test_every_kind_keeps_the_bound_on_its_worst_rows():
    table = cells(bound_table(20, 0))
    assert len(table) == 8
    assert max(max(row) for row in table.values()) <= 0.025


def test_the_published_constants_fail_where_fine_logits_do_not():
    table = cells(scale_table(0))
    assert max(table["hyq, max abs dp"]) == 1.0
    assert max(table["linear_pot, max abs dp"]) <= 0.020
    assert max(table["linear, max abs dp"]) <= 0.017


def test_four_bit_codes_cost_more_than_any_exponential():
    table = cells(normalised_table(10, 0))
    assert all(row[3] > 4 * row[1] for row in table.values() if row[1] < 5)


def test_wider_weights_are_no_more_accurate():
    for _, narrow, wide_bits, wide in cells(width_table(0)).values():
        assert wide_bits >= 19
        assert narrow == pytest.approx(wide, abs=0.001)


def test_sixteen_bits_hold_tails_that_eight_drop():
    table = cells(tails_table())
    assert table["linear_pot, F = 4, 8-bit"][1] > 0.25
    assert max(table["linear_pot, F = 4, 16-bit"][:6]) <= 0.025


@pytest.mark.slow
def test_finer_tables_are_worth_decibels():
    table = cells(attention_table(2, 0))
    assert table["table, F = 6, 16-bit"][2] > table["table, F = 4, 16-bit"][2] + 10
    assert table["table, F = 6, 16-bit"][2] > table["linear_pot, F = 6, 16-bit"][2] + 15


@pytest.mark.slow
def test_the_command_prints_all_tables(capsys):
    main(["--rows", "2", "--heads", "1"])
    assert capsys.readouterr().out.count("|---") > 30
