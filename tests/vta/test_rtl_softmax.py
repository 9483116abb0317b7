"""The softmax unit's hardware gives the bits of the golden model."""

from __future__ import annotations

import numpy as np
import pytest

from hyq_tvm.errors import ConfigError, InputError
from hyq_tvm.numerics.exponential import mantissa_table
from hyq_tvm.numerics.reference.softmax import (
    _grid_weights,
    _stepped_weights,
    softmax,
)
from hyq_tvm.vta.cosim.softmax_unit import (
    KINDS,
    LANES,
    RESULTS,
    SoftmaxUnit,
    exp_weights,
    scale_fields,
)
from hyq_tvm.vta.cosim.toolchain import RTL, ToolUnavailable, compiler, verilator

SCALES = {
    "linear": (2**-11 * 1.01, 0.013, 2**-6, 0.0501, 2**-3 * 0.99),
    "poly2": (2**-8 * 1.01, 0.013, 2**-6, 0.0501, 0.99),
}
GRID = ("linear_pot", "table")


@pytest.fixture(scope="module")
def tools():
    try:
        verilator()
        compiler()
    except ToolUnavailable as error:
        pytest.skip(str(error))


def rows(rng, count, length, bits):
    """Flat, ordinary, extreme and constant rows."""
    limit = 1 << (bits - 1)
    spread = rng.choice([0, 1, 4, 20, limit], (count, 1))
    values = np.rint(rng.normal(size=(count, length)) * spread) + rng.integers(-9, 9)
    return np.clip(values, -limit, limit - 1).astype(np.int16)


def check(unit, lengths, scales, count=12):
    """Rows of all lengths at all scales, with and without pauses in the input."""
    rng = np.random.default_rng(unit.lanes)
    for scale in scales:
        for length in lengths:
            x = rows(rng, count, length, unit.width)
            codes, _ = unit.run(x, scale, pause=int(rng.integers(0, 4)))
            wanted = softmax(x, kind=unit.kind, output=unit.result, scale=scale)
            np.testing.assert_array_equal(codes, wanted)


def scales_of(kind):
    return SCALES.get(kind, (None,))


@pytest.mark.parametrize(
    ("kind", "result", "lanes"),
    [
        ("linear_pot", "uint8", 16),
        ("table", "log2_4bit", 4),
        ("linear", "log2_4bit", 1),
        ("poly2", "uint8", 4),
    ],
)
def test_rows_of_every_kind(tools, kind, result, lanes):
    unit = SoftmaxUnit(kind, result, lanes)
    check(unit, (1, 2, 3, 15, 16, 17, 100, 255, 256), scales_of(kind))


@pytest.mark.slow
@pytest.mark.parametrize("length", [16, 64, 256])
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("kind", KINDS)
def test_all_units(tools, kind, result, lanes, length):
    lengths = sorted({1, 2, 3, length // 2 + 1, length - 1, length})
    check(SoftmaxUnit(kind, result, lanes, length), lengths, scales_of(kind), count=60)


def test_a_row_takes_three_passes_and_one_division(tools):
    unit = SoftmaxUnit("linear_pot", "uint8", 16)
    x = np.zeros((10, 256), np.int16)
    _, cycles = unit.run(x)
    assert 3 * 16 <= cycles / 10 <= 3 * 16 + 45


@pytest.mark.parametrize(
    "kind",
    [
        "poly2",
        "linear_pot",
        pytest.param("linear", marks=pytest.mark.slow),
        pytest.param("table", marks=pytest.mark.slow),
    ],
)
def test_weights_of_every_difference(tools, kind):
    bits = 10 if kind in GRID else 8
    differences = np.arange(1 << bits)
    got = exp_weights(kind, 0.0501, differences, bits)
    if kind in GRID:
        # Rows of 256 at most: longer ones have wider weights.
        parts = np.split(differences, 4)
        wanted = np.concatenate([_grid_weights(part[None], kind, 4)[0] for part in parts])
    else:
        wanted = _stepped_weights(differences[None], kind, 0.0501)[0]
    np.testing.assert_array_equal(got, wanted)


def test_the_mantissas_are_those_of_the_contract():
    text = (RTL / "softmax" / "hyq_softmax_pkg.sv").read_text(encoding="utf-8")
    listed = [
        int(line.split("15'd")[1].rstrip(";")) for line in text.splitlines() if "15'd" in line
    ]
    assert listed == mantissa_table(4, 15).tolist()


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "exact"},
        {"result": "float"},
        {"lanes": 3},
        {"length": 257},
        {"lanes": 0},
        {"logit_bits": 17},
    ],
)
def test_other_units_are_refused(options):
    with pytest.raises(ConfigError):
        SoftmaxUnit(**options)


@pytest.mark.parametrize("scale", [1.0, 2**-13])
def test_scales_beyond_the_unit_are_refused(scale):
    with pytest.raises(ConfigError, match="does not fit the unit"):
        scale_fields("linear", scale)


@pytest.mark.parametrize(
    ("kind", "logits", "scale", "message"),
    [
        ("linear_pot", np.zeros((1, 257)), None, "rows of 1 to 256"),
        ("linear_pot", np.zeros(4), None, "rows of 1 to 256"),
        ("linear_pot", np.full((1, 4), 512), None, "beyond 10 bits"),
        ("linear_pot", np.zeros((1, 4)), 0.1, "on its grid"),
        ("poly2", np.zeros((1, 4)), None, "needs the scale"),
    ],
)
def test_wrong_rows_are_refused(kind, logits, scale, message):
    with pytest.raises(InputError, match=message):
        SoftmaxUnit(kind).run(logits, scale)
