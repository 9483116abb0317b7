"""How far each integer softmax is from float, for every kind, grid, output and width.

    python -m benchmarks.softmax_accuracy

The tables it prints are those of docs/numerics.md. Everything runs on the golden model; the float
softmax gets the same integer logits (and, for attention, the same integer q, k and v), so what is
measured is the softmax alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.numerics import OPERATORS
from hyq_tvm.numerics.exponential import (
    GRID_KINDS,
    LN2,
    exponent_bits,
    grid_requantizer,
    line_offset,
)
from hyq_tvm.numerics.reference.softmax import probabilities
from hyq_tvm.numerics.softmax_tables import attention_constants

Reals = NDArray[np.floating[Any]]

ACCUMULATOR_SCALE = 0.001
SIGMAS = (1.0, 2.0, 3.0, 4.0, 5.0)
LENGTHS = (16, 64, 197, 256)
FRACTION_BITS = (4, 5, 6)
KINDS = ("linear_pot", "table", "linear", "poly2")


def float_softmax(logits: Reals) -> Reals:
    """Softmax over the last axis in float64."""
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def integer_softmax(logits: Any, scale: float, kind: str, fraction_bits: int, output: str) -> Reals:
    """Real probabilities of a kind, from int32 logits of which one step is ``scale``."""
    tensors: Sequence[Any] = ()
    if kind in GRID_KINDS:
        tensors = grid_requantizer(scale, fraction_bits, logits.shape[-1]).tensors
    codes = OPERATORS["softmax"](
        logits, *tensors, kind=kind, output=output, fraction_bits=fraction_bits, scale=scale
    )
    return probabilities(codes, kind, output)


def variants() -> Iterator[tuple[str, int]]:
    """Kinds with each grid that matters to them."""
    for kind in KINDS:
        for fraction_bits in FRACTION_BITS if kind in GRID_KINDS else (4,):
            yield kind, fraction_bits


def label(kind: str, fraction_bits: int) -> str:
    """A row's name."""
    return f"{kind}, F = {fraction_bits}" if kind in GRID_KINDS else kind


def random_logits(rng: np.random.Generator, rows: int) -> Iterator[NDArray[np.int32]]:
    """Rows of normal logits at the scale of an int32 accumulator."""
    for length in LENGTHS:
        for sigma in SIGMAS:
            real = rng.normal(size=(rows, length)) * sigma
            yield np.rint(real / ACCUMULATOR_SCALE).astype(np.int32)


def errors(p: Reals, exact: Reals, values: Reals) -> tuple[float, float, float]:
    """Largest |dp|, mean KL divergence in 1e-3 nats, and relative error of P.V in percent."""
    with np.errstate(divide="ignore", invalid="ignore"):
        normal = p / p.sum(axis=-1, keepdims=True)
        terms = np.where((exact > 0) & (normal > 0), exact * np.log(exact / normal), 0.0)
    product = exact @ values
    relative = np.linalg.norm(p @ values - product) / np.linalg.norm(product)
    return float(np.abs(p - exact).max()), 1e3 * float(terms.sum(-1).mean()), 100 * float(relative)


def normalised_table(rows: int, seed: int) -> Iterator[str]:
    """Stand-alone softmax: all kinds, both outputs."""
    yield "| kind | max abs dp, uint8 | P.V %, uint8 | max abs dp, log2 | P.V %, log2 |"
    yield "|---|---|---|---|---|"
    cases = [(kind, bits, False) for kind, bits in variants()] + [("hyq", 4, True)]
    for kind, fraction_bits, narrow in cases:
        found: dict[str, list[tuple[float, float, float]]] = {"uint8": [], "log2_4bit": []}
        rng = np.random.default_rng(seed)
        for logits in random_logits(rng, rows):
            exact = float_softmax(logits * ACCUMULATOR_SCALE)
            values = rng.normal(size=(logits.shape[-1], 32))
            x, scale = (to_8_bits(logits)) if narrow else (logits, ACCUMULATOR_SCALE)
            for output, rows_found in found.items():
                p = integer_softmax(x, scale, kind, fraction_bits, output)
                rows_found.append(errors(p, exact, values))
        cells = []
        for rows_found in found.values():
            largest = max(row[0] for row in rows_found)
            relative = float(np.mean([row[2] for row in rows_found]))
            cells.append(f"{largest:.4f} | {relative:.2f}")
        name = "hyq, 8-bit logits" if narrow else label(kind, fraction_bits)
        yield f"| {name} | {' | '.join(cells)} |"


