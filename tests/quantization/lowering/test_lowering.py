"""Each rule against float: the program computes what the graph means, to its grids' precision."""

import math
from dataclasses import replace

import numpy as np
import pytest

from hyq_tvm.errors import PlanError
from hyq_tvm.quantization.accumulators import check_accumulators
from hyq_tvm.quantization.graph import Graph
from hyq_tvm.quantization.lowering import lower
from hyq_tvm.quantization.view import View
from tests.quantization.lowering.planning import (
    conv,
    dense,
    float_values,
    minmax_plan,
    node,
    residual_block,
    sqnr,
    tensor_plan,
)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def run(graph, x, **choices):
    program = lower(graph, minmax_plan(graph, x, **choices))
    check_accumulators(program)
    return program, program.run(x)[0], float_values(graph, x)[graph.outputs[0]]


def ops(program):
    return [ins.op for ins in program]


def stages(program, layer):
    found = [i for i in program if i.layer == layer and "epilogue" in i.params]
    return [stage["kind"] for stage in found[0].params["epilogue"]]


def test_n3_conv_folds_zero_point_and_pads_with_it(rng):
    s = (1, 5, 7, 4)
    graph = Graph([node("x", "input", [], (1, 5, 7, 3)), conv(rng, "c", "x", s, 3, cin=3)], ["c"])
    x = rng.uniform(0.5, 4, (1, 5, 7, 3)).astype(np.float32)
    program, got, want = run(graph, x)
    assert sqnr(want, got) > 35
    conv_params = next(i for i in program if i.op == "conv2d").params
    assert conv_params["pad_value"] == -128


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (3, 2), (2, 8)])
def test_conv_strides_and_groups(rng, stride, groups):
    out = math.ceil(7 / stride)
    s = (2, out, out, 8)
    graph = Graph(
        [node("x", "input", [], (2, 7, 7, 8)), conv(rng, "c", "x", s, 3, stride, groups, cin=8)],
        ["c"],
    )
    _, got, want = run(graph, rng.normal(size=(2, 7, 7, 8)).astype(np.float32))
    assert sqnr(want, got) > 35


def test_qads_alpha_is_absorbed_by_the_producer_and_the_weights(rng):
    graph = Graph(
        [
            node("x", "input", [], (1, 9, 8)),
            dense(rng, "a", "x", (1, 9, 6), 8),
            dense(rng, "b", "a", (1, 9, 5), 6),
        ],
        ["b"],
    )
    graph["a"].params["weight"][2] *= 40
    x = rng.normal(size=(1, 9, 8)).astype(np.float32)
    plain, got_plain, want = run(graph, x)
    scaled, got_scaled, _ = run(graph, x, alpha={"a": [1, 1, 40, 1, 1, 1]})
    assert ops(plain) == ops(scaled)
    assert plain.constant_bytes == scaled.constant_bytes
    assert sqnr(want, got_scaled) > 30
    assert sqnr(want, got_plain) > 20


def test_alpha_behind_a_table_costs_one_requantize_stage(rng):
    graph = Graph(
        [
            node("x", "input", [], (1, 9, 8)),
            dense(rng, "a", "x", (1, 9, 6), 8),
            node("act", "unary", ["a"], (1, 9, 6), {"fn": "silu"}),
            dense(rng, "b", "act", (1, 9, 5), 6),
        ],
        ["b"],
    )
    x = rng.normal(size=(1, 9, 8)).astype(np.float32)
    plain, _, _ = run(graph, x)
    scaled, got, want = run(graph, x, alpha={"act": [1, 2, 0.5, 1, 4, 1]})
    assert stages(plain, "a") == ["requantize", "lookup"]
    assert stages(scaled, "a") == ["requantize", "lookup", "requantize"]
    assert sqnr(want, got) > 25


