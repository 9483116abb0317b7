"""Whole integer programs on the accelerator: every integer as the golden model has it."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from PIL import Image

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.quantization.lowering import lower
from hyq_tvm.vta.arch import DEFAULT, TINY
from hyq_tvm.vta.codegen import compile_program
from hyq_tvm.vta.simulator import Simulator
from tests.quantization.lowering.planning import minmax_plan, residual_block
from tests.vta.models import wide_tensors

IMAGES = 1


def compiled(program, config=DEFAULT):
    return compile_program(program.instructions, program.inputs, program.outputs, config)


@pytest.mark.parametrize("config", [DEFAULT, TINY], ids=["default", "tiny"])
def test_an_inverted_residual_block(config):
    rng = np.random.default_rng(11)
    graph = residual_block(rng)
    x = rng.normal(size=(2, 6, 6, 12)).astype(np.float32)
    program = lower(graph, minmax_plan(graph, x, wide=("x", "sum", "out")))
    made = compiled(program, config)
    for sample in (x, 3 * x, np.zeros_like(x)):
        (result,), run = made.run(Simulator(config), sample)
        np.testing.assert_array_equal(result, program.run(sample)[0])
    assert run.counters["macs"] > 0
    assert [o.op for o in (*made.before, *made.after)] == ["quantize", "dequantize"]


def test_a_float_operator_inside_is_refused():
    rng = np.random.default_rng(11)
    graph = residual_block(rng)
    x = rng.normal(size=(2, 6, 6, 12)).astype(np.float32)
    layers = {"next": {"exclude": True}}
    program = lower(graph, minmax_plan(graph, x, wide=("x", "sum", "out"), layers=layers))
    with pytest.raises(UnsupportedModelError, match="next"):
        compiled(program)


@pytest.fixture(scope="module")
def trained(shared):
    """The trained model's integer program, and a test image."""
    path = shared / "models" / "mobilevit_cifar10.py"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    torch = pytest.importorskip("torch")
    hyq_tvm = pytest.importorskip("hyq_tvm")
    extract = pytest.importorskip("relay_passes.extract_graph").extract_graph
    spec = importlib.util.spec_from_file_location("mobilevit_cifar10", path)
    source = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source)
    with np.load(shared / "data" / "cifar10.npz") as data:
        images = prepared(data["test_images"][:IMAGES], source)
        sample = prepared(data["calib_images"][:1], source)
    module = hyq_tvm.from_torch(source.load(), (torch.tensor(sample),))
    graph = extract(module)
    return lower(graph, minmax_plan(graph, sample, wide=wide_tensors(graph))), images


def prepared(images, source):
    resized = [np.asarray(Image.fromarray(i).resize((64, 64), Image.BILINEAR)) for i in images]
    scaled = np.stack(resized).astype(np.float32) / 255
    normal = (scaled - np.float32(source.MEAN)) / np.float32(source.STD)
    return np.ascontiguousarray(normal.transpose(0, 3, 1, 2))


@pytest.mark.slow
def test_the_same_integers_in_any_order_of_units(trained):
    program, images = trained
    made = compiled(program)
    expected = program.run(images[:1])[0]
    for priority in (("store", "compute", "load"), ("compute", "store", "load")):
        (result,), _ = made.run(Simulator(DEFAULT, priority=priority), images[:1])
        np.testing.assert_array_equal(result, expected)
    (result,), run = made.run(Simulator(DEFAULT, kernels="numpy"), images[:1])
    np.testing.assert_array_equal(result, expected)
    assert run.kernels == "numpy"
