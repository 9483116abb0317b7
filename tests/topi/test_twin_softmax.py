"""SM1 to SM9 in TE: the golden model's integers, without a float anywhere."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax, te, tirx

from hyq_tvm import numerics, topi
from hyq_tvm.errors import ConfigError
from hyq_tvm.numerics.exponential import GRID_KINDS, INTEGER_KINDS, OUTPUTS, grid_requantizer
from hyq_tvm.numerics.softmax_tables import probability_rescale

RNG = np.random.default_rng(67)
SCALES = {"int8": 0.1, "int16": 0.01, "int32": 3e-4}
LENGTHS = (1, 2, 15, 16, 17, 197, 256, 257, 1024)
NO_GRID = ("hyq", "grid")


def logits(length, dtype, scale):
    info = np.iinfo(dtype)
    x = np.clip(np.rint(RNG.normal(size=(7, length)) * 4 / scale), info.min, info.max).astype(dtype)
    x[0], x[1], x[2] = info.max, info.min, 0
    x[3, 0], x[3, -1] = info.max, info.min
    x[4], x[4, 0] = info.min, info.max
    # Neighbours of the row's maximum at the bounds of octaves.
    steps = np.rint(np.arange(length) * np.log(2) / 4 / scale) + RNG.integers(-1, 2, length)
    x[5] = np.clip(info.max - np.clip(steps, 0, None), info.min, info.max).astype(dtype)
    return x


def case(length, kind, output="uint8", dtype="int32", fraction_bits=4, requantized=True):
    scale = SCALES[dtype] if kind != "hyq" or dtype != "int32" else 0.01
    x = logits(length, dtype, scale)
    tensors = []
    params = {"kind": kind, "output": output, "fraction_bits": fraction_bits, "scale": scale}
    if kind in GRID_KINDS and requantized:
        tensors = grid_requantizer(scale, fraction_bits, length).tensors
    if output == "grid":
        multiplier, shift = probability_rescale(0.0003)
        params.update(rescale_multiplier=multiplier, rescale_shift=shift)
        params.update(zero_point=-7, low=-128, high=127, dtype="int8")
    return "softmax", params, [x, *tensors]


def test_sm_lengths(assert_twins):
    cases = {f"{n} linear_pot": case(n, "linear_pot") for n in LENGTHS}
    for kind in INTEGER_KINDS[1:]:
        cases.update({f"{n} {kind}": case(n, kind) for n in (1, 17, 197, 257)})
    assert_twins(cases)


def test_sm_outputs_and_dtypes(assert_twins):
    cases = {}
    for kind in INTEGER_KINDS:
        for output in OUTPUTS[1:]:
            if (kind, output) != NO_GRID:
                cases[f"{kind} {output}"] = case(40, kind, output)
        for dtype in ("int8", "int16"):
            cases[f"{kind} {dtype}"] = case(17, kind, dtype=dtype)
    for dtype in SCALES:
        cases[f"{dtype} on the grid"] = case(40, "linear_pot", dtype=dtype, requantized=False)
        cases[f"{dtype} table on the grid"] = case(40, "table", dtype=dtype, requantized=False)
    assert_twins(cases)


def test_sm_fraction_bits_and_long_rows(assert_twins):
    cases = {}
    for fraction_bits in (1, 5, 6, 8):
        for kind in GRID_KINDS:
            cases[f"{kind} {fraction_bits}"] = case(33, kind, fraction_bits=fraction_bits)
            cases[f"{kind} {fraction_bits} int8"] = case(
                33, kind, dtype="int8", fraction_bits=fraction_bits, requantized=False
            )
    cases["4096"] = case(4096, "linear_pot", "log2_4bit")
    cases["4096 int8 grid"] = case(4096, "poly2", "grid", "int8")
    assert_twins(cases)


def test_sm_any_rank(assert_twins):
    for shape in ((12,), (2, 3, 4, 9)):
        x = RNG.integers(-200, 200, shape).astype(np.int16)
        assert_twins({str(shape): ("softmax", {"kind": "linear_pot", "output": "uint8"}, [x])})


@pytest.fixture(scope="module")
def kernels():
    """Softmax of one row of 24 int32 logits, a kind each, with the requantizer as data."""
    functions = {}
    for kind in GRID_KINDS:
        shapes = [((1, 24), "int32"), *[((1,), "int32")] * 3]
        functions[kind] = topi.prim_func("softmax", {"kind": kind}, shapes).with_attr(
            "global_symbol", kind
        )
    return tvm.compile(tvm.IRModule(functions), target="llvm")


@settings(max_examples=200)
@given(
    row=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=24, max_size=24),
    near=st.integers(0, 31),
    exponent=st.floats(-27, 6),
    kind=st.sampled_from(GRID_KINDS),
)
def test_sm_anything_over_the_whole_int32_range(kernels, row, near, exponent, kind):
    x = (np.array(row, dtype=np.int64) >> near).astype(np.int32)[np.newaxis]
    tensors = grid_requantizer(2.0**exponent, 4, 24).tensors
    out = tvm.runtime.empty((1, 24), "uint8")
    kernels[kind](*[tvm.runtime.tensor(a) for a in (x, *tensors)], out)
    expected = numerics.OPERATORS["softmax"](x, *tensors, kind=kind)
    np.testing.assert_array_equal(out.numpy(), expected, strict=True)


@pytest.mark.parametrize(
    ("kind", "output"),
    [(kind, output) for kind in INTEGER_KINDS for output in OUTPUTS if (kind, output) != NO_GRID],
)
def test_sm_no_float(kind, output, float_dtypes):
    op, params, arrays = case(9, kind, output)
    function = topi.prim_func(op, params, [(a.shape, str(a.dtype)) for a in arrays])
    assert float_dtypes(function) == set()


@pytest.mark.parametrize("kind", INTEGER_KINDS)
@pytest.mark.parametrize("output", ["uint8", "log2_4bit"])
def test_linear_softmax_in_a_module_of_ones_own(kind, output):
    scale = 0.004
    x = te.placeholder((3, 5, 20), "int32", name="logits")
    y = topi.linear_softmax(x, scale=scale, kind=kind, output=output)
    function = te.create_prim_func([x, y]).with_attr("global_symbol", "main")
    module = tvm.compile(tvm.IRModule({"main": function}), target="llvm")
    values = RNG.integers(-3000, 3000, (3, 5, 20)).astype(np.int32)
    out = tvm.runtime.empty((3, 5, 20), "uint8")
    module["main"](tvm.runtime.tensor(values), out)
    tensors = grid_requantizer(scale, 4, 20).tensors if kind in GRID_KINDS else ()
    expected = numerics.OPERATORS["softmax"](
        values, *tensors, kind=kind, output=output, scale=scale
    )
    np.testing.assert_array_equal(out.numpy(), expected, strict=True)


def test_linear_softmax_inside_relax():
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4, 30), "int16"))
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(builder.call_te(topi.linear_softmax, x))
        builder.emit_func_output(result)
    machine = relax.VirtualMachine(tvm.compile(builder.get(), target="llvm"), tvm.cpu())
    values = RNG.integers(-300, 300, (4, 30)).astype(np.int16)
    result = machine["main"](tvm.runtime.tensor(values)).numpy()
    np.testing.assert_array_equal(result, numerics.OPERATORS["softmax"](values), strict=True)


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "match"),
    [
        ((3, 4), "float32", {}, "float32"),
        ((3, 4), "int8", {"kind": "exact"}, "exact"),
        ((3, 4), "int8", {"output": "grid"}, "grid"),
        ((3, 4), "int8", {"output": "int4"}, "int4"),
        ((3, 4), "int8", {"scale": -1.0}, "scale"),
        ((3, 4), "int8", {"fraction_bits": 11}, "fraction_bits"),
        ((3, tirx.Var("n", "int64")), "int8", {}, "constant length"),
        ((), "int8", {}, "constant length"),
    ],
)
def test_linear_softmax_refuses(shape, dtype, options, match):
    with pytest.raises(ConfigError, match=match):
        topi.linear_softmax(te.placeholder(shape, dtype, name="x"), **options)


def test_sm_blocks_have_stable_names():
    op, params, arrays = case(9, "table")
    function = topi.prim_func(op, params, [(a.shape, str(a.dtype)) for a in arrays])
    schedule = tvm.s_tir.Schedule(tvm.IRModule({"main": function}))
    blocks = schedule.get_child_blocks(schedule.get_sblock("root", "main"))
    assert [schedule.get(block).name_hint for block in blocks] == [
        "softmax_max",
        "softmax_mantissa",
        "softmax_exp",
        "softmax_sum",
        "softmax_multiplier",
        "softmax_shift",
        "softmax",
    ]
