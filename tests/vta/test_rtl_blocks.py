"""Whole blocks and a whole model on the core: the same integers, and the cycles of the model."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.rtl_cycles import timing
from hyq_tvm.numerics.reference.norm import layer_norm_constants
from hyq_tvm.numerics.softmax_tables import attention_constants
from hyq_tvm.quantization.lowering import lower
from hyq_tvm.vta.arch import DEFAULT, TINY
from hyq_tvm.vta.codegen import compile_operations, compile_program
from hyq_tvm.vta.cosim.core import Core
from hyq_tvm.vta.cosim.toolchain import ToolUnavailable, compiler, verilator
from hyq_tvm.vta.timing import time_program
from tests.quantization.lowering.planning import minmax_plan, residual_block
from tests.vta.operations import (
    add,
    constant,
    evaluate,
    operation,
    random_array,
    requantize,
    stages,
    tensor,
)
from tests.vta.test_whole_models import trained  # noqa: F401  (a fixture)

CONFIGS = [
    pytest.param(TINY, id="tiny"),
    pytest.param(DEFAULT, id="default", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", autouse=True)
def _tools():
    try:
        verilator()
        compiler()
    except ToolUnavailable as error:
        pytest.skip(str(error))


def attention_block(tokens, width, seed=5):
    """Norm, three projections, attention, projection and residual sum, all on one grid each."""
    rng = np.random.default_rng(seed)
    values = {"x": random_array(rng, (tokens, width), "int16")}
    gamma, beta = rng.normal(1, 0.5, width), rng.normal(0, 0.5, width)
    gamma, beta, epsilon, shift = layer_norm_constants(gamma, beta, 1e-5, 0.01, 0.03, width)
    params = {"epsilon": epsilon, "shift": shift, "zero_point": 0, "low": -127, "high": 127}
    ops = [
        operation(
            "layer_norm",
            [tensor("x", values["x"]), constant(gamma), constant(beta)],
            {**params, "dtype": "int8"},
            values,
            "h",
        )
    ]
    values["h"] = evaluate(ops[-1], values)
    for name in "qkv":
        ops.append(projection(rng, values, "h", name, [requantize(rng, width, fan_in=width)]))
        ops[-1].params["epilogue"][0].update(low=-127, zero_point=0)
        values[name] = evaluate(ops[-1], values)
    made = attention_constants(
        scale_q=0.05,
        scale_k=0.04,
        scale_v=0.02,
        softmax_scale=width**-0.5,
        scale_out=0.01,
        head_dim=width,
        tokens=tokens,
        kind="linear_pot",
        weight_bits=8,
    )
    params = {key: made[key] for key in ("rescale_multiplier", "rescale_shift")}
    params |= {"kind": "linear_pot", "weight_bits": 8, "fraction_bits": 4, "has_bias": False}
    params |= {"zero_point": 6, "low": -128, "high": 127, "dtype": "int8"}
    arguments = [tensor(n, values[n], (1, tokens, width)) for n in "qkv"]
    arguments += [constant(made[key]) for key in ("multiplier", "shift", "table")]
    ops.append(operation("attention", arguments, params, values, "a"))
    values["a"] = evaluate(ops[-1], values)
    parts = [requantize(rng, width, "int16", zero_point=0, fan_in=width)]
    parts.append(add("x", values["x"], "int16", -32767, 32767))
    ops.append(projection(rng, values, "a", "y", parts))
    values["y"] = evaluate(ops[-1], values)
    return ops, values


def projection(rng, values, source, name, parts):
    """A dense layer of a square weight."""
    width = values[source].shape[-1]
    rows = values[source].size // width
    bias = rng.integers(-(2**10), 2**10, width).astype(np.int32)
    made, arguments = stages(*parts)
    head = [tensor(source, values[source], (rows, width))]
    head += [constant(random_array(rng, (width, width))), constant(bias)]
    return operation("dense", [*head, *arguments], {"epilogue": made}, values, name)


def as_the_model_says(run, program):
    """Each instruction starts when the cycle model says, to a thousandth of the whole time."""
    hardware, model = timing(run, program.config), time_program(program)
    starts = [[e.start for e in sorted(t.events, key=lambda e: e.index)] for t in (hardware, model)]
    tolerance = max(4, hardware.cycles // 1000)
    np.testing.assert_allclose(*starts, rtol=0, atol=tolerance)
    assert abs(hardware.cycles - model.cycles) <= tolerance


@pytest.mark.parametrize("config", CONFIGS)
def test_an_attention_block(config):
    ops, values = attention_block(20, 16)
    program = compile_operations(ops, ["y"], config)
    run = Core(config).run(program, {"x": values["x"]})
    np.testing.assert_array_equal(run.outputs["y"], values["y"])
    as_the_model_says(run, program)


@pytest.mark.parametrize("config", CONFIGS)
def test_an_inverted_residual_block(config):
    rng = np.random.default_rng(11)
    graph = residual_block(rng)
    x = rng.normal(size=(2, 6, 6, 12)).astype(np.float32)
    program = lower(graph, minmax_plan(graph, x, wide=("x", "sum", "out")))
    made = compile_program(program.instructions, program.inputs, program.outputs, config)
    (result,), run = made.run(Core(config), x)
    np.testing.assert_array_equal(result, program.run(x)[0])
    as_the_model_says(run, made.program)


@pytest.mark.slow
def test_one_image_through_the_trained_model(trained):  # noqa: F811  (the fixture)
    program, images = trained
    made = compile_program(program.instructions, program.inputs, program.outputs, DEFAULT)
    (result,), run = made.run(Core(DEFAULT), images[:1])
    np.testing.assert_array_equal(result, program.run(images[:1])[0])
    as_the_model_says(run, made.program)
