"""Every operator that a PyTorch model may use, through import and extraction, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hyq_tvm.frontend.torch import from_torch
from hyq_tvm.quantization.float_executor import FloatExecutor
from relay_passes.extract_graph import extract_graph


class Function(nn.Module):
    """A module around a function, with a convolution before it so that layouts matter."""

    def __init__(self, function, *layers):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.layers = nn.ModuleList(layers)
        self.function = function

    def forward(self, x):
        return self.function(self.first(x), *self.layers)


def tokens(x):
    return x.flatten(2).transpose(1, 2)


def attend(x, scale=None, mask=None):
    heads = tokens(x).unflatten(-1, (2, 4)).transpose(1, 2)
    out = F.scaled_dot_product_attention(heads, heads * 2, heads + 1, attn_mask=mask, scale=scale)
    return out.transpose(1, 2).flatten(2)


MASK = torch.linspace(-3, 3, 64 * 64).reshape(64, 64)

FUNCTIONS = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, -0.2, 0.3),
    "clamp": lambda x: x.clamp(-0.1, 0.4),
    "clamp_min": lambda x: x.clamp(min=-0.1),
    "silu": F.silu,
    "silu_spelled": lambda x: x * torch.sigmoid(x),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_spelled": lambda x: x * 0.5 * (1.0 + torch.erf(x / 2**0.5)),
    "hardswish": F.hardswish,
    "hardswish_spelled": lambda x: x * F.relu6(x + 3) / 6,
    "hardsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "elu": lambda x: F.elu(x, 0.7),
    "exp": torch.exp,
    "abs": torch.abs,
    "neg": torch.neg,
    "square": torch.square,
    "pow3": lambda x: x.pow(3),
    "sqrt": lambda x: (x.abs() + 1).sqrt(),
    "rsqrt": lambda x: (x.abs() + 1).rsqrt(),
    "sum_of_two": lambda x: x + F.relu(x),
    "difference": lambda x: F.relu(x) - x,
    "product": lambda x: x * torch.sigmoid(x + 1),
    "scalars": lambda x: (1 - 2 * x) / 3 + 1,
    "channels_first_constant": lambda x: x * torch.arange(8.0).reshape(1, 8, 1, 1),
    "spatial_constant": lambda x: x + torch.arange(64.0).reshape(1, 1, 8, 8),
    "mean_hw": lambda x: x.mean((2, 3)),
    "mean_keep": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "mean_channels": lambda x: x - x.mean(1, keepdim=True),
    "sum_width": lambda x: x.sum(-1),
    "mean_flat": lambda x: x.flatten(2).mean(-1),
    "global_pool": lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
    "adaptive_pool": lambda x: F.adaptive_avg_pool2d(x, 4),
    "avg_pool": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "avg_pool_excluding": lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    "avg_pool_ceil": lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True),
    "max_pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max_pool_ceil": lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True),
    "softmax_channels": lambda x: x.softmax(1),
    "softmax_last": lambda x: x.softmax(-1),
    "concat": lambda x: torch.cat([x, F.relu(x)], 1),
    "concat_width": lambda x: torch.cat([x, F.relu(x)], 3),
    "stack": lambda x: torch.stack([x, F.relu(x)], 1),
    "chunk": lambda x: x.chunk(2, 1)[0] * x.chunk(2, 1)[1],
    "split": lambda x: torch.cat(x.split([3, 5], 1)[::-1], 1),
    "slices": lambda x: x[:, 1:7:2, ::2, 3:],
    "roll": lambda x: x.roll((2, -3), (2, 3)),
    "pad": lambda x: F.pad(x, (1, 2, 0, 3)),
    "unflatten": lambda x: x.unflatten(2, (4, 2)),
    "nearest": lambda x: F.interpolate(x, scale_factor=(2, 3), mode="nearest"),
    "repeat": lambda x: x.repeat(1, 2, 1, 1),
    "expand": lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, 8, 8),
    "permute": lambda x: x.permute(0, 3, 1, 2).relu().permute(0, 2, 3, 1),
    "index": lambda x: tokens(x)[:, 0],
    "matmul": lambda x: tokens(x) @ x.flatten(2),
    "matmul_constant": lambda x: tokens(x) @ torch.linspace(-1, 1, 40).reshape(8, 5),
    "constant_matmul": lambda x: torch.linspace(-1, 1, 40).reshape(5, 8) @ x.flatten(2),
    "einsum": lambda x: torch.einsum("bchw,cd->bdhw", x, torch.linspace(-1, 1, 40).reshape(8, 5)),
    "attention": attend,
    "attention_scaled": lambda x: attend(x, scale=0.9),
    "attention_masked": lambda x: attend(x, mask=MASK),
    "attention_of_3_axes": lambda x: F.scaled_dot_product_attention(*[tokens(x)] * 3),
    "dropout": lambda x: F.dropout(x, 0.5, training=False),
}

LAYERS = {
    "linear": lambda: nn.Linear(8, 5),
    "linear_without_bias": lambda: nn.Linear(8, 5, bias=False),
    "layer_norm": lambda: nn.LayerNorm(8),
    "layer_norm_plain": lambda: nn.LayerNorm(8, elementwise_affine=False),
}

IMAGE_LAYERS = {
    "batch_norm": lambda: nn.BatchNorm2d(8),
    "batch_norm_plain": lambda: nn.BatchNorm2d(8, affine=False),
    "group_norm": lambda: nn.GroupNorm(4, 8),
    "group_norm_1": lambda: nn.GroupNorm(1, 8),
    "instance_norm": lambda: nn.InstanceNorm2d(8, affine=True),
    "conv_strided": lambda: nn.Conv2d(8, 6, 3, 2, 1),
    "conv_grouped": lambda: nn.Conv2d(8, 12, 3, groups=4),
    "conv_depthwise": lambda: nn.Conv2d(8, 8, 5, padding=2, groups=8),
    "conv_dilated": lambda: nn.Conv2d(8, 6, 3, dilation=2),
    "conv_same": lambda: nn.Conv2d(8, 6, 4, padding="same"),
    "conv_rectangle": lambda: nn.Conv2d(8, 6, (1, 3), (2, 1), (0, 1), bias=False),
    "layer_norm_over_images": lambda: nn.LayerNorm((8, 8, 8)),
    "prelu": lambda: nn.PReLU(),
    "prelu_per_channel": lambda: nn.PReLU(8),
}


class Many(nn.Module):
    """Many functions of one image at once, because tracing takes longer than anything else."""

    def __init__(self, functions):
        super().__init__()
        self.functions = nn.ModuleList(functions)

    def forward(self, x):
        return tuple(function(x) for function in self.functions)


def randomized(model):
    torch.manual_seed(0)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point():
            value = torch.randn_like(tensor) * 0.5
            tensor.data.copy_(value.abs() + 0.5 if name.endswith("var") else value)
    return model.eval()


def outcomes(modules):
    """For every named module PyTorch's result and the extracted graph's."""
    model = randomized(Many(modules.values()))
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = model(x)
    graph = extract_graph(from_torch(model, (x,)))
    actual = FloatExecutor(graph).run(x)
    return dict(zip(modules, zip(expected, actual, strict=True), strict=True))


def behind(name):
    """A convolution that takes what the image layer of this name makes."""
    channels = {"conv_grouped": 12, "conv_strided": 6, "conv_dilated": 6, "conv_same": 6}
    width = 6 if name == "conv_rectangle" else channels.get(name, 8)
    return nn.Conv2d(width, 4, 3, padding=1, groups=2)


@pytest.fixture(scope="module")
def results():
    between = {
        f"{name}_between": Function(
            lambda x, layer, last: last(layer(F.relu(x))), make(), behind(name)
        )
        for name, make in IMAGE_LAYERS.items()
    }
    images = {
        name: Function(lambda x, layer: layer(x), make()) for name, make in IMAGE_LAYERS.items()
    }
    rows = {
        name: Function(lambda x, layer: layer(tokens(x)), make()) for name, make in LAYERS.items()
    }
    functions = {name: Function(function) for name, function in FUNCTIONS.items()}
    return outcomes({**functions, **rows, **images, **between})


@pytest.mark.parametrize(
    "name", [*FUNCTIONS, *LAYERS, *IMAGE_LAYERS, *(f"{name}_between" for name in IMAGE_LAYERS)]
)
def test_the_graph_computes_what_torch_does(results, name):
    """``_between`` tests that layers fold rightly into neighbours with padding and groups."""
    expected, actual = results[name]
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "fn"),
    [
        ("silu_spelled", "silu"),
        ("gelu_spelled", "gelu"),
        ("hardswish", "hardswish"),
        ("hardswish_spelled", "hardswish"),
        ("hardsigmoid", "hardsigmoid"),
        ("gelu_tanh", "gelu_tanh"),
    ],
)
def test_activations_are_one_node(name, fn):
    model = randomized(Function(FUNCTIONS[name]))
    graph = extract_graph(from_torch(model, (torch.randn(2, 3, 8, 8),)))
    assert [n.attrs["fn"] for n in graph if n.op == "unary"] == [fn]
    assert not any(n.op in ("add", "multiply") for n in graph)