@pytest.mark.parametrize("wide", [(), ("x", "sum", "out")])
def test_residual_block_fuses_activations_and_adds(rng, wide):
    graph = residual_block(rng)
    x = rng.normal(size=(2, 6, 6, 12)).astype(np.float32)
    program, got, want = run(graph, x, wide=wide)
    assert sqnr(want, got) > 28
    assert "add" not in ops(program)
    assert stages(program, "expand") == ["requantize", "lookup"]
    expected = ["requantize", "add"] if wide else ["requantize", "add", "requantize"]
    assert stages(program, "project") == expected


def test_one_wide_scale_makes_adds_plain(rng):
    graph = residual_block(rng)
    x = rng.normal(size=(2, 6, 6, 12)).astype(np.float32)
    plan = minmax_plan(graph, x, wide=("x", "sum", "out"))
    top = max((plan.tensors[n + ":wide"] for n in ("x", "sum", "out")), key=lambda t: t.scale)
    for name in ("x", "sum", "out"):
        plan = plan.with_tensor(name + ":wide", scale=top.scale)
    program = lower(graph, plan)
    adds = [s for i in program for s in i.params.get("epilogue", []) if s["kind"] == "add"]
    assert [(s["multiplier"], s["shift"]) for s in adds] == [(1, 0), (1, 0)]


@pytest.mark.parametrize("fn", ["relu", "relu6"])
def test_clamps_are_saturation_not_tables(rng, fn):
    graph = Graph(
        [
            node("x", "input", [], (3, 8)),
            dense(rng, "a", "x", (3, 6), 8),
            node("act", "unary", ["a"], (3, 6), {"fn": fn}),
        ],
        ["act"],
    )
    x = 4 * rng.normal(size=(3, 8)).astype(np.float32)
    program, got, want = run(graph, x)
    assert stages(program, "a") == ["requantize"]
    assert sqnr(want, got) > 36
    assert got.min() >= 0


@pytest.mark.parametrize("bits", [8, 12])
def test_table_input_width(rng, bits):
    graph = Graph(
        [
            node("x", "input", [], (64, 8)),
            dense(rng, "a", "x", (64, 6), 8),
            node("act", "unary", ["a"], (64, 6), {"fn": "gelu"}),
        ],
        ["act"],
    )
    x = rng.normal(size=(64, 8)).astype(np.float32)
    program, got, want = run(graph, x, bits={"a": bits, "x": 8})
    table = next(i for i in program if i.layer == "a").constants[-1]
    assert table.size == 2**bits
    assert sqnr(want, got) > 33


def test_unary_on_a_shared_tensor_reads_its_grid(rng):
    s = (2, 3, 3, 4)
    graph = Graph(
        [
            node("x", "input", [], s),
            node("gate", "unary", ["x"], s, {"fn": "sigmoid"}),
            node("y", "multiply", ["x", "gate"], s),
        ],
        ["y"],
    )
    _, got, want = run(graph, rng.normal(size=s).astype(np.float32))
    assert sqnr(want, got) > 33


def test_multiply_broadcasts_and_takes_constants(rng):
    s = (2, 3, 3, 4)
    graph = Graph(
        [
            node("x", "input", [], s),
            node(
                "m",
                "reduce",
                ["x"],
                (2, 1, 1, 4),
                {"kind": "mean", "axes": (1, 2), "keepdims": True},
            ),
            node("g", "multiply", ["x", "m"], s),
            node("y", "multiply", ["g"], s, const=[1.0, -2.0, 0.5, 3.0]),
        ],
        ["y"],
    )
    _, got, want = run(graph, rng.normal(size=s).astype(np.float32) + 1)
    assert sqnr(want, got) > 30


def test_add_of_a_constant_and_of_broadcast_tensors(rng):
    graph = Graph(
        [
            node("x", "input", [], (2, 5, 4)),
            node("p", "add", ["x"], (2, 5, 4), const=rng.normal(size=(1, 5, 4))),
            node("y", "add", ["p", "x"], (2, 5, 4)),
        ],
        ["y"],
    )
    _, got, want = run(graph, rng.normal(size=(2, 5, 4)).astype(np.float32), wide=("x", "p"))
    assert sqnr(want, got) > 36


