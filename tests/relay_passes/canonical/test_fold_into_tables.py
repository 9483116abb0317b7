"""What follows an activation by a number is part of its table."""

import numpy as np
import pytest
import torch

import hyq_tvm
from hyq_tvm.quantization.float_executor import FloatExecutor
from relay_passes.extract_graph import extract_graph


class Affine(torch.nn.Module):
    """conv -> activation -> scalar affine -> conv, padded: the affine cannot go into weights."""

    def __init__(self, activation, twice=False, branch=False):
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.second = torch.nn.Conv2d(4, 5, 3, padding=1)
        self.activation, self.twice, self.branch = activation, twice, branch

    def forward(self, x):
        y = self.activation(self.first(x))
        z = y * 1.5 + 0.25
        if self.twice:
            z = z * -2.0 + 0.75
        out = self.second(z)
        return out + y.sum((1,), keepdim=True) if self.branch else out


def graph_of(model):
    return extract_graph(hyq_tvm.from_torch(model.eval(), (torch.zeros(1, 3, 6, 6),)))


@pytest.mark.parametrize(
    "name", ["hardswish", "silu", "gelu", "sigmoid", "hardsigmoid", "tanh", "square"]
)
@pytest.mark.parametrize("twice", [False, True])
def test_a_scalar_affine_is_part_of_the_table(name, twice):
    functions = {"tanh": torch.tanh, "square": torch.square, "sigmoid": torch.sigmoid}
    model = Affine(functions.get(name) or getattr(torch.nn.functional, name), twice)
    graph = graph_of(model)
    (unary,) = [node for node in graph if node.op == "unary"]
    assert unary.attrs["fn"] == f"{name}_affine"
    expected = (-3.0, 0.25) if twice else (1.5, 0.25)
    assert unary.attrs["args"] == expected
    assert not any(node.op in ("add", "multiply") for node in graph)
    x = np.random.default_rng(0).normal(size=(1, 3, 6, 6)).astype(np.float32)
    with torch.inference_mode():
        exact = model(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(FloatExecutor(graph).run(x)[0].numpy(), exact, atol=2e-5)


def test_an_activation_that_others_read_stays():
    graph = graph_of(Affine(torch.nn.functional.silu, branch=True))
    assert {node.attrs["fn"] for node in graph if node.op == "unary"} == {"silu"}


def test_clamps_stay_clamps():
    graph = graph_of(Affine(torch.nn.functional.relu))
    assert {node.attrs["fn"] for node in graph if node.op == "unary"} == {"relu"}


def test_the_compiled_program_equals_the_golden_model():
    from relay_passes.read_program import golden

    module = hyq_tvm.from_torch(
        Affine(torch.nn.functional.hardswish).eval(), (torch.zeros(1, 3, 6, 6),)
    )
    images = np.random.default_rng(1).normal(size=(16, 3, 6, 6)).astype(np.float32)
    quantized = hyq_tvm.quantize(module, images, progress=False)
    exe = hyq_tvm.compile(quantized)
    assert exe.metadata.integer_only
    np.testing.assert_array_equal(exe(images[:1]), golden(quantized)(images[:1])[0])
