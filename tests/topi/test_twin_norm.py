"""LN1 to LN5 in TE: the golden model's integers, without a float anywhere."""

from __future__ import annotations

import numpy as np
import pytest

from hyq_tvm import topi
from hyq_tvm.numerics.reference.norm import layer_norm_constants

RNG = np.random.default_rng(41)


def samples(dtype, shape):
    """Random rows, constant rows, both ends, almost nothing: a sample each along the first axis."""
    info = np.iinfo(dtype)
    x = RNG.integers(info.min, info.max + 1, (7, *shape)).astype(dtype)
    x[1], x[2], x[3] = info.max, info.min, 0
    flat = x.reshape(7, -1)
    flat[4, ::2], flat[4, 1::2] = -info.max, info.max
    flat[5], flat[5, 0] = info.min, info.max
    flat[6], flat[6, -1] = 0, 1
    return x


def case(op, x, count, groups=None, output="int8", eps=1e-5):
    channels = x.shape[-1]
    gamma, beta = RNG.normal(size=channels) * 2, RNG.normal(size=channels)
    scale_out = RNG.uniform(0.01, 0.05, channels) if output == "int8" else 0.0003
    g, b, epsilon, shift = layer_norm_constants(gamma, beta, eps, 0.01, scale_out, count)
    bounds = {"int8": (-5, -128, 127), "int16": (0, -32767, 32767)}[output]
    params = {"epsilon": epsilon, "shift": shift, "dtype": output}
    params.update(zip(("zero_point", "low", "high"), bounds, strict=True))
    return op, params if groups is None else {**params, "groups": groups}, [x, g, b]


def layer_norm(width, dtype, **options):
    return case("layer_norm", samples(dtype, (width,)), width, **options)


def group_norm(positions, channels, groups, dtype, **options):
    x = samples(dtype, (positions, channels))
    return case("group_norm", x, positions * channels // groups, groups, **options)


def test_ln_layer_norm(assert_twins):
    widths = (1, 2, 15, 16, 17, 192, 1024)
    cases = {f"{w} {d}": layer_norm(w, d) for w in widths for d in ("int8", "int16")}
    cases["int16 output"] = layer_norm(144, "int16", output="int16")
    cases["no eps"] = layer_norm(5, "int8", eps=0.0)
    assert_twins(cases)


def test_ln_group_norm(assert_twins):
    shapes = ((1, 1, 1), (5, 6, 3), (7, 12, 12), (256, 128, 1), (257, 128, 1), (1024, 128, 2))
    cases = {f"{s} {d}": group_norm(*s, d) for s in shapes for d in ("int8", "int16")}
    cases["int16 output"] = group_norm(9, 8, 2, "int16", output="int16")
    assert_twins(cases)


def test_ln_group_norm_refuses_groups_that_do_not_divide():
    _, params, arrays = group_norm(2, 6, 3, "int8")
    with pytest.raises(ValueError, match="4 groups"):
        topi.prim_func(
            "group_norm", {**params, "groups": 4}, [(a.shape, str(a.dtype)) for a in arrays]
        )


@pytest.mark.parametrize("build", [lambda: layer_norm(9, "int16"),
                                   lambda: group_norm(3, 6, 2, "int8")])  # fmt: skip
def test_ln_no_float(build, float_dtypes):
    op, params, arrays = build()
    function = topi.prim_func(op, params, [(a.shape, str(a.dtype)) for a in arrays])
    assert float_dtypes(function) == set()
