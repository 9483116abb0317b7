"""Clauses C1, M1, M2, A1 to A4, P1, P2, L1 to L3 against loops in Python integers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyq_tvm.errors import AccumulatorOverflowError
from hyq_tvm.numerics import OPERATORS
from hyq_tvm.numerics.reference.conv import PATCH_ELEMENTS, conv2d
from hyq_tvm.numerics.reference.matmul import exact_matmul
from hyq_tvm.numerics.registry import operator
from hyq_tvm.numerics.windows import output_size

RNG = np.random.default_rng(20240521)


def int8(*shape):
    return RNG.integers(-128, 128, shape).astype(np.int8)


def naive_conv(x, weight, bias, strides, padding, dilation, groups, pad_value):
    top, left, bottom, right = padding
    x = np.pad(x.astype(np.int64), ((0, 0), (top, bottom), (left, right), (0, 0)),
               constant_values=pad_value)  # fmt: skip
    outputs, kh, kw, inputs = weight.shape
    oh = (x.shape[1] - dilation[0] * (kh - 1) - 1) // strides[0] + 1
    ow = (x.shape[2] - dilation[1] * (kw - 1) - 1) // strides[1] + 1
    out = np.zeros((len(x), oh, ow, outputs), dtype=np.int64)
    for o in range(outputs):
        first = o // (outputs // groups) * inputs
        for h, w, i, j in itertools.product(range(oh), range(ow), range(kh), range(kw)):
            pixel = x[:, h * strides[0] + i * dilation[0], w * strides[1] + j * dilation[1]]
            out[:, h, w, o] += pixel[:, first : first + inputs] @ weight[o, i, j].astype(np.int64)
    return out + bias


CONVS = {
    "pointwise": ((2, 3, 5, 7), (4, 1, 1, 7), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "uneven padding": ((1, 7, 5, 3), (5, 3, 3, 3), (2, 1), (0, 1, 2, 1), (1, 1), 1),
    "stride over kernel": ((1, 9, 8, 2), (3, 1, 2, 2), (3, 4), (0, 0, 0, 0), (1, 1), 1),
    "dilated": ((1, 9, 9, 2), (3, 3, 2, 2), (1, 2), (2, 1, 2, 1), (2, 3), 1),
    "grouped": ((2, 5, 5, 6), (9, 3, 3, 2), (1, 1), (1, 1, 1, 1), (1, 1), 3),
    "depthwise": ((2, 6, 5, 5), (5, 3, 3, 1), (2, 2), (1, 1, 1, 1), (1, 1), 5),
    "channel multiplier": ((1, 4, 4, 3), (6, 2, 2, 1), (1, 1), (0, 0, 0, 0), (1, 1), 3),
    "one channel": ((1, 4, 4, 1), (4, 3, 3, 1), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "one pixel": ((3, 1, 1, 4), (1, 1, 1, 4), (1, 1), (0, 0, 0, 0), (1, 1), 1),
}


@pytest.mark.parametrize("case", CONVS)
def test_c1_conv2d_equals_loops(case):
    shape, weight_shape, strides, padding, dilation, groups = CONVS[case]
    x, weight = int8(*shape), int8(*weight_shape)
    bias = RNG.integers(-(2**20), 2**20, weight_shape[0]).astype(np.int32)
    geometry = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups,
                "pad_value": -7}  # fmt: skip
    got = OPERATORS["conv2d"](x, weight, bias, **geometry, epilogue=[])
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, naive_conv(x, weight, bias, **geometry))


def test_c1_a_batch_larger_than_the_patch_limit_is_the_same(monkeypatch):
    import hyq_tvm.numerics.reference.conv as module

    x, weight, bias = int8(5, 6, 6, 3), int8(4, 3, 3, 3), np.zeros(4, np.int32)
    geometry = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1,
                "pad_value": 0, "epilogue": []}  # fmt: skip
    whole = conv2d(x, weight, bias, **geometry)
    assert x.size * 9 < PATCH_ELEMENTS
    monkeypatch.setattr(module, "PATCH_ELEMENTS", 2 * 6 * 6 * 27)
    np.testing.assert_array_equal(conv2d(x, weight, bias, **geometry), whole)


def test_c1_groups_that_do_not_match_are_an_error():
    with pytest.raises(ValueError, match="2 groups"):
        conv2d(int8(1, 3, 3, 4), int8(4, 1, 1, 4), np.zeros(4, np.int32), strides=(1, 1),
               padding=(0,) * 4, dilation=(1, 1), groups=2, pad_value=0, epilogue=[])  # fmt: skip


def test_windows_larger_than_the_image_are_an_error():
    assert output_size(5, 1, 1, 3, 2) == 3
    with pytest.raises(ValueError, match="does not fit"):
        output_size(2, 0, 0, 3, 1)


@pytest.mark.parametrize("k", [1, 7, 1023, 1024, 1025, 1041, 5001])
def test_n4_products_are_exact_at_every_width(k):
    # The largest magnitudes there are, even and odd (127 * 127 * 1041 is odd and above 2^24), so
    # that any rounding of a partial sum would show.
    a = np.full((3, k), -128, np.int8)
    b = np.stack([np.full(k, -128, np.int8), np.full(k, 127, np.int8), int8(k)])
    a[1], a[2] = int8(k), 127
    exact = a.astype(np.int64) @ b.astype(np.int64).T
    np.testing.assert_array_equal(exact_matmul(a, b), exact)


def test_n4_products_of_wide_integers_are_exact():
    a = np.array([[2**40, 3]], dtype=np.int64)
    b = np.array([[2**14, -1], [0, 2**20 + 1]], dtype=np.int64)
    with pytest.raises(AccumulatorOverflowError):
        exact_matmul(a, b)
    a = np.array([[2**53 + 1, 2**53]], dtype=np.int64)
    b = np.array([[1, -1]], dtype=np.int64)
    np.testing.assert_array_equal(exact_matmul(a, b), [[1]])


def test_n4_an_overflowing_bias_is_an_error():
    x, weight = np.full((1, 1), 127, np.int8), np.full((1, 1), 127, np.int8)
    with pytest.raises(AccumulatorOverflowError, match="int32"):
        OPERATORS["dense"](x, weight, np.array([2**31 - 1], np.int32), epilogue=[])


def test_m1_dense_adds_its_bias():
    x, weight, bias = int8(5, 13), int8(3, 13), np.array([1, -(2**30), 7], np.int32)
    exact = x.astype(np.int64) @ weight.astype(np.int64).T + bias
    np.testing.assert_array_equal(OPERATORS["dense"](x, weight, bias, epilogue=[]), exact)


def test_m2_matmul_is_batched_and_transposes_its_second_operand():
    a, b = int8(3, 5, 7), int8(3, 2, 7)
    exact = np.einsum("bmk,bnk->bmn", a.astype(np.int64), b.astype(np.int64))
    got = OPERATORS["matmul"](a, b, epilogue=[])
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, exact)
    with pytest.raises(ValueError, match="matmul of"):
        OPERATORS["matmul"](a, int8(2, 2, 7), epilogue=[])


ADD = {"zero_point_a": 3, "zero_point_b": -5, "shift": 2, "zero_point": 1, "low": -128,
       "high": 127, "dtype": "int8"}  # fmt: skip


def test_a1_add_every_pair_of_8_bit_values():
    a = np.arange(-128, 128, dtype=np.int8)[:, None]
    b = np.arange(-128, 128, dtype=np.int8)[None, :]
    got = OPERATORS["add"](a, b, np.array([3], np.int32), np.array([2], np.int32), **ADD)
    real = ((a.astype(int) - 3) * 3 + (b.astype(int) + 5) * 2) / 4
    np.testing.assert_array_equal(got, np.clip(np.floor(real + 0.5) + 1, -128, 127))
    assert got.dtype == np.int8


def test_a1_add_per_channel_and_broadcast():
    a, b = int8(2, 3, 4), int8(4)
    ma, mb = np.array([1, 2, 3, 4], np.int32), np.array([2**31 - 1], np.int32)
    params = {**ADD, "shift": 30, "low": -32767, "high": 32767, "dtype": "int16"}
    got = OPERATORS["add"](a, b, ma, mb, **params)
    for index in np.ndindex(got.shape):
        total = (int(a[index]) - 3) * int(ma[index[-1]]) + (int(b[index[-1]]) + 5) * (2**31 - 1)
        assert int(got[index]) == min(max(((total + 2**29) >> 30) + 1, -32767), 32767)


@pytest.mark.parametrize("multiplier", [-1, 2**15])
def test_a1_multipliers_keep_their_promise(multiplier):
    bad = np.array([multiplier], np.int32)
    with pytest.raises(ValueError, match="multiplier of add"):
        OPERATORS["add"](int8(1), int8(1), bad, bad, **ADD, multiplier_bits=15)


def test_a2_multiply_every_pair_of_8_bit_values():
    a = np.arange(-128, 128, dtype=np.int8)[:, None]
    b = np.arange(-128, 128, dtype=np.int8)[None, :]
    got = OPERATORS["multiply"](a, b, zero_point_a=4, zero_point_b=-9, epilogue=[])
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, (a.astype(int) - 4) * (b.astype(int) + 9))


def test_a2_a_product_beyond_int32_is_an_error():
    wide = np.array([-32768], np.int16)
    with pytest.raises(AccumulatorOverflowError):
        OPERATORS["multiply"](wide, wide, zero_point_a=32767, zero_point_b=32767, epilogue=[])


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_a3_identity_subtracts_the_zero_point(dtype):
    x = np.array([np.iinfo(dtype).min, 0, np.iinfo(dtype).max], dtype=dtype)
    got = OPERATORS["identity"](x, zero_point=-128, epilogue=[])
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, x.astype(int) + 128)


@pytest.mark.parametrize("axes", [[0], [1, 2], [-1], [0, 1, 2]])
@pytest.mark.parametrize("keepdims", [False, True])
def test_a4_reduce_sum(axes, keepdims):
    x = int8(3, 4, 5)
    got = OPERATORS["reduce_sum"](x, axes=axes, keepdims=keepdims, zero_point=-3, epilogue=[])
    exact = (x.astype(int) + 3).sum(axis=tuple(axes), keepdims=keepdims)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, exact)


def test_a4_a_sum_beyond_int32_is_an_error():
    x = np.full((70000,), 32767, np.int16)
    with pytest.raises(AccumulatorOverflowError):
        OPERATORS["reduce_sum"](x, axes=[0], keepdims=False, zero_point=0, epilogue=[])


@pytest.mark.parametrize(
    ("kernel", "strides", "padding"),
    [
        ((3, 2), (2, 3), (1, 1, 0, 0)),
        ((5, 6), (1, 1), (0, 0, 0, 0)),
        ((1, 1), (2, 2), (0, 0, 0, 0)),
    ],
)
def test_p1_p2_pooling(kernel, strides, padding):
    x = int8(2, 5, 6, 3)
    top, left, bottom, right = padding
    wide = np.full((2, 5 + top + bottom, 6 + left + right, 3), -99999)
    wide[:, top : top + 5, left : left + 6] = x
    geometry = {"kernel": kernel, "strides": strides, "padding": padding}
    sums = OPERATORS["avg_pool2d"](x, **geometry, zero_point=7, epilogue=[])
    maxima = OPERATORS["max_pool2d"](x, **geometry)
    assert sums.dtype == np.int32
    assert maxima.dtype == np.int8
    for b, h, w, c in np.ndindex(sums.shape):
        rows = slice(h * strides[0], h * strides[0] + kernel[0])
        columns = slice(w * strides[1], w * strides[1] + kernel[1])
        window = wide[b, rows, columns, c]
        window = window[window != -99999]
        assert sums[b, h, w, c] == (window - 7).sum()
        assert maxima[b, h, w, c] == window.max()


def test_p1_an_average_without_padding_divides_by_position():
    x = np.full((1, 3, 3, 1), 10, np.int8)
    counts = np.array([[4, 6, 4], [6, 9, 6], [4, 6, 4]])[..., None]
    stage = {"kind": "requantize", "zero_point": 0, "low": -128, "high": 127, "dtype": "int8"}
    from hyq_tvm.numerics.fixed_point import quantize_multiplier

    got = OPERATORS["avg_pool2d"](x, *quantize_multiplier(1 / counts), kernel=(3, 3),
                                  strides=(1, 1), padding=(1, 1, 1, 1), zero_point=0,
                                  epilogue=[stage])  # fmt: skip
    np.testing.assert_array_equal(got, x)


def test_l1_concat_needs_one_dtype():
    a, b = int8(2, 3), int8(2, 1)
    np.testing.assert_array_equal(OPERATORS["concat"](a, b, axis=1), np.hstack([a, b]))
    with pytest.raises(ValueError, match="one dtype"):
        OPERATORS["concat"](a, b.astype(np.int16), axis=1)


@given(
    st.permutations(range(4)),
    st.tuples(*[st.integers(1, 4)] * 4),
)
def test_l2_view_reads_any_permutation(order, sizes):
    x = np.arange(np.prod(sizes), dtype=np.int16).reshape(sizes)
    wanted = x.transpose(order)
    got = OPERATORS["view"](
        x, shape=wanted.shape, strides=[s // 2 for s in wanted.strides], offset=0
    )
    np.testing.assert_array_equal(got, wanted)
    assert got.flags.c_contiguous
    assert got.flags.owndata


def test_l2_view_slices_and_broadcasts():
    x = np.arange(24, dtype=np.int8).reshape(2, 3, 4)
    view = OPERATORS["view"]
    np.testing.assert_array_equal(view(x, shape=[2, 2], strides=[12, 2], offset=5), x[:, 1, 1::2])
    np.testing.assert_array_equal(
        view(x, shape=[5, 4], strides=[0, 1], offset=20), np.broadcast_to(x[1, 2], (5, 4))
    )
    transposed = np.asfortranarray(x)
    np.testing.assert_array_equal(
        view(transposed, shape=[24], strides=[1], offset=0), np.arange(24)
    )


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [([2, 12], [12, 1], 1), ([3], [-1], 2), ([2], [1, 1], 0), ([2], [1], -1)],
)
def test_l2_view_outside_its_tensor_is_an_error(shape, strides, offset):
    with pytest.raises(ValueError, match="view"):
        OPERATORS["view"](int8(2, 12), shape=shape, strides=strides, offset=offset)


def test_l3_pad():
    x = int8(2, 3)
    got = OPERATORS["pad"](x, pads=[[0, 1], [2, 0]], value=-9)
    expected = np.full((3, 5), -9, np.int8)
    expected[:2, 2:] = x
    np.testing.assert_array_equal(got, expected)


def test_n2_edges_store_their_dtype():
    x = np.array([[-1.0, 0.26], [3.0, 0.74]], np.float32)
    q = OPERATORS["quantize"](x, scale=[0.5, 0.25], zero_point=1, low=-8, high=7, dtype="int8")
    assert q.dtype == np.int8
    np.testing.assert_array_equal(q, [[-1, 2], [7, 4]])
    np.testing.assert_array_equal(
        OPERATORS["dequantize"](q, scale=[0.5], zero_point=1),
        np.array([[-1.0, 0.5], [3.0, 1.5]], np.float32),
    )


def test_an_operator_is_defined_once():
    with pytest.raises(ValueError, match="twice"):
        operator("conv2d")(lambda: np.zeros(1))