@pytest.mark.parametrize("include", [True, False])
def test_average_pool_counts_padding_or_not(rng, include):
    s = (1, 6, 6, 3)
    attrs = {"kernel": (3, 3), "strides": (1, 1), "padding": (1, 1, 1, 1)}
    graph = Graph(
        [
            node("x", "input", [], s),
            node("p", "avg_pool2d", ["x"], s, {**attrs, "count_include_pad": include}),
        ],
        ["p"],
    )
    _, got, want = run(graph, rng.normal(size=s).astype(np.float32) + 2)
    assert sqnr(want, got) > 40


def test_concat_brings_operands_to_its_grid(rng):
    graph = Graph(
        [
            node("x", "input", [], (1, 4, 4, 3)),
            conv(rng, "a", "x", (1, 4, 4, 5), cin=3),
            node("c", "concat", ["x", "a"], (1, 4, 4, 8), {"axis": 3}),
            node(
                "p",
                "max_pool2d",
                ["c"],
                (1, 2, 2, 8),
                {"kernel": (2, 2), "strides": (2, 2), "padding": (0,) * 4},
            ),
        ],
        ["p"],
    )
    program, got, want = run(graph, rng.normal(size=(1, 4, 4, 3)).astype(np.float32))
    assert sqnr(want, got) > 33
    assert ops(program)[-3:] == ["concat", "max_pool2d", "dequantize"]


def test_view_moves_integers_and_identity_views_cost_nothing(rng):
    move = View.identity((2, 4, 6)).permute((0, 2, 1))
    flat = View.identity((2, 6, 4)).reshape((12, 4))
    graph = Graph(
        [
            node("x", "input", [], (2, 4, 6)),
            node("t", "view", ["x"], (2, 6, 4), {"view": move}),
            node("r", "view", ["t"], (12, 4), {"view": flat}),
            dense(rng, "y", "r", (12, 3), 4),
        ],
        ["y"],
    )
    program, got, want = run(graph, rng.normal(size=(2, 4, 6)).astype(np.float32))
    assert ops(program) == ["quantize", "view", "dense", "dequantize"]
    assert sqnr(want, got) > 33


def test_matmul_of_two_activations(rng):
    graph = Graph(
        [
            node("x", "input", [], (2, 3, 5, 8)),
            node("a", "unary", ["x"], (2, 3, 5, 8), {"fn": "tanh"}),
            node("y", "matmul", ["x", "a"], (2, 3, 5, 5), {"scale": 0.25}),
        ],
        ["y"],
    )
    _, got, want = run(graph, rng.normal(size=(2, 3, 5, 8)).astype(np.float32))
    assert sqnr(want, got) > 30


@pytest.mark.parametrize("op", ["layer_norm", "group_norm"])
@pytest.mark.parametrize("wide", [(), ("x",)])
def test_norms(rng, op, wide):
    attrs = {"eps": 1e-5} if op == "layer_norm" else {"eps": 1e-5, "groups": 2}
    s = (2, 3, 4, 8)
    gamma, beta = rng.normal(size=8) + 2, rng.normal(size=8)
    graph = Graph(
        [
            node("x", "input", [], s),
            node("n", op, ["x"], s, attrs, gamma=gamma, beta=beta),
            dense(rng, "y", "n", (2, 3, 4, 5), 8),
        ],
        ["y"],
    )
    x = rng.normal(size=s).astype(np.float32)
    _, got, want = run(graph, x, wide=wide)
    assert sqnr(want, got) > 28