def to_8_bits(logits: NDArray[np.int32]) -> tuple[NDArray[np.int8], float]:
    """The logits on one symmetric 8-bit grid, as the published pipeline has them."""
    real = logits * ACCUMULATOR_SCALE
    scale = float(np.abs(real).max()) / 127
    return np.rint(real / scale).astype(np.int8), scale


def scale_table(seed: int) -> Iterator[str]:
    """8-bit logits at one scale: the published constants against a fine grid."""
    scales = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 1.3, 1.4, 4.0)
    yield f"| scale of 8-bit logits | {' | '.join(str(scale) for scale in scales)} |"
    yield "|---" * (len(scales) + 1) + "|"
    rng = np.random.default_rng(seed)
    x = np.clip(np.rint(rng.normal(size=(2000, 256)) * 40), -128, 127).astype(np.int32)
    for kind in ("hyq", "linear", "linear_pot"):
        cells = []
        for scale in scales:
            p = integer_softmax(x, scale, kind, 4, "uint8")
            cells.append(f"{np.abs(p - float_softmax(x * scale)).max():.3f}")
        yield f"| {kind}, max abs dp | {' | '.join(cells)} |"


def hard_rows(length: int, rows: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """One peak over equal tails, every gap from 0 to 14 nats, and clusters below a peak."""
    gaps = np.rint(np.linspace(0, 14, rows) / ACCUMULATOR_SCALE)[:, np.newaxis]
    tails = np.broadcast_to(-gaps, (rows, length)).copy()
    tails[:, 0] = 0
    clusters = np.where(rng.random((rows, length)) < 0.5, -gaps, -gaps - 20000)
    clusters[:, 0] = 0
    return np.concatenate([tails, clusters]).astype(np.int32)


def bound_table(rows: int, seed: int) -> Iterator[str]:
    """The worst rows by length."""
    lengths = (2, 16, 197, 256, 1024, 4096)
    yield f"| max abs dp, worst rows of | {' | '.join(str(n) for n in lengths)} |"
    yield "|---" * (len(lengths) + 1) + "|"
    for kind, fraction_bits in variants():
        cells = []
        for length in lengths:
            logits = hard_rows(length, rows, np.random.default_rng(seed))
            p = integer_softmax(logits, ACCUMULATOR_SCALE, kind, fraction_bits, "uint8")
            exact = float_softmax(logits * ACCUMULATOR_SCALE)
            cells.append(f"{np.abs(p - exact).max():.4f}")
        yield f"| {label(kind, fraction_bits)} | {' | '.join(cells)} |"


def width_table(seed: int) -> Iterator[str]:
    """The width of SM3 against the widest weight that the sum of a row allows."""
    yield "| tokens | bits, SM3 | max abs dp | bits, widest | max abs dp |"
    yield "|---|---|---|---|---|"
    offset = line_offset(4)
    for length in (16, 197, 1024, 4096):
        d = -np.rint(hard_rows(length, 200, np.random.default_rng(seed)) / (LN2 / 16 * 1000))
        exact = float_softmax(-d * LN2 / 16)
        cells = []
        widest = min(15 + offset.bit_length(), 31 - (length - 1).bit_length())
        for bits in (exponent_bits(length), widest):
            octave = np.minimum(d // 16, 40).astype(np.int64)
            mantissa = (offset - (d % 16).astype(np.int64)) << (bits - offset.bit_length())
            e = mantissa >> octave
            p = e / e.sum(axis=-1, keepdims=True)
            cells.append(f"{bits} | {np.abs(p - exact).max():.4f}")
        yield f"| {length} | {' | '.join(cells)} |"


def attend(
    operands: Sequence[Any], kind: str, weight_bits: int, fraction_bits: int, step: float
) -> Reals:
    """Integer attention in units of v; ``step``: the real value of one step of q.k."""
    q, k, v = operands
    scale_out = 127 / 32767
    c = attention_constants(
        step, 1.0, 1.0, 1.0, scale_out, q.shape[2], k.shape[1], kind, weight_bits, fraction_bits
    )
    result = OPERATORS["attention"](
        q, k, v, c["multiplier"], c["shift"], c["table"], kind=kind, weight_bits=weight_bits,
        fraction_bits=fraction_bits, rescale_multiplier=c["rescale_multiplier"],
        rescale_shift=c["rescale_shift"], zero_point=0, low=-32767, high=32767, dtype="int16",
    )  # fmt: skip
    return np.asarray(result * scale_out)


def exact_attention(operands: Sequence[Any], step: float) -> Reals:
    """The same in float64."""
    q, k, v = (np.asarray(t, dtype=np.float64) for t in operands)
    return np.asarray(float_softmax(q @ np.swapaxes(k, 1, 2) * step) @ v)


def random_operands(rng: np.random.Generator, heads: int, tokens: int) -> tuple[Any, Any, Any]:
    """Q, k and v of normal numbers at 30 steps a standard deviation, head_dim 32."""
    normal = [np.rint(rng.normal(size=(heads, tokens, 32)) * 30) for _ in range(3)]
    q, k, v = (np.clip(t, -127, 127).astype(np.int8) for t in normal)
    return q, k, v


def attention_table(heads: int, seed: int) -> Iterator[str]:
    """Deferred division: signal to noise of the output, mean over sigma."""
    yield f"| SQNR, dB; tokens | {' | '.join(str(n) for n in LENGTHS)} |"
    yield "|---" * (len(LENGTHS) + 1) + "|"
    for weight_bits in (8, 16):
        for kind in KINDS:
            for fraction_bits in FRACTION_BITS:
                cells = []
                for tokens in LENGTHS:
                    rng = np.random.default_rng(seed)
                    levels = []
                    for sigma in SIGMAS:
                        operands = random_operands(rng, heads, tokens)
                        step = sigma / (900 * 32**0.5)
                        exact = exact_attention(operands, step)
                        error = attend(operands, kind, weight_bits, fraction_bits, step) - exact
                        levels.append(10 * np.log10((exact**2).sum() / (error**2).sum()))
                    cells.append(f"{np.mean(levels):.1f}")
                yield f"| {kind}, F = {fraction_bits}, {weight_bits}-bit | {' | '.join(cells)} |"


def tail_rows(length: int) -> NDArray[Any]:
    """Keys whose products with (127, 1) are one peak and equal tails, a gap a row."""
    gaps = np.rint(np.linspace(0, 13, 105) / ACCUMULATOR_SCALE).astype(np.int64)
    acc = np.broadcast_to(-gaps[:, np.newaxis], (len(gaps), length)).copy()
    acc[:, 0] = 0
    high = np.rint(acc / 127).astype(np.int64)
    return np.stack([high, acc - 127 * high], axis=-1).astype(np.int8)


def tails_table() -> Iterator[str]:
    """Deferred division on its worst rows: error of the peak's probability."""
    lengths = (64, 197, 256, 1024, 2048, 3072, 4096)
    yield f"| max abs dp, one peak and equal tails | {' | '.join(str(n) for n in lengths)} |"
    yield "|---" * (len(lengths) + 1) + "|"
    for weight_bits in (8, 16):
        for kind in ("linear_pot", "table"):
            cells = []
            for length in lengths:
                k = tail_rows(length)
                q = np.broadcast_to(np.array([127, 1], dtype=np.int8), (len(k), 1, 2))
                v = np.zeros((len(k), length, 1), dtype=np.int8)
                v[:, 0] = 127
                exact = exact_attention((q, k, v), ACCUMULATOR_SCALE)
                got = attend((q, k, v), kind, weight_bits, 4, ACCUMULATOR_SCALE)
                cells.append(f"{np.abs(got - exact).max() / 127:.4f}")
            yield f"| {kind}, F = 4, {weight_bits}-bit | {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=300, help="rows a case (default 300)")
    parser.add_argument("--heads", type=int, default=4, help="heads a case (default 4)")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    tables = {
        "Normalised, random logits": normalised_table(chosen.rows, chosen.seed),
        "Scale of 8-bit logits": scale_table(chosen.seed),
        "Normalised, worst rows": bound_table(chosen.rows // 2, chosen.seed),
        "Width of the weights": width_table(chosen.seed),
        "Attention, random q, k, v": attention_table(chosen.heads, chosen.seed),
        "Attention, worst rows": tails_table(),
    }
    for title, lines in tables.items():
        print(f"\n{title}\n", flush=True)
        for line in lines:
            print(line, flush=True)


if __name__ == "__main__":
    main()
