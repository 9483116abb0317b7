"""Clauses AT1 to AT7: fused integer attention against Python integers and float attention."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyq_tvm.errors import AccumulatorOverflowError, ConfigError
from hyq_tvm.numerics import OPERATORS
from hyq_tvm.numerics.softmax_tables import (
    WEIGHT_TABLE_KINDS,
    attention_constants,
    log2_weights,
    rescale_constants,
    weight_table,
)

RNG = np.random.default_rng(53)
MASKED = -(2**30)


def operands(batch, queries, tokens, depth, width):
    shapes = ((batch, queries, depth), (batch, tokens, depth), (batch, tokens, width))
    return [RNG.integers(-127, 128, shape).astype(np.int8) for shape in shapes]


def settings(constants, kind, weight_bits, fraction_bits=4, **changes):
    base = {
        "kind": kind, "weight_bits": weight_bits, "fraction_bits": fraction_bits,
        "rescale_multiplier": constants["rescale_multiplier"],
        "rescale_shift": constants["rescale_shift"],
        "zero_point": 3, "low": -128, "high": 127, "dtype": "int8",
    }  # fmt: skip
    return {**base, **changes}


def run(q, k, v, constants, bias=None, **params):
    tensors = [constants[key] for key in ("multiplier", "shift", "table")]
    extra = [] if bias is None else [bias]
    has_bias = bias is not None
    return OPERATORS["attention"](q, k, v, *tensors, *extra, has_bias=has_bias, **params)


def exact_row(q, k, v, constants, bias, params):
    """AT1 to AT5 for one query in Python integers."""
    m, s = int(constants["multiplier"][0]), int(constants["shift"][0])
    octaves, fraction_bits = params["weight_bits"] + 1, params["fraction_bits"]
    logits = []
    for j, key in enumerate(k.tolist()):
        if bias is not None and bias[j] <= MASKED:
            logits.append(None)
            continue
        acc = sum(a * b for a, b in zip(q.tolist(), key, strict=True))
        acc += 0 if bias is None else int(bias[j])
        t = (acc * m + (1 << (s - 1))) >> s
        logits.append(min(max(t, -(2**30) + 1), 2**30 - 1))
    top = max((t for t in logits if t is not None), default=0)
    e = [
        0 if t is None else int(constants["table"][min(top - t, octaves << fraction_bits)])
        for t in logits
    ]
    out, total = [], max(sum(e), 1)
    h, shift = total.bit_length(), params["rescale_shift"]
    reciprocal = ((params["rescale_multiplier"] << h) + (total >> 1)) // total
    assert shift + h <= 62
    for column in v.T.tolist():
        weighted = sum(w * value for w, value in zip(e, column, strict=True))
        assert abs(weighted * reciprocal) + (1 << (shift + h - 1)) < 2**63
        scaled = (weighted * reciprocal + (1 << (shift + h - 1))) >> (shift + h)
        out.append(min(max(scaled + params["zero_point"], params["low"]), params["high"]))
    return out


def float_attention(q, k, v, scales, softmax_scale, bias=0.0):
    sq, sk, sv = scales
    logits = np.einsum("bid,bjd->bij", q * sq, k * sk) * softmax_scale + bias
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True) @ (v * sv)


@pytest.mark.parametrize("weight_bits", [8, 16])
@pytest.mark.parametrize("kind", WEIGHT_TABLE_KINDS)
@pytest.mark.parametrize("shape", [(1, 1, 1, 5, 5), (2, 3, 2, 8, 3), (1, 2, 17, 5, 4)])
@pytest.mark.parametrize("biased", [False, True])
def test_at_equals_python_integers(shape, kind, weight_bits, biased):
    q, k, v = operands(*shape)
    batch, queries, tokens, depth, _ = shape
    c = attention_constants(
        0.03, 0.02, 0.02, depth**-0.5, 0.01, depth, tokens, kind, weight_bits, 5
    )
    params = settings(c, kind, weight_bits, 5)
    bias = None
    if biased:
        bias = RNG.integers(-20000, 20000, (1, queries, tokens)).astype(np.int32)
        bias[RNG.random(bias.shape) < 0.3] = MASKED
    result = run(q, k, v, c, bias, **params)
    for b, i in itertools.product(range(batch), range(queries)):
        row = None if bias is None else bias[0, i].tolist()
        assert result[b, i].tolist() == exact_row(q[b, i], k[b], v[b], c, row, params)


@given(st.data())
def test_at_equals_python_integers_anywhere(data):
    tokens, depth = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 4))
    shapes = ((1, 1, depth), (1, tokens, depth), (1, tokens, 2))
    seed = data.draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    q, k, v = (rng.choice([-127, -1, 0, 1, 127], shape).astype(np.int8) for shape in shapes)
    bits, kind = data.draw(st.sampled_from([8, 16])), data.draw(st.sampled_from(WEIGHT_TABLE_KINDS))
    step, ratio = data.draw(st.floats(1e-7, 10)), data.draw(st.floats(1e-6, 1e5))
    c = attention_constants(step, 1.0, ratio, 1.0, 1.0, depth, tokens, kind, bits)
    params = settings(c, kind, bits, low=-32767, high=32767, dtype="int16")
    bias = rng.choice([-(2**31), MASKED, MASKED + 1, -5, 0, 2**30], (1, 1, tokens)).astype(np.int32)
    result = run(q, k, v, c, bias, **params)
    assert result[0, 0].tolist() == exact_row(q[0, 0], k[0], v[0], c, bias[0, 0].tolist(), params)


@pytest.mark.parametrize(
    ("weight_bits", "tokens", "lowest"), [(8, 16, 34), (8, 197, 31), (16, 197, 43), (16, 64, 43)]
)
@pytest.mark.parametrize("kind", ["linear_pot", "table"])
def test_at_is_close_to_float(kind, weight_bits, tokens, lowest):
    depth = 32
    real = [RNG.normal(size=(4, tokens, depth)) for _ in range(3)]
    scales = [np.abs(r).max() / 127 for r in real]
    q, k, v = (np.rint(r / s).astype(np.int8) for r, s in zip(real, scales, strict=True))
    exact = float_attention(q, k, v, scales, depth**-0.5)
    scale_out = np.abs(exact).max() / 32767
    c = attention_constants(*scales, depth**-0.5, scale_out, depth, tokens, kind, weight_bits, 6)
    params = settings(c, kind, weight_bits, 6, zero_point=0, low=-32767, high=32767, dtype="int16")
    error = run(q, k, v, c, **params) * scale_out - exact
    snr = 10 * np.log10((exact**2).sum() / (error**2).sum())
    assert snr > (lowest if kind == "table" else min(lowest, 29))


def test_at2_bias_is_at_the_scale_of_the_accumulator():
    q, k, v = operands(4, 5, 5, 8, 8)
    real = RNG.normal(size=(2, 5, 5)) * 2
    step = 0.02 * 0.02 * 8**-0.5
    bias = np.rint(real / step).astype(np.int32)
    exact = float_attention(q, k, v, (0.02, 0.02, 0.02), 8**-0.5, np.tile(real, (2, 1, 1)))
    c = attention_constants(0.02, 0.02, 0.02, 8**-0.5, 0.02, 8, 5, "table", 16, 8)
    result = run(q, k, v, c, bias, **settings(c, "table", 16, 8, zero_point=0))
    assert np.abs(result - exact / 0.02).max() < 1


def test_at2_excluded_pairs_count_for_nothing():
    q, k, v = operands(2, 4, 9, 8, 5)
    c = attention_constants(0.02, 0.02, 0.02, 0.3, 0.01, 8, 9)
    bias = np.zeros((1, 4, 9), dtype=np.int32)
    bias[:, :, [2, 5, 8]] = MASKED
    bias[:, :, 5] = -(2**31)
    kept = [0, 1, 3, 4, 6, 7]
    params = settings(c, "linear_pot", 8)
    np.testing.assert_array_equal(
        run(q, k, v, c, bias, **params), run(q, k[:, kept], v[:, kept], c, **params)
    )


@pytest.mark.parametrize("kind", [*WEIGHT_TABLE_KINDS, "hyq"])
def test_at2_an_empty_row_gives_the_zero_point(kind):
    q, k, v = operands(1, 2, 3, 8, 5)
    extra = {"logit_scale": 0.1} if kind == "hyq" else {}
    c = attention_constants(0.02, 0.02, 0.02, 0.3, 0.01, 8, 3, kind, **extra)
    bias = np.zeros((1, 2, 3), dtype=np.int32)
    bias[0, 1] = MASKED
    result = run(q, k, v, c, bias, **settings(c, kind, 8, zero_point=-7, **extra))
    assert result[0, 1].tolist() == [-7] * 5
    assert result[0, 0].tolist() != [-7] * 5


def test_at2_equal_logits_give_the_mean():
    _, k, _ = operands(1, 2, 7, 8, 5)
    q = np.zeros((1, 2, 8), dtype=np.int8)
    v = np.full((1, 7, 5), 40, dtype=np.int8)
    for kind, bits in itertools.product(WEIGHT_TABLE_KINDS, (8, 16)):
        c = attention_constants(0.02, 0.02, 0.02, 0.3, 0.01, 8, 7, kind, bits)
        result = run(q, k, v, c, **settings(c, kind, bits, zero_point=0))
        np.testing.assert_array_equal(result, np.full((1, 2, 5), 80, dtype=np.int8))


@pytest.mark.parametrize("kind", WEIGHT_TABLE_KINDS)
@pytest.mark.parametrize(("weight_bits", "full"), [(8, 255), (16, 65535)])
@pytest.mark.parametrize("fraction_bits", [1, 4, 5, 8])
def test_at3_tables(kind, weight_bits, full, fraction_bits):
    table = weight_table(kind, fraction_bits, weight_bits).astype(int)
    assert len(table) == ((weight_bits + 1) << fraction_bits) + 1
    assert (table[0], table[-1]) == (full, 0)
    exact = full * np.exp2(-np.arange(len(table)) / 2**fraction_bits)
    tolerance = {"table": 0.0, "poly2": 0.004, "linear": 0.055, "linear_pot": 0.055}[kind]
    half = 1.01 if kind == "linear_pot" else 0.5 + 1e-9
    assert np.all(np.abs(table - exact) <= exact * tolerance + half)
    if fraction_bits <= 5:
        assert np.all(np.diff(table) <= 0)


def test_at3_the_line_rounds_its_mantissa_before_the_shift():
    table = weight_table("linear_pot", 4)
    assert table[:17].tolist() == [255, 247, 239, 231, 222, 214, 206, 198, 190, 182, 173, 165, 157,
                                   149, 141, 133, 128]  # fmt: skip
    assert table[144 - 16 :].tolist() == [1] * 16 + [0]


def test_at7_hyq_equals_the_published_softmax_on_8_bit_logits():
    q, k, v = operands(2, 3, 12, 8, 5)
    c = attention_constants(0.05, 0.05, 0.02, 8**-0.5, 0.01, 8, 12, "hyq", logit_scale=0.15)
    params = settings(c, "hyq", 8, logit_scale=0.15, logit_zero_point=20)
    result = run(q, k, v, c, **params)
    m, s = int(c["multiplier"][0]), int(c["shift"][0])
    acc = np.einsum("bid,bjd->bij", q.astype(np.int64), k.astype(np.int64))
    logits = np.clip(((acc * m + (1 << (s - 1))) >> s) + 20, -128, 127).astype(np.int8)
    codes = OPERATORS["softmax"](logits, kind="hyq", output="log2_4bit", scale=0.15)
    weighted = log2_weights()[codes].astype(np.int64) @ v.astype(np.int64)
    factor, shift = c["rescale_multiplier"], c["rescale_shift"]
    expected = np.clip(((weighted * factor + (1 << (shift - 1))) >> shift) + 3, -128, 127)
    np.testing.assert_array_equal(result, expected)


def test_at7_log2_weights():
    assert log2_weights().tolist() == [2**15 >> c for c in range(16)] + [0]


@pytest.mark.parametrize("weight_bits", [8, 16])
@pytest.mark.parametrize("tokens", [1, 197, 4096, 16384])
@pytest.mark.parametrize("ratio", [1e-9, 1e-3, 1.0, 14.0, 2.0**20])
def test_at5_rescale_fits_int64(weight_bits, tokens, ratio):
    multiplier, shift = rescale_constants(ratio, weight_bits, tokens)
    full = 2**weight_bits - 1
    h = (tokens * full).bit_length()
    assert shift >= 1
    assert shift + h <= 62
    assert abs(multiplier * 2.0**-shift / ratio - 1) < 2.0**-20 or ratio < 1e-8
    # The row sum is at least the full scale, so no reciprocal passes 2^h / full.
    largest = (multiplier << h) // full + 1 if tokens == 1 else multiplier * 2 + 1
    assert tokens * full * 127 * largest + (1 << (shift + h - 1)) < 2**63


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"kind": "exact"}, "exact"),
        ({"kind": "hyq"}, "logit_scale"),
        ({"weight_bits": 12}, "weight_bits"),
        ({"fraction_bits": 9}, "fraction_bits"),
        ({"scale_q": 0.0}, "scale"),
        ({"scale_out": -1.0}, "scale"),
        ({"head_dim": 0}, "head_dim"),
        ({"head_dim": 70000}, "head_dim"),
        ({"tokens": 16385}, "tokens"),
        ({"scale_v": 1e-30}, "too large"),
    ],
)
def test_attention_constants_refuse(changes, match):
    base = {
        "scale_q": 0.1, "scale_k": 0.1, "scale_v": 0.1, "softmax_scale": 0.2, "scale_out": 0.1,
        "head_dim": 8, "tokens": 9,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=match):
        attention_constants(**{**base, **changes})


def test_weight_table_refuses_kinds_without_one():
    with pytest.raises(ConfigError, match="hyq"):
        weight_table("hyq", 4)


@pytest.mark.parametrize(
    ("shapes", "bias", "match"),
    [
        (((1, 2, 3), (1, 4, 5), (1, 4, 2)), None, "needed"),
        (((1, 2, 3), (2, 4, 3), (2, 4, 2)), None, "needed"),
        (((1, 2, 3), (1, 0, 3), (1, 0, 2)), None, "needed"),
        (((4, 2, 3), (4, 5, 3), (4, 5, 2)), (3, 2, 5), "dividing"),
        (((4, 2, 3), (4, 5, 3), (4, 5, 2)), (4, 5, 2), "dividing"),
    ],
)
def test_attention_refuses_shapes(shapes, bias, match):
    c = attention_constants(0.1, 0.1, 0.1, 1.0, 0.1, 3, 5)
    tensors = [np.zeros(shape, dtype=np.int8) for shape in shapes]
    extra = None if bias is None else np.zeros(bias, dtype=np.int32)
    with pytest.raises(ValueError, match=match):
        run(*tensors, c, extra, **settings(c, "linear_pot", 8))


def test_attention_refuses_what_does_not_match():
    q, k, v = operands(1, 2, 3, 4, 5)
    c = attention_constants(0.1, 0.1, 0.1, 1.0, 0.1, 4, 3)
    with pytest.raises(ValueError, match="145"):
        run(q, k, v, c, **settings(c, "linear_pot", 8, fraction_bits=5))
    with pytest.raises(ConfigError, match="logit_scale"):
        run(q, k, v, c, **settings(c, "linear_pot", 8, logit_scale=0.1))
    tensors = [c[key] for key in ("multiplier", "shift", "table")]
    with pytest.raises(ValueError, match="has_bias"):
        OPERATORS["attention"](q, k, v, *tensors, has_bias=True, **settings(c, "linear_pot", 8))


def test_attention_refuses_accumulators_beyond_int32():
    q = k = np.full((1, 1, 1), 127, dtype=np.int8)
    c = attention_constants(0.1, 0.1, 0.1, 1.0, 0.1, 1, 1)
    bias = np.full((1, 1, 1), 2**31 - 1, dtype=np.int32)
    with pytest.raises(AccumulatorOverflowError, match="bias"):
        run(q, k, k, c, bias, **settings(c, "linear_pot", 8))
