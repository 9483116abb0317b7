"""The error bound of the integer softmax: max |dp| <= 0.025 against float softmax, everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyq_tvm.numerics import OPERATORS
from hyq_tvm.numerics.exponential import GRID_KINDS, LN2, grid_requantizer
from hyq_tvm.numerics.reference.softmax import probabilities
from hyq_tvm.numerics.softmax_tables import attention_constants

BOUND = 0.025
LARGEST_LOGIT = 100.0
SCALES = (0.001, 0.0037, 0.0433, 0.11, 0.3, 0.77, 1.0, 1.37, 2.3, 4.0)
RNG = np.random.default_rng(77)


def float_softmax(real):
    e = np.exp(real - real.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def hard_rows(length, scale, count):
    """Integer logits: random ones, one peak over equal tails, clusters, and pairs near the peak."""
    limit = int(LARGEST_LOGIT / scale)
    spread = RNG.choice([0.3, 1.0, 3.0, 10.0, 40.0], size=(count, 1))
    gaps = np.rint(RNG.uniform(0, 14, size=(count, 1)) / scale)
    tails = np.broadcast_to(-gaps, (count, length)).copy()
    tails[:, 0] = 0
    clusters = np.full((count, length), -limit, dtype=np.float64)
    clusters[:, : max(1, length // 2)] = -gaps
    clusters[:, 0] = 0
    pairs = np.full((count, length), -limit, dtype=np.float64)
    pairs[:, 1:3] = -np.rint(RNG.uniform(0, 4, size=(count, 2)) / scale)[:, : max(0, length - 1)]
    pairs[:, 0] = 0
    rows = [RNG.normal(size=(count, length)) * spread / scale, tails, clusters, pairs]
    return np.clip(np.rint(np.concatenate(rows)), -limit, limit).astype(np.int32)


def largest_error(kind, fraction_bits, length, scale, count):
    x = hard_rows(length, scale, count)
    tensors = ()
    if kind in GRID_KINDS:
        tensors = grid_requantizer(scale, fraction_bits, length).tensors
    codes = OPERATORS["softmax"](x, *tensors, kind=kind, fraction_bits=fraction_bits, scale=scale)
    return np.abs(probabilities(codes, kind, "uint8") - float_softmax(x * scale)).max()


@pytest.mark.parametrize("length", [1, 2, 3, 16, 64, 197, 256, 257, 512, 1024, 4096])
@pytest.mark.parametrize(
    ("kind", "fraction_bits", "bound"),
    [
        ("linear_pot", 4, 0.020),
        ("linear_pot", 5, 0.020),
        ("linear_pot", 6, 0.020),
        ("linear", 4, 0.017),
        ("table", 4, 0.012),
        ("poly2", 4, 0.016),
    ],
)
def test_error_from_int32_accumulators(kind, fraction_bits, bound, length):
    count = 200 if length < 300 else 200 * 256 // length
    errors = [largest_error(kind, fraction_bits, length, scale, count) for scale in SCALES]
    assert max(errors) <= bound <= BOUND


@pytest.mark.parametrize("scale", [3e-6, 1e-4])
@pytest.mark.parametrize("kind", ["linear_pot", "linear"])
def test_error_at_the_scale_of_real_accumulators(kind, scale):
    assert largest_error(kind, 4, 197, scale, 300) <= 0.020


@given(
    gaps=st.lists(st.floats(0, 20), min_size=1, max_size=6),
    copies=st.integers(1, 680),
    scale=st.floats(0.001, 4),
    kind=st.sampled_from(["linear_pot", "linear"]),
)
def test_error_of_rows_somebody_else_thinks_of(gaps, copies, scale, kind):
    row = np.rint(np.array([0.0, *np.repeat(gaps, copies)]) / scale).astype(np.int32)
    x = -row[np.newaxis]
    tensors = grid_requantizer(scale, 4, x.shape[1]).tensors if kind in GRID_KINDS else ()
    codes = OPERATORS["softmax"](x, *tensors, kind=kind, scale=scale)
    assert np.abs(codes / 255 - float_softmax(x * scale)).max() <= BOUND


@pytest.mark.parametrize("fraction_bits", [4, 5, 6])
@pytest.mark.parametrize("length", [2, 197, 4096])
def test_error_of_real_logits_rounded_to_the_grid(length, fraction_bits):
    step = LN2 / 2**fraction_bits
    real = np.concatenate([hard_rows(length, s, 40) * s for s in (0.01, 0.1)])
    x = np.rint(real / step).astype(np.int32)
    codes = OPERATORS["softmax"](x, fraction_bits=fraction_bits)
    assert np.abs(codes / 255 - float_softmax(real)).max() <= BOUND


def attention_error(kind, weight_bits, fraction_bits, tokens, scale, count=40):
    """Attention whose values are unit vectors gives back the probabilities of some tokens."""
    coarse = max(scale, 0.0062)
    logits = np.rint(hard_rows(tokens, coarse, count) * coarse / scale)
    acc = np.clip(logits, -16000, 16000).astype(np.int64)
    high = np.rint(acc / 127).astype(np.int64)
    k = np.stack([high, acc - 127 * high], axis=-1).astype(np.int8)
    q = np.broadcast_to(np.array([127, 1], dtype=np.int8), (len(k), 1, 2))
    watched = np.unique([0, 1 % tokens, 2 % tokens, tokens // 4, tokens // 2, tokens - 1])
    v = np.zeros((len(k), tokens, len(watched)), dtype=np.int8)
    v[:, watched, np.arange(len(watched))] = 127
    c = attention_constants(
        scale, 1.0, 1 / 127, 1.0, 1 / 32767, 2, tokens, kind, weight_bits, fraction_bits
    )
    result = OPERATORS["attention"](
        q, k, v, c["multiplier"], c["shift"], c["table"],
        kind=kind, weight_bits=weight_bits, fraction_bits=fraction_bits,
        rescale_multiplier=c["rescale_multiplier"], rescale_shift=c["rescale_shift"],
        zero_point=0, low=-32767, high=32767, dtype="int16",
    )  # fmt: skip
    exact = float_softmax(acc * scale)[:, watched]
    return np.abs(result[:, 0] / 32767 - exact).max()


@pytest.mark.parametrize("fraction_bits", [4, 5, 6])
@pytest.mark.parametrize(("tokens", "count"), [(2, 100), (197, 60), (1024, 20), (2048, 10)])
@pytest.mark.parametrize("kind", ["linear_pot", "linear", "table", "poly2"])
def test_attention_with_16_bit_weights_keeps_the_bound(kind, tokens, count, fraction_bits):
    for scale in (0.001, 0.0062, 0.05):
        assert attention_error(kind, 16, fraction_bits, tokens, scale, count) <= BOUND


def test_attention_with_8_bit_weights_drops_tails():
    # One peak and many equal tails: the case that calls for 16 bits.
    assert 0.1 < attention_error("linear_pot", 8, 4, 197, 0.0062) < 0.35
