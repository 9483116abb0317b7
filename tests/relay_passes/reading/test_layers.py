"""Convolutions and products: attributes, weights in the graph's layout, numbers, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tvm import relax

from tests.relay_passes.reading.small_modules import (
    assert_computes,
    const,
    nodes,
    one,
    random,
    read,
    refusal,
    x0,
)

R = relax.op


ORDERS = {"OIHW": (0, 1, 2, 3), "OHWI": (0, 2, 3, 1), "HWIO": (2, 3, 1, 0)}


class TestConvolutions:
    @pytest.mark.parametrize("data", ["NCHW", "NHWC"])
    @pytest.mark.parametrize("kernel", ["OIHW", "OHWI", "HWIO"])
    def test_of_images(self, data, kernel):
        weight = random("w", 6, 2, 2, 3)
        shape = (2, 4, 5, 7) if data == "NCHW" else (2, 5, 7, 4)
        options = {"strides": (2, 1), "dilation": (1, 2), "groups": 2}

        def write(x):
            moved = const(weight.transpose(ORDERS[kernel]))
            layouts = {"data_layout": data, "kernel_layout": kernel}
            return R.nn.conv2d(x, moved, padding=(1, 2, 3, 0), **options, **layouts)

        graph = read(write, shape)
        conv = one(graph, "conv2d")
        assert conv.name == "y"
        assert conv.attrs == {"padding": (1, 2, 3, 0), **options}
        np.testing.assert_array_equal(conv.params["weight"], weight.transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(conv.params["bias"], np.zeros(6), strict=False)
        x = torch.from_numpy(x0(*shape))
        first = x if data == "NCHW" else x.permute(0, 3, 1, 2)
        wide = F.pad(first, (2, 0, 1, 3))
        want = F.conv2d(wide, torch.from_numpy(weight), None, (2, 1), 0, (1, 2), 2).numpy()
        assert_computes(graph, want if data == "NCHW" else want.transpose(0, 2, 3, 1))

    def test_one_number_and_two_numbers_of_padding(self):
        weight = const(random("w", 6, 4, 3, 3))
        graph = read(lambda x: R.nn.conv2d(x, weight, padding=(1, 2)), (2, 4, 5, 7))
        assert one(graph, "conv2d").attrs["padding"] == (1, 2, 1, 2)
        graph = read(lambda x: R.nn.conv2d(x, weight, padding=1), (2, 4, 5, 7))
        assert one(graph, "conv2d").attrs["padding"] == (1, 1, 1, 1)

    def test_other_layouts_are_refused(self):
        weight = const(random("w", 3, 4, 3, 6))
        reason = refusal(lambda x: R.nn.conv2d(x, weight, kernel_layout="HIWO"), (2, 4, 5, 7))
        assert reason == "relax.nn.conv2d at y: kernel layout HIWO"
        weight = const(random("w", 6, 4, 3, 3))
        reason = refusal(lambda x: R.nn.conv2d(x, weight, out_layout="NHWC"), (2, 4, 5, 7))
        assert reason == "relax.nn.conv2d at y: layout NCHW in and NHWC out"
        reason = refusal(lambda x: R.nn.conv2d(x, weight, data_layout="HWCN"), (5, 7, 4, 2))
        assert reason == "relax.nn.conv2d at y: layout HWCN"

    def test_of_sequences(self):
        weight = random("w", 6, 2, 3)
        options = {"strides": 2, "dilation": 2, "groups": 2}
        graph = read(lambda x: R.nn.conv1d(x, const(weight), padding=(1, 2), **options), (2, 4, 10))
        conv = one(graph, "conv2d")
        assert conv.attrs == {
            "strides": (1, 2),
            "padding": (0, 1, 0, 2),
            "dilation": (1, 2),
            "groups": 2,
        }
        assert conv.shape == (2, 1, 5, 6)
        np.testing.assert_array_equal(conv.params["weight"], weight.transpose(0, 2, 1)[:, None])
        np.testing.assert_array_equal(conv.params["bias"], np.zeros(6))
        x, w = torch.from_numpy(x0(2, 4, 10)), torch.from_numpy(weight)
        assert_computes(graph, F.conv1d(F.pad(x, (1, 2)), w, None, 2, 0, 2, 2).numpy())

    @pytest.mark.parametrize(
        ("layouts", "data", "weight"),
        [
            (("NWC", "OIW"), (2, 10, 4), (6, 4, 3)),
            (("NCW", "WIO"), (2, 4, 10), (3, 4, 6)),
        ],
    )
    def test_of_sequences_in_other_layouts_are_refused(self, layouts, data, weight):
        names = dict(zip(("data_layout", "kernel_layout"), layouts, strict=True))
        reason = refusal(lambda x: R.nn.conv1d(x, const(random("w", *weight)), **names), data)
        assert reason == f"relax.nn.conv1d at y: layouts {layouts[0]}, {layouts[1]}"


class TestProducts:
    @pytest.mark.parametrize("lead", [(), (1,), (1, 1)])
    def test_with_a_constant_matrix_behind(self, lead):
        k = random("k", *lead, 4, 6)
        graph = read(lambda x: R.matmul(x, const(k)), (2, 3, 4))
        dense = one(graph, "dense")
        assert (dense.name, dense.inputs) == ("y", ("x0",))
        np.testing.assert_array_equal(dense.params["weight"], k.reshape(4, 6).T)
        np.testing.assert_array_equal(dense.params["bias"], np.zeros(6))
        assert_computes(graph, x0(2, 3, 4) @ k)

    @pytest.mark.parametrize("lead", [(), (1,), (1, 1)])
    def test_with_a_constant_matrix_before(self, lead):
        k = random("k", *lead, 5, 3)
        graph = read(lambda x: R.matmul(const(k), x), (2, 3, 4))
        dense = one(graph, "dense")
        np.testing.assert_array_equal(dense.params["weight"], k.reshape(5, 3))
        assert_computes(graph, k @ x0(2, 3, 4))

    def test_of_two_matrices(self):
        graph = read(R.matmul, (3, 4), (4, 6))
        assert nodes(graph) == [
            ("y.view", "view", ("x1",)),
            ("y", "matmul", ("x0", "y.view")),
        ]
        assert graph["y"].attrs == {"scale": 1.0}
        assert_computes(graph, x0(3, 4) @ random("x1", 4, 6))

    def test_with_constants_that_differ_by_batch(self):
        k = random("k", 2, 4, 6)
        graph = read(lambda x: R.matmul(x, const(k)), (2, 3, 4))
        assert [op for _, op, _ in nodes(graph)] == ["constant", "matmul"]
        assert_computes(graph, x0(2, 3, 4) @ k)
        k = random("k", 2, 5, 3)
        graph = read(lambda x: R.matmul(const(k), x), (2, 3, 4))
        assert sorted(op for _, op, _ in nodes(graph)) == ["constant", "matmul", "view"]
        assert_computes(graph, k @ x0(2, 3, 4))

    @pytest.mark.parametrize(
        ("a", "b"),
        [
            ((2, 1, 3, 4), (5, 4, 6)),
            ((5, 3, 4), (2, 5, 4, 6)),
            ((3, 4), (5, 4, 6)),
            ((5, 3, 4), (4, 6)),
        ],
    )
    def test_of_batches_that_broadcast(self, a, b):
        graph = read(R.matmul, a, b)
        assert [op for _, op, _ in nodes(graph)].count("matmul") == 1
        assert_computes(graph, x0(*a) @ random("x1", *b))

    @pytest.mark.parametrize("shapes", [((4,), (4, 6)), ((3, 4), (4,))])
    def test_with_vectors_are_refused(self, shapes):
        assert refusal(R.matmul, *shapes) == "relax.matmul at y: a vector operand"

    @pytest.mark.parametrize(("a", "b"), [((3, 4), (4, 6)), ((3, 4), (2, 4, 6))])
    def test_of_constants(self, a, b):
        k, m = random("k", *a), random("m", *b)
        product = k @ m
        graph = read(lambda x: R.add(x, R.matmul(const(k), const(m))), product.shape)
        assert nodes(graph) == [("y", "add", ("x0",))]
        np.testing.assert_allclose(graph["y"].params["const"], product, rtol=1e-5, atol=1e-6)
