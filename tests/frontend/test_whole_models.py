"""Whole models: imported, canonical, and the same numbers as PyTorch."""

from __future__ import annotations

import collections
import functools
import importlib.util
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.frontend import from_onnx, from_torch, named_model
from hyq_tvm.quantization.float_executor import FloatExecutor
from relay_passes.extract_graph import extract_graph


@dataclass(frozen=True)
class Expected:
    """Operators of the canonical graph, and how many of its views move data."""

    size: int
    moving: int
    ops: dict[str, int]


MODELS = {
    "mobilevit_xxs": Expected(128, 43, {
        "conv2d": 35, "unary": 34, "dense": 55, "layer_norm": 21, "attention": 9, "add": 21,
        "concat": 3, "reduce": 1,
    }),
    "mobilevit_xs": Expected(128, 43, {
        "conv2d": 35, "unary": 34, "dense": 55, "layer_norm": 21, "attention": 9, "add": 20,
        "concat": 3, "reduce": 1,
    }),
    "mobilevit_s": Expected(128, 43, {
        "conv2d": 35, "unary": 34, "dense": 55, "layer_norm": 21, "attention": 9, "add": 20,
        "concat": 3, "reduce": 1,
    }),
    "mobilevitv2_050": Expected(128, 16, {
        "conv2d": 82, "unary": 34, "group_norm": 21, "softmax": 9, "matmul": 9, "multiply": 9,
        "add": 19, "dense": 1, "reduce": 1,
    }),
    "mobilevitv2_075": Expected(128, 16, {
        "conv2d": 82, "unary": 34, "group_norm": 21, "softmax": 9, "matmul": 9, "multiply": 9,
        "add": 19, "dense": 1, "reduce": 1,
    }),
    "efficientformer_l1": Expected(224, 5, {
        "conv2d": 33, "unary": 17, "avg_pool2d": 14, "multiply": 28, "add": 30, "layer_norm": 3,
        "dense": 7, "attention": 1, "reduce": 1,
    }),
    "deit_tiny_patch16_224": Expected(64, 50, {
        "conv2d": 1, "constant": 1, "concat": 1, "dense": 73, "layer_norm": 25, "attention": 12,
        "unary": 12, "add": 25,
    }),
    "vit_tiny_patch16_224": Expected(64, 50, {
        "conv2d": 1, "constant": 1, "concat": 1, "dense": 73, "layer_norm": 25, "attention": 12,
        "unary": 12, "add": 25,
    }),
    "swin_tiny_patch4_window7_224": Expected(224, 112, {
        "conv2d": 1, "dense": 76, "layer_norm": 29, "attention": 12, "unary": 12, "add": 24,
        "concat": 20, "reduce": 1,
    }),
}  # fmt: skip


def built(name, size):
    """The model with random weights and statistics that make every term count."""
    try:
        model, _ = named_model(name, image_size=size)
    except UnsupportedModelError as error:
        pytest.skip(f"timm is not usable here: {error}")
    generator = torch.Generator().manual_seed(0)
    for key, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if key.endswith("running_var"):
            tensor.data.copy_(noise.abs() + 0.5)
        else:
            tensor.data.add_(noise * 0.1 * (tensor.abs().mean() + 0.1))
    return model


def inventory(graph):
    counts = collections.Counter(n.op for n in graph if n.op not in ("input", "view"))
    moving = [n for n in graph if n.op == "view" and not n.attrs["view"].is_identity]
    return dict(counts), moving


def agrees(model, graph, x, tolerance=1e-4):
    with torch.no_grad():
        expected = model(x).numpy()
    (actual,) = FloatExecutor(graph).run(x)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual / scale, expected / scale, atol=tolerance)


def image(size, batch=1):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


@functools.lru_cache(maxsize=1)
def imported(name):
    size = MODELS[name].size
    model, x = built(name, size), image(size)
    return model, x, extract_graph(from_torch(model, (x,)))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "mobilevit_xxs" else pytest.mark.slow)
        for name in MODELS
    ],
)
def test_timm(name):
    expected = MODELS[name]
    model, x, graph = imported(name)
    counts, moving = inventory(graph)
    assert counts == expected.ops
    assert len(moving) == expected.moving
    agrees(model, graph, x)


def test_no_view_moves_data_in_the_convolutional_part():
    """Only the image, unfolding, folding and heads move; the convolutions' tensors never do."""
    _, _, graph = imported("mobilevit_xxs")
    readers = graph.consumers()
    elementwise = {"conv2d", "unary", "add", "concat"}
    for node in inventory(graph)[1]:
        source = graph[node.inputs[0]].op
        targets = {reader.op for reader in readers[node.name]}
        between = source in elementwise and targets <= elementwise
        assert not between, f"{node.name} lies between {source} and {targets}"


@pytest.mark.slow
def test_batches_keep_images_apart():
    model, x = built("mobilevit_xxs", 64), image(64, batch=3)
    agrees(model, extract_graph(from_torch(model, (x,))), x)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilevit_xxs", "efficientformer_l1"])
def test_onnx_exports_give_the_same_operators(name, tmp_path):
    pytest.importorskip("onnxscript", reason="exporting to ONNX needs onnxscript")
    expected = MODELS[name]
    model, x = built(name, expected.size), image(expected.size)
    path = tmp_path / "model.onnx"
    torch.onnx.export(model, (x,), path, dynamo=True, verbose=False, external_data=False)
    graph = extract_graph(from_onnx(path))
    assert inventory(graph)[0] == expected.ops
    agrees(model, graph, x)


@pytest.fixture(scope="module")
def trained(shared):
    source = shared / "models" / "mobilevit_cifar10.py"
    spec = importlib.util.spec_from_file_location("mobilevit_cifar10", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with np.load(shared / "data" / "cifar10.npz") as data:
        images = data["test_images"][::625]
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    x = torch.nn.functional.interpolate(x, (64, 64), mode="bilinear")
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (module.MEAN, module.STD))
    return module.load(), (x - mean) / std


def test_the_trained_hybrid(trained):
    """Its attention is written out, with one fused projection for query, key and value."""
    model, x = trained
    graph = extract_graph(from_torch(model, (x,)))
    counts, moving = inventory(graph)
    assert counts == {
        "conv2d": 35, "unary": 37, "dense": 55, "layer_norm": 18, "attention": 9, "add": 21,
        "concat": 3, "reduce": 1,
    }  # fmt: skip
    # Its last stage is a single patch: nothing moves there.
    assert len(moving) == 1 + 2 * 2 + 6 * 4
    agrees(model, graph, x, tolerance=1e-5)
    with torch.no_grad():
        expected = model(x).argmax(1)
    assert torch.equal(FloatExecutor(graph).run(x)[0].argmax(1), expected)