@pytest.mark.parametrize("pruned", [[3], [0, 1, 2, 3, 4, 5]])
def test_the_bias_of_channels_without_weights_is_kept(rng, pruned):
    layer = dense(rng, "y", "x", (4, 6), 5)
    layer.params["weight"][pruned] = 0
    layer.params["bias"][pruned] = 1e-4 * np.arange(1, len(pruned) + 1)
    x = 100 * rng.normal(size=(4, 5)).astype(np.float32)
    program, got, want = run(Graph([node("x", "input", [], (4, 5)), layer], ["y"]), x)
    weight, bias = next(i for i in program if i.op == "dense").constants[:2]
    assert not weight[pruned].any()
    np.testing.assert_array_equal(bias[pruned], 2**23)
    if len(pruned) == 6:
        assert sqnr(want, got) > 60


def test_the_bias_behind_an_input_that_is_always_zero_is_kept(rng):
    layer = dense(rng, "y", "x", (4, 6), 5)
    layer.params["bias"][:] *= 1e-2
    graph = Graph([node("x", "input", [], (4, 5)), layer], ["y"])
    _, got, want = run(graph, np.zeros((4, 5), np.float32))
    assert sqnr(want, got) > 50


@pytest.mark.parametrize(("least", "fused"), [(1e-1, True), (1e-5, False), (1e-8, False)])
def test_an_add_to_a_channel_that_hardly_moves(rng, least, fused):
    graph, x = residual_block(rng), rng.normal(size=(2, 6, 6, 12)).astype(np.float32)
    for array in (x.T, graph["project"].params["weight"], graph["project"].params["bias"]):
        array[11] *= least
    program, got, want = run(graph, x, wide=("x",), alpha={"sum": [1.0] * 11 + [least]})
    assert ("sum" not in [i.layer for i in program if i.op == "add"]) == fused
    assert sqnr(want, got) > 20


def attention_graph(rng, bias=None):
    s = (2, 3, 9, 8)
    nodes = [node("x", "input", [], s)]
    nodes += [dense(rng, name, "x", s, 8) for name in "qkv"]
    params = {} if bias is None else {"bias": bias}
    nodes.append(node("o", "attention", ["q", "k", "v"], s, {"scale": 8**-0.5}, **params))
    return Graph(nodes, ["o"])


@pytest.mark.parametrize("kind", ["linear_pot", "linear", "table", "poly2"])
@pytest.mark.parametrize("weight_bits", [8, 16])
def test_attention_kinds(rng, kind, weight_bits):
    graph = attention_graph(rng)
    layers = {"o": {"softmax": kind, "softmax_weight_bits": weight_bits}}
    _, got, want = run(graph, rng.normal(size=(2, 3, 9, 8)).astype(np.float32), layers=layers)
    assert sqnr(want, got) > 25


def test_attention_bias_and_mask(rng):
    bias = rng.normal(size=(3, 9, 9))
    bias[:, :, 4] = -np.inf
    graph = attention_graph(rng, bias)
    _, got, want = run(graph, rng.normal(size=(2, 3, 9, 8)).astype(np.float32))
    assert sqnr(want, got) > 25


def test_softmax_alone_gives_probabilities(rng):
    graph = Graph(
        [
            node("x", "input", [], (4, 6)),
            dense(rng, "l", "x", (4, 2), 6),
            node("p", "softmax", ["l"], (4, 2)),
            node("y", "multiply", ["p"], (4, 2), const=np.array(2.0)),
        ],
        ["y"],
    )
    program, got, want = run(graph, 3 * rng.normal(size=(4, 6)).astype(np.float32))
    assert np.abs(got - want).max() < 0.05
    (found,) = [i for i in program if i.op == "softmax"]
    assert found.params["output"] == "uint8", "probabilities near 1"


