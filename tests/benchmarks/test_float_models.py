"""Whole models in float32 and with exact attention; profiles of integer ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from benchmarks import latency_report, model_latency
from benchmarks.float32.chains import chains
from benchmarks.float32.exact_attention import logit_scale, result_scale
from benchmarks.float32.model import UnsupportedError, float_program
from benchmarks.float32.target import float_isa, float_target
from benchmarks.kernel_profile import Share, kernel_seconds, products, shares, table
from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.view import View

RNG = np.random.default_rng(8)
needs_wide = pytest.mark.skipif(
    float_isa(float_target()).lanes != 16, reason="float kernels are made for AVX512"
)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def dense(name, source, rows, depth, channels):
    params = {"weight": floats(channels, depth) / 4, "bias": floats(channels)}
    return Node(name, "dense", (source,), (rows, channels), params=params)


def small_graph():
    """Two dense layers on one input, activation, residual, norm, attention over heads."""
    view = View.identity((6, 8)).reshape((1, 6, 8))
    return Graph(
        [
            Node("x", "input", (), (6, 8)),
            dense("a", "x", 6, 8, 8),
            Node("a.act", "unary", ("a",), (6, 8), {"fn": "silu", "args": ()}),
            dense("b", "x", 6, 8, 8),
            Node("sum", "add", ("a.act", "b"), (6, 8)),
            Node("norm", "layer_norm", ("sum",), (6, 8), {"eps": 1e-5},
                 {"gamma": floats(8), "beta": floats(8)}),
            Node("heads", "view", ("norm",), (1, 6, 8), {"view": view}),
            Node("attended", "attention", ("heads",) * 3, (1, 6, 8), {"scale": 0.5}),
            Node("mean", "reduce", ("attended",), (1, 8),
                 {"kind": "mean", "axes": (1,), "keepdims": False}),
            Node("shifted", "add", ("mean",), (1, 8), params={"const": floats(8)}),
        ],
        ["shifted"],
    )  # fmt: skip


def reference(graph, x):
    def layer(name):
        node = graph[name]
        return x @ node.params["weight"].T + node.params["bias"]

    total = torch.nn.functional.silu(torch.from_numpy(layer("a"))) + layer("b")
    norm = graph["norm"].params
    heads = torch.nn.functional.layer_norm(
        total, (8,), torch.from_numpy(norm["gamma"]), torch.from_numpy(norm["beta"]), 1e-5
    )
    attended = torch.softmax(heads @ heads.T * 0.5, -1) @ heads
    return attended.mean(0).numpy() + graph["shifted"].params["const"]


def test_layers_take_what_follows_them_once():
    found, inside = chains(small_graph())
    assert {name: (c.layer.name, c.steps, c.others) for name, c in found.items()} == {
        "sum": ("a", ("silu", "add"), ("b",)),
        "b": ("b", (), ()),
    }
    assert inside == {"a", "a.act"}


def test_a_chain_ends_where_its_tensor_is_read_twice_or_is_an_output():
    nodes = [Node("x", "input", (), (2, 4)), dense("a", "x", 2, 4, 4),
             Node("act", "unary", ("a",), (2, 4), {"fn": "relu", "args": ()}),
             Node("more", "add", ("act", "x"), (2, 4)),
             Node("odd", "unary", ("more",), (2, 4), {"fn": "elu", "args": (1.0,)})]  # fmt: skip
    assert list(chains(Graph(nodes, ["odd"]))[0]) == ["more"]
    assert list(chains(Graph(nodes, ["odd", "a"]))[0]) == ["a"]
    assert list(chains(Graph(nodes, ["odd", "act"]))[0]) == ["act"]


@needs_wide
def test_a_graph_in_float32(tmp_path):
    graph, x = small_graph(), floats(6, 8)
    machine = float_program(graph, tmp_path / "model.so")
    (got,) = machine.run("main", [x])
    np.testing.assert_allclose(got[0], reference(graph, x), rtol=1e-5, atol=1e-5)


@needs_wide
def test_nodes_without_a_kernel_are_named(tmp_path):
    nodes = [Node("x", "input", (), (2, 4)),
             Node("odd", "unary", ("x",), (2, 4), {"fn": "elu", "args": (1.0,)})]  # fmt: skip
    with pytest.raises(UnsupportedError, match="odd: the float twin has no unary"):
        float_program(Graph(nodes, ["odd"]), tmp_path / "model.so")


def test_scales_of_integer_attentions():
    assert logit_scale({"fraction_bits": 5}, 3 << 20, 22) == pytest.approx(0.75 * math.log(2) / 32)
    assert result_scale({"rescale_multiplier": 5, "rescale_shift": 3}) == 0.625


def test_products_are_read_from_names():
    assert products("dense_197x192x768_12") == 197 * 192 * 768
    assert products("conv2d_1024x96x144_") == 1024 * 96 * 144
    assert products("conv2d_3x3_32x32x96x48_1") == 9 * 32 * 32 * 96 * 48
    assert products("conv2d_3x3_8x32x32x96x48_") == 8 * 9 * 32 * 32 * 96 * 48
    assert products("depthwise_3x3_64x64x48_3") == 9 * 64 * 64 * 48
    assert products("attention_16x256x256x36_2") == 2 * 16 * 256 * 256 * 36
    assert [products(name) for name in ("view_5", "vm.*", "layer_norm_197x192_")] == [0, 0, 0]


def test_profiles_add_up_calls():
    times = {(0, "dense_10x10x235_"): 2e-6, (1, "vm.builtin.reshape"): 1e-6, (2, "view_"): 4e-6,
             (3, "dense_10x10x235_"): 3e-6, (4, "vm.builtin.null_value"): 1e-6}  # fmt: skip
    assert kernel_seconds(times) == pytest.approx(9e-6)
    found = shares(times)
    assert [(s.name, s.calls) for s in found] == [
        ("dense_10x10x235_", 2), ("view_", 1), ("vm.*", 2)
    ]  # fmt: skip
    assert found[0] == Share("dense_10x10x235_", 2, pytest.approx(5e-6), 47000)
    assert table(found).splitlines()[-1] == "| all | 5 | 11.0 | 100.0% | 0.2 |"


@pytest.mark.slow
@needs_wide
def test_the_command_measures_the_embedded_model(tmp_path, capsys):
    folder, cache = tmp_path / "results", tmp_path / "cache"
    arguments = ["--models", "digits", "--turns", "3", "--profile"]
    model_latency.main([*arguments, "--out", str(folder), "--cache", str(cache)])
    rows = latency_report.load(folder / "model_latency.json")
    assert [row.name for row in rows] == ["int8", "int8, exact softmax", "fp32"]
    assert rows[2].facts["similarity"] > 0.9999
    assert all(row.facts["similarity"] > 0.9 for row in rows)
    assert all(row.facts["kernels ms"] > 0 for row in rows)
    assert "dense_256x32x64_" in capsys.readouterr().out
