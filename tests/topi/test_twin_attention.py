"""AT1 to AT7 in TE: the golden model's integers, without a float anywhere."""

from __future__ import annotations

import numpy as np
import pytest
import tvm

from hyq_tvm import topi
from hyq_tvm.numerics.exponential import INTEGER_KINDS
from hyq_tvm.numerics.softmax_tables import WEIGHT_TABLE_KINDS, attention_constants

RNG = np.random.default_rng(91)
SHAPES = (
    (1, 1, 1, 5, 5), (2, 3, 2, 8, 8), (3, 15, 15, 5, 7), (6, 16, 17, 8, 8), (1, 4, 256, 64, 16),
)  # fmt: skip


def case(
    shape, kind="linear_pot", weight_bits=8, biases=0, dtype="int8", fraction_bits=4, step=0.02
):
    batch, queries, tokens, depth, width = shape
    arrays = [
        RNG.integers(-127, 128, s).astype(np.int8)
        for s in ((batch, queries, depth), (batch, tokens, depth), (batch, tokens, width))
    ]
    arrays[0][0, 0], arrays[1][0, 0], arrays[1][0, -1] = 127, 127, -127
    published = {"logit_scale": 0.3} if kind == "hyq" else {}
    c = attention_constants(
        step, step, 0.02, depth**-0.5, 0.01, depth, tokens, kind, weight_bits, fraction_bits,
        **published,
    )  # fmt: skip
    arrays += [c[key] for key in ("multiplier", "shift", "table")]
    if biases:
        bias = RNG.integers(-9000, 9000, (biases, queries, tokens)).astype(np.int32)
        bias[RNG.random(bias.shape) < 0.3] = -(2**30)
        bias[0, -1] = -(2**30)
        bias[0, 0, -1] = -(2**31)
        arrays.append(bias)
    high = np.iinfo(dtype).max
    low = -high - (1 if dtype == "int8" else 0)
    params = {
        "kind": kind, "weight_bits": weight_bits, "fraction_bits": fraction_bits,
        "has_bias": bool(biases), "rescale_multiplier": c["rescale_multiplier"],
        "rescale_shift": c["rescale_shift"], "zero_point": 5 if dtype == "int8" else 0,
        "low": low, "high": high, "dtype": dtype, **published,
    }  # fmt: skip
    if kind == "hyq":
        params["logit_zero_point"] = -9
    return "attention", params, arrays


@pytest.mark.parametrize("biases", [0, 1, 3])
def test_at_shapes(assert_twins, biases):
    assert_twins(
        {
            f"{shape} {bits}": case(shape, weight_bits=bits, biases=biases)
            for shape in SHAPES
            for bits in (8, 16)
            if biases == 0 or shape[0] % biases == 0
        }
    )


def test_at_kinds(assert_twins):
    cases = {"hyq": case(SHAPES[2], "hyq"), "hyq masked": case(SHAPES[2], "hyq", biases=3)}
    for kind in WEIGHT_TABLE_KINDS:
        for bits in (8, 16):
            cases[f"{kind} {bits}"] = case(SHAPES[3], kind, bits, biases=2)
            cases[f"{kind} {bits} int16"] = case(
                SHAPES[2], kind, bits, dtype="int16", fraction_bits=6
            )
    assert_twins(cases)


def test_at_of_a_vision_transformer(assert_twins):
    assert_twins({str(bits): case((3, 197, 197, 64, 64), weight_bits=bits) for bits in (8, 16)})


@pytest.mark.parametrize("step", [1e-6, 5.0])
def test_at_flat_and_saturated_logits(assert_twins, step):
    assert_twins({str(b): case((2, 9, 33, 8, 5), weight_bits=b, step=step) for b in (8, 16)})


@pytest.mark.parametrize("kind", INTEGER_KINDS)
@pytest.mark.parametrize("biases", [0, 1])
def test_at_no_float(kind, biases, float_dtypes):
    for bits in (8, 16):
        op, params, arrays = case(SHAPES[1], kind, bits, biases)
        function = topi.prim_func(op, params, [(a.shape, str(a.dtype)) for a in arrays])
        assert float_dtypes(function) == set()


@pytest.mark.parametrize(
    ("bits", "middle"),
    [(8, ["attention_values"]), (16, ["attention_high", "attention_low", "attention_values"])],
)
def test_at_blocks_have_stable_names(bits, middle):
    op, params, arrays = case(SHAPES[1], weight_bits=bits)
    function = topi.prim_func(op, params, [(a.shape, str(a.dtype)) for a in arrays])
    schedule = tvm.s_tir.Schedule(tvm.IRModule({"main": function}))
    blocks = schedule.get_child_blocks(schedule.get_sblock("root", "main"))
    names = [schedule.get(block).name_hint for block in blocks]
    first = "attention_scores attention_logits attention_max attention_exp attention_sum".split()
    last = "attention_multiplier attention_shift attention".split()
    assert sorted(names) == sorted([*first, *middle, *last])


def test_at_refuses_shapes_and_tables():
    op, params, arrays = case(SHAPES[1])
    shapes = [(a.shape, str(a.dtype)) for a in arrays]
    with pytest.raises(ValueError, match="needed"):
        topi.prim_func(op, params, [((2, 3, 9), "int8"), *shapes[1:]])
    with pytest.raises(ValueError, match="145"):
        topi.prim_func(op, {**params, "fraction_bits": 5}, shapes)