def probabilities(rng, readers, outputs, softmax="linear_pot"):
    """The softmax instruction of probabilities of 99 tokens, and what all gives."""
    made = [
        node("x", "input", [], (4, 6)),
        dense(rng, "l", "x", (4, 99), 6),
        node("p", "softmax", ["l"], (4, 99)),
        *readers,
    ]
    x = rng.normal(size=(4, 6)).astype(np.float32)
    layers = {"p": {"softmax": softmax, "softmax_logit_scale": 0.01}}
    program, got, want = run(Graph(made, outputs), x, layers=layers)
    (found,) = [i for i in program if i.op == "softmax"]
    return found, sqnr(want, got)


@pytest.mark.parametrize("kind", ["linear_pot", "table", "linear", "poly2"])
def test_small_probabilities_have_a_grid_of_their_own(rng, kind):
    found, decibels = probabilities(
        rng, [node("y", "multiply", ["p"], (4, 99), const=3.0)], ["y"], kind
    )
    assert (found.params["output"], found.dtype) == ("grid", "uint8")
    assert (found.params["zero_point"], found.params["low"], found.params["high"]) == (0, 0, 255)
    assert found.params["rescale_multiplier"] > 2.0 ** found.params["rescale_shift"] * 2 * 255
    assert decibels > 30


def test_probabilities_that_a_model_gives_have_16_bits(rng):
    found, decibels = probabilities(rng, [], ["p"])
    assert (found.params["output"], found.dtype) == ("grid", "int16")
    assert decibels > 30


def test_probabilities_that_a_table_reads_may_have_12_bits(rng):
    graph = Graph(
        [
            node("x", "input", [], (4, 6)),
            dense(rng, "l", "x", (4, 3), 6),
            node("p", "softmax", ["l"], (4, 3)),
            node("y", "unary", ["p"], (4, 3), {"fn": "silu"}),
        ],
        ["y"],
    )
    program, got, want = run(graph, rng.normal(size=(4, 6)).astype(np.float32), bits={"p": 12})
    (found,) = [i for i in program if i.op == "softmax"]
    assert (found.dtype, found.params["low"], found.params["high"]) == ("int16", -2048, 2047)
    assert sqnr(want, got) > 30


def test_the_published_softmax_keeps_its_bytes(rng):
    found, _ = probabilities(rng, [], ["p"], "hyq")
    assert (found.params["output"], found.dtype) == ("uint8", "uint8")


@pytest.mark.parametrize("growth", [1, 1000])
def test_the_finer_of_two_grids_comes_first(rng, growth):
    graph = Graph(
        [
            node("x", "input", [], (4, 6)),
            dense(rng, "l", "x", (4, 6), 6),
            node("y", "add", ["l", "x"], (4, 6)),
        ],
        ["y"],
    )
    x = rng.normal(size=(4, 6)).astype(np.float32)
    plan = minmax_plan(graph, x, wide=("x",))
    coarse = tensor_plan(-3.0 * growth, 3.0 * growth, 16, symmetric=True)
    program = lower(graph, replace(plan, tensors={**plan.tensors, "x:wide": coarse}))
    assert next(iter(program)).dtype == ("int16" if growth == 1 else "int8")
    (dense_layer,) = [i for i in program if i.op == "dense"]
    read = next(i for i in program if i.name == dense_layer.arguments[0].value)
    assert read.op == ("identity" if growth == 1 else "quantize")
    assert sqnr(float_values(graph, x)["y"], program.run(x)[0]) > 30


def test_a_plan_of_another_model_is_refused(rng):
    graph, other = residual_block(rng), residual_block(np.random.default_rng(8))
    x = rng.normal(size=(2, 6, 6, 12)).astype(np.float32)
    with pytest.raises(PlanError, match="another model"):
        lower(other, minmax_plan(graph, x))


def test_a_missing_grid_is_named(rng):
    graph = residual_block(rng)
    plan = minmax_plan(graph, rng.normal(size=(2, 6, 6, 12)).astype(np.float32))
    tensors = {k: v for k, v in plan.tensors.items() if k != "act1"}
    with pytest.raises(PlanError, match="act1"):
        lower(graph, type(plan)(plan.config, plan.fingerprint, tensors, plan.layers))
