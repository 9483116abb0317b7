"""The integer module: marked, readable back, equal to the golden model when compiled."""

import json

import numpy as np
import pytest
import tvm
from tvm import relax

from hyq_tvm.errors import AccumulatorOverflowError, FloatComputationError, UnsupportedModelError
from hyq_tvm.quantization.graph import Graph
from hyq_tvm.quantization.lowering import lower
from relay_passes.check_integer_only import check_integer_only
from relay_passes.quantize_graph import LAYERS_ATTRIBUTE, PLAN_ATTRIBUTE, quantize_graph
from relay_passes.read_program import golden, read_program
from tests.quantization.lowering.planning import dense, minmax_plan, node, residual_block


@pytest.fixture
def block():
    rng = np.random.default_rng(3)
    graph = residual_block(rng)
    x = rng.normal(size=(2, 6, 6, 12)).astype(np.float32)
    return graph, minmax_plan(graph, x, wide=("x", "sum", "out")), x


def compiled(mod, x):
    machine = relax.VirtualMachine(tvm.compile(mod, target="llvm"), tvm.cpu())
    return machine["main"](tvm.runtime.tensor(x)).numpy()


def test_compiled_module_equals_the_golden_model_bit_for_bit(block):
    graph, plan, x = block
    mod = quantize_graph(graph, plan)
    want = golden(mod)(x)[0]
    np.testing.assert_array_equal(compiled(mod, x), want)
    np.testing.assert_array_equal(lower(graph, plan).run(x)[0], want)


def test_every_call_is_marked_and_named_after_its_layer(block):
    graph, plan, _ = block
    mod = quantize_graph(graph, plan)
    labels = json.loads(str(mod.attrs[LAYERS_ATTRIBUTE]))
    assert {layer for _, layer in labels.values()} >= {"expand", "depthwise", "project", "next"}
    assert "tensors" in json.loads(str(mod.attrs[PLAN_ATTRIBUTE]))
    before, after = lower(graph, plan), read_program(mod)
    assert [(i.name, i.op, i.layer, i.shape) for i in before] == [
        (i.name, i.op, i.layer, i.shape) for i in after
    ]


def test_equal_operators_share_one_function():
    rng = np.random.default_rng(0)
    graph = Graph(
        [
            node("x", "input", [], (1, 4, 8)),
            dense(rng, "a", "x", (1, 4, 8), 8),
            dense(rng, "b", "a", (1, 4, 8), 8),
            dense(rng, "c", "b", (1, 4, 8), 8),
        ],
        ["c"],
    )
    plan = minmax_plan(graph, rng.normal(size=(1, 4, 8)).astype(np.float32))
    plan = plan.with_tensor("b", zero_point=plan.tensors["a"].zero_point)
    mod = quantize_graph(graph, plan)
    assert sum("dense" in gv.name_hint for gv in mod.functions) == 2


def test_integer_module_passes_the_check(block):
    graph, plan, _ = block
    assert check_integer_only(quantize_graph(graph, plan)) == []


def test_excluded_layers_are_named_and_can_be_allowed(block):
    graph, plan, x = block
    mod = quantize_graph(graph, plan.with_layer("project", exclude=True))
    with pytest.raises(FloatComputationError, match=r"project .*allow_float"):
        check_integer_only(mod)
    assert check_integer_only(mod, allow=["project"]) == ["project"]
    island, integer = compiled(mod, x), golden(quantize_graph(graph, plan))(x)[0]
    assert np.abs(island - integer).max() < 0.1 * np.abs(integer).max()
    with pytest.raises(FloatComputationError, match=r"relax\.nn\.conv2d computes in float"):
        golden(mod)


def test_layers_that_cannot_be_excluded_say_so(block):
    graph, plan, _ = block
    with pytest.raises(UnsupportedModelError, match="act1: unary cannot be excluded"):
        quantize_graph(graph, plan.with_layer("act1", exclude=True))


def test_unmarked_float_functions_are_found(block):
    graph, plan, _ = block
    mod = quantize_graph(graph, plan)
    name = next(gv for gv in mod.functions if gv.name_hint.startswith("quantize"))
    mod[name] = mod[name].without_attr("hyq.op")
    with pytest.raises(FloatComputationError, match="quantize"):
        check_integer_only(mod)


def test_n4_overflow_is_a_compile_error_naming_the_layer():
    rng = np.random.default_rng(0)
    k = 140_000
    graph = Graph(
        [
            node("x", "input", [], (1, k)),
            node("huge", "dense", ["x"], (1, 1), weight=np.ones((1, k)), bias=[0.0]),
        ],
        ["huge"],
    )
    plan = minmax_plan(graph, rng.normal(size=(1, k)).astype(np.float32))
    with pytest.raises(AccumulatorOverflowError, match=r"huge: .*accumulator|huge: partial"):
        quantize_graph(graph, plan)
