"""The TE operators make the golden model's integers on the CPU, whatever the geometry."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hyq_tvm import numerics, topi
from hyq_tvm.numerics.fixed_point import quantize_multiplier
from hyq_tvm.topi.registry import encode_params, operator

RNG = np.random.default_rng(811)
REQUANTIZE = {"kind": "requantize", "zero_point": 3, "low": -128, "high": 127, "dtype": "int8"}
WIDE = {"kind": "requantize", "zero_point": 0, "low": -32767, "high": 32767, "dtype": "int16"}


def ints(dtype, *shape):
    info = np.iinfo(dtype)
    values = RNG.integers(info.min, info.max + 1, shape).astype(dtype)
    # Both ends of the range in every array that has room for them.
    values.flat[0], values.flat[-1] = info.min, info.max
    return values


def int8(*shape):
    return ints(np.int8, *shape)


def factors(*shape, near=0.01):
    return quantize_multiplier(RNG.uniform(near / 2, near * 2, shape))


def conv_case(shape, weight, strides, padding, dilation=(1, 1), groups=1, epilogue=None):
    near = 100 / (128 * 128 * np.sqrt(np.prod(weight[1:])))
    tensors = [] if epilogue == [] else factors(weight[0], near=near)
    stages = [REQUANTIZE] if epilogue is None else epilogue
    params = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups,
              "pad_value": -7, "epilogue": stages}  # fmt: skip
    bias = RNG.integers(-5000, 5000, weight[0]).astype(np.int32)
    return "conv2d", params, [int8(*shape), int8(*weight), bias, *tensors]


def test_c1_conv2d(assert_twins):
    none = (0, 0, 0, 0)
    assert_twins(
        {
            "pointwise": conv_case((2, 3, 5, 7), (9, 1, 1, 7), (1, 1), none),
            "accumulator": conv_case((1, 5, 5, 3), (2, 3, 3, 3), (1, 1), (1, 1, 1, 1), epilogue=[]),
            "uneven padding": conv_case((1, 7, 5, 3), (5, 3, 3, 3), (2, 1), (0, 1, 2, 1)),
            "stride over kernel": conv_case((1, 9, 8, 2), (3, 1, 2, 2), (3, 4), none),
            "dilated": conv_case((1, 9, 9, 2), (3, 3, 2, 2), (1, 2), (2, 1, 2, 1), (2, 3)),
            "grouped": conv_case((2, 5, 5, 6), (9, 3, 3, 2), (1, 1), (1, 1, 1, 1), groups=3),
            "depthwise": conv_case((2, 6, 5, 5), (5, 3, 3, 1), (2, 2), (1, 1, 1, 1), groups=5),
            "multiplier": conv_case((1, 4, 4, 3), (6, 2, 2, 1), (1, 1), none, groups=3),
            "one channel": conv_case((1, 4, 4, 1), (4, 3, 3, 1), (1, 1), (1, 1, 1, 1)),
            "one output": conv_case((3, 1, 1, 4), (1, 1, 1, 4), (1, 1), none),
        }
    )


def test_m1_m2_products(assert_twins):
    def dense(m, n, k):
        bias = RNG.integers(-5000, 5000, n).astype(np.int32)
        near = 0.01 / np.sqrt(k)
        params = {"epilogue": [REQUANTIZE]}
        return "dense", params, [int8(m, k), int8(n, k), bias, *factors(n, near=near)]

    def matmul(b, m, n, k):
        arrays = [int8(b, m, k), int8(b, n, k), *factors(1, near=0.01 / np.sqrt(k))]
        return "matmul", {"epilogue": [WIDE]}, arrays

    assert_twins(
        {
            "dense": dense(5, 3, 13),
            "one row": dense(1, 17, 33),
            "one of all": dense(1, 1, 1),
            "matmul": matmul(3, 5, 2, 7),
            "matmul of vectors": matmul(2, 1, 9, 1),
            "accumulator": ("matmul", {"epilogue": []}, [int8(2, 3, 65), int8(2, 3, 65)]),
        }
    )


def add_case(a, b, *, shift, bits, channels=1, **changes):
    top = 2**bits
    # At least one multiplier at the top of its range, where 32-bit arithmetic would wrap first.
    ma = RNG.integers(top // 2, top, channels).astype(np.int32)
    mb = np.array([top - 1], np.int32)
    params = {"zero_point_a": 0, "zero_point_b": 0, "shift": shift, "zero_point": 1, "low": -128,
              "high": 127, "dtype": "int8", **changes}  # fmt: skip
    return "add", params, [a, b, ma, mb]


def test_a1_add(assert_twins):
    wide = {"low": -32767, "high": 32767, "dtype": "int16", "zero_point": 0}
    a = np.arange(-128, 128, dtype=np.int8)[:, None]
    b = np.arange(-128, 128, dtype=np.int8)[None, :]
    x, y = ints(np.int16, 3, 5, 8), ints(np.int16, 3, 5, 8)
    narrow = {"multiplier_bits": 15}
    assert_twins(
        {
            "all pairs, 31 bits": add_case(a, b, shift=31, bits=31, zero_point_a=127),
            "all pairs, 15 bits": add_case(a, b, shift=15, bits=15, zero_point_a=-128, **narrow),
            "no shift": add_case(a, b, shift=0, bits=2, zero_point_b=5),
            "16 bits": add_case(x, y, shift=31, bits=31, **wide),
            "16 bits in 32": add_case(x, y, shift=16, bits=15, **wide, **narrow),
            "mixed": add_case(x, int8(8), shift=16, bits=15, channels=8, **wide, **narrow),
            "broadcast": add_case(int8(2, 1, 4), int8(3, 1), shift=20, bits=20, channels=4),
        }
    )


def test_a1_add_uses_32_bits_exactly_where_they_suffice():
    def uses_int64(dtype, bits):
        params = add_case(int8(4), int8(4), shift=bits, bits=bits, multiplier_bits=bits)[1]
        arguments = [((4,), dtype), ((4,), dtype), ((1,), "int32"), ((1,), "int32")]
        return "int64" in topi.prim_func("add", params, arguments).script()

    # 2 * 128 * (2^22 - 1) and 2 * 32768 * (2^15 - 1) plus the rounding constant stay below 2^31.
    assert [uses_int64("int8", bits) for bits in (8, 22, 23, 31)] == [False, False, True, True]
    assert [uses_int64("int16", bits) for bits in (8, 15, 16, 31)] == [False, False, True, True]


def test_a2_a3_a4_elementwise(assert_twins):
    a = np.arange(-128, 128, dtype=np.int8)[:, None]
    b = np.arange(-128, 128, dtype=np.int8)[None, :]
    zero_points = {"zero_point_a": 4, "zero_point_b": -9}
    sums = {"zero_point": -3, "epilogue": [REQUANTIZE]}
    assert_twins(
        {
            "multiply": ("multiply", {**zero_points, "epilogue": []}, [a, b]),
            "multiply, requantized": (
                "multiply", {**zero_points, "epilogue": [REQUANTIZE]}, [a, b, *factors(1)],
            ),
            "multiply, broadcast": (
                "multiply", {**zero_points, "epilogue": []},
                [ints(np.int16, 2, 1, 5).clip(-9999, 9999), int8(3, 1)],
            ),
            "identity": ("identity", {"zero_point": -128, "epilogue": []}, [ints(np.int16, 7)]),
            "identity, per channel": (
                "identity", {"zero_point": 5, "epilogue": [WIDE]},
                [int8(4, 3), *factors(3, near=90)],
            ),
            "sum of rows": (
                "reduce_sum", {**sums, "axes": [0, 1], "keepdims": True},
                [int8(5, 3, 4), *factors(4, near=0.1)],
            ),
            "sum of one axis": (
                "reduce_sum", {**sums, "axes": [-1], "keepdims": False},
                [ints(np.int16, 3, 2, 9), *factors(1, near=0.001)],
            ),
        }
    )  # fmt: skip


def test_p1_p2_pooling(assert_twins):
    def pools(shape, kernel, strides, padding, dtype=np.int8):
        geometry = {"kernel": kernel, "strides": strides, "padding": padding}
        x = ints(dtype, *shape)
        multiplier = factors(1, near=1 / np.prod(kernel))
        average = {**geometry, "zero_point": 7, "epilogue": [REQUANTIZE]}
        return ("avg_pool2d", average, [x, *multiplier]), ("max_pool2d", geometry, [x])

    cases = {
        "padded": pools((2, 5, 6, 3), (3, 2), (2, 3), (1, 1, 0, 0)),
        "global": pools((2, 5, 7, 4), (5, 7), (1, 1), (0, 0, 0, 0)),
        "stride over kernel": pools((1, 5, 5, 1), (1, 1), (2, 2), (0, 0, 0, 0), np.int16),
        "padding on every side": pools((1, 4, 4, 2), (3, 3), (1, 1), (1, 1, 1, 1)),
    }
    flat = {f"{kind} {name}": c for name, pair in cases.items() for kind, c in zip("am", pair)}  # noqa: B905
    counts = np.array([[4, 6, 4], [6, 9, 6], [4, 6, 4]])[..., None]
    by_position = {**cases["padding on every side"][0][1]}
    flat["by position"] = (
        "avg_pool2d", by_position, [int8(2, 3, 3, 5), *quantize_multiplier(1 / counts)],
    )  # fmt: skip
    assert_twins(flat)


def test_l1_l2_l3_layout(assert_twins):
    x = np.arange(2 * 6 * 4 * 3, dtype=np.int16).reshape(2, 6, 4, 3)

    def view(shape, strides, offset=0):
        return "view", {"shape": shape, "strides": strides, "offset": offset}, [x]

    assert_twins(
        {
            "concat": ("concat", {"axis": 1}, [int8(2, 1, 3), int8(2, 4, 3), int8(2, 2, 3)]),
            "concat, last axis": ("concat", {"axis": -1}, [int8(2, 1), int8(2, 5)]),
            "concat of one": ("concat", {"axis": 0}, [int8(2, 2)]),
            "reshape": view([4, 36], [36, 1]),
            "permute": view([3, 2, 4, 6], [1, 72, 3, 12]),
            "patches": view([2, 2, 2, 3, 2, 3], [72, 6, 3, 24, 12, 1]),
            "slice": view([2, 3, 2], [72, 24, 1], 13),
            "broadcast": view([5, 3], [0, 1], 9),
            "pad": ("pad", {"pads": [[0, 1], [2, 0], [0, 0]], "value": -9}, [int8(2, 3, 2)]),
            "pad by nothing": ("pad", {"pads": [[0, 0]], "value": 1}, [int8(3)]),
        }
    )


def test_l2_random_views(assert_twins):
    """Chains of reshape, permute, slice and broadcast, as strides over a source of odd shape."""
    cases = {}
    for number in range(40):
        rank = int(RNG.integers(1, 5))
        source = RNG.integers(1, 7, rank)
        x = np.arange(np.prod(source), dtype=np.int16)
        y = x.reshape(RNG.permutation(source)).transpose(RNG.permutation(rank))
        y = y[tuple(slice(int(RNG.integers(0, n)), None, int(RNG.integers(1, 3))) for n in y.shape)]
        y = np.broadcast_to(y, (int(RNG.integers(1, 3)), *y.shape))
        params = {
            "shape": y.shape,
            "strides": [s // 2 for s in y.strides],
            "offset": int(y.flat[0]),
        }
        np.testing.assert_array_equal(numerics.OPERATORS["view"](x, **params), y)
        cases[f"{number}: {source} {params}"] = ("view", params, [x.reshape(source)])
    assert_twins(cases)


def test_l2_view_indices_are_simplified():
    params = {"shape": [2, 3, 5, 4], "strides": [60, 4, 12, 1], "offset": 0}
    text = topi.prim_func("view", params, [((2, 5, 12), "int8")]).script()
    assert "arg0[v_i0, v_i2, v_i1 * 4 + v_i3]" in text


def test_n2_edges(assert_twins):
    rng = np.random.default_rng(3)
    scale = 0.0123
    steps = np.arange(-300, 300, dtype=np.float32)
    ties = (steps[:, None] + np.array([-0.5, 0.0, 0.5], np.float32)) * np.float32(scale)
    spread = (rng.normal(size=4000) * 10.0 ** rng.integers(-40, 38, 4000)).astype(np.float32)
    x = np.concatenate([
        ties.ravel(), np.nextafter(ties.ravel(), np.float32(np.inf)), spread,
        np.array([np.inf, -np.inf, 0.0, -0.0], np.float32),
    ])  # fmt: skip
    narrow = {"zero_point": -3, "low": -128, "high": 127, "dtype": "int8"}
    wide = {"zero_point": 0, "low": -32767, "high": 32767, "dtype": "int16"}
    channels = [0.1, 0.25, 3.0, 1e-3, 7e5]
    every = np.arange(-(2**15), 2**15, dtype=np.int16)
    logits = np.array([-(2**31) + 3, -(2**24) - 1, 2**24 + 1, 2**31 - 1], np.int32)
    assert_twins(
        {
            "quantize": ("quantize", {"scale": scale, **narrow}, [x]),
            "quantize, exact ties": ("quantize", {"scale": 0.5, **narrow}, [steps / 4]),
            "quantize, list": ("quantize", {"scale": [scale], **wide}, [x]),
            "quantize, channels": (
                "quantize", {"scale": channels, **narrow}, [x[-4005:].reshape(-1, 5)],
            ),
            "dequantize": ("dequantize", {"scale": [0.1], "zero_point": 7}, [every]),
            "dequantize, tiny": ("dequantize", {"scale": [1e-37], "zero_point": 0}, [every]),
            "dequantize, channels": (
                "dequantize", {"scale": channels, "zero_point": -128}, [int8(9, 5)],
            ),
            "dequantize, wide": ("dequantize", {"scale": [1 / 3], "zero_point": 0}, [logits]),
        }
    )  # fmt: skip


def test_every_golden_operator_has_a_twin():
    assert sorted(topi.OPERATORS) == sorted(numerics.OPERATORS)


def test_prim_func_carries_its_operator_and_parameters():
    params = {"pads": [(0, np.int64(1))], "value": np.int8(2)}
    function = topi.prim_func("pad", params, [((3,), "int8")])
    assert str(function.attrs["hyq.op"]) == "pad"
    text = str(function.attrs["hyq.params"])
    assert text == '{"pads": [[0, 1]], "value": 2}'
    np.testing.assert_array_equal(
        numerics.OPERATORS["pad"](np.ones(3, np.int8), **json.loads(text)), [1, 1, 1, 2]
    )


def test_params_keep_every_bit_of_a_scale():
    scale = float(np.float32(0.1)) / 3
    assert json.loads(encode_params({"scale": np.float64(scale)}))["scale"] == scale
    assert json.loads(encode_params({"scale": [np.float32(0.1)]}))["scale"] == [
        float(np.float32(0.1))
    ]


def test_unknown_and_repeated_operators_are_refused():
    with pytest.raises(ValueError, match=r"known: .*conv2d"):
        topi.prim_func("conv3d", {}, [])
    with pytest.raises(ValueError, match="twice"):
        operator("conv2d")(lambda: None)


@pytest.mark.parametrize(
    ("op", "params", "shapes", "message"),
    [
        ("view", {"shape": [2], "strides": [9], "offset": 0}, [(2, 4)], "view reads"),
        ("multiply", {"zero_point_a": 0, "zero_point_b": 0, "epilogue": []}, [(2, 3), (4, 3)],
         "broadcast"),
        ("identity", {"zero_point": 0, "epilogue": [REQUANTIZE]}, [(3,)], "0 tensors"),
        ("max_pool2d", {"kernel": [3, 3], "strides": [1, 1], "padding": [0, 0, 0, 0]},
         [(1, 2, 2, 1)], "does not fit"),
    ],
)  # fmt: skip
def test_geometry_errors_come_before_compilation(op, params, shapes, message):
    with pytest.raises(ValueError, match=message):
        topi.prim_func(op, params, [(shape, "int8") for shape in shapes])
