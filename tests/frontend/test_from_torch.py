"""Import of PyTorch models: names, constants, and every refusal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.frontend.support import OPERATORS
from hyq_tvm.frontend.torch import from_torch
from hyq_tvm.quantization.float_executor import FloatExecutor
from relay_passes.extract_graph import HANDLERS, extract_graph
from relay_passes.reading import arithmetic

X = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.SiLU()
        self.mlp = nn.Sequential(nn.Conv2d(8, 8, 1), nn.GELU(), nn.Conv2d(8, 8, 1))
        self.gain = nn.Parameter(torch.ones(8, 1, 1) * 2)

    def forward(self, x):
        return x + self.mlp(self.act(self.norm(x))) * self.gain


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    model = Net().eval()
    for block in model.blocks:
        block.norm.bias.data.fill_(0.5)
    return model


def bindings(mod):
    return [b.var.name for block in mod["main"].body.blocks for b in block.bindings]


def test_bindings_are_named_after_modules(net):
    names = bindings(from_torch(net, (X,)))
    for expected in ("stem", "blocks.0.norm", "blocks.1.act", "blocks.0.mlp.2", "head"):
        assert expected in names
    assert "blocks.1.add" in names
    assert "mean" in names


def test_the_graph_keeps_these_names(net):
    graph = extract_graph(from_torch(net, (X,)))
    assert [n.name for n in graph if n.op != "view"] == [
        "x", "stem",
        "blocks.0.norm.scale", "blocks.0.norm", "blocks.0.act",
        "blocks.0.mlp.0", "blocks.0.mlp.1", "blocks.0.mlp.2", "blocks.0.add",
        "blocks.1.norm.scale", "blocks.1.norm", "blocks.1.act",
        "blocks.1.mlp.0", "blocks.1.mlp.1", "blocks.1.mlp.2", "blocks.1.add",
        "mean", "head",
    ]  # fmt: skip
    (out,) = FloatExecutor(graph).run(X)
    np.testing.assert_allclose(out, net(X).detach(), rtol=1e-4, atol=1e-5)


def test_the_module_has_the_images_as_its_only_argument(net):
    main = from_torch(net, (X,))["main"]
    assert [[int(n) for n in p.ty.shape] for p in main.params] == [[2, 3, 8, 8]]


def test_an_exported_program_is_taken_as_it_is(net):
    program = torch.export.export(net, (X,))
    assert bindings(from_torch(program)) == bindings(from_torch(net, (X,)))


class Constants(nn.Module):
    """What is computed from weights alone is computed while importing."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(9, 4))
        self.register_buffer("index", torch.arange(16) % 9)

    def forward(self, x):
        bias = nn.functional.interpolate(
            self.table[self.index].reshape(1, 1, 8, 8), scale_factor=1.0
        )
        return x + bias + torch.arange(8).remainder(3) // 2


def test_constants_are_computed():
    torch.manual_seed(0)
    model = Constants().eval()
    graph = extract_graph(from_torch(model, (X,)))
    assert [n.op for n in graph if n.op not in ("view", "input")] == ["add"]
    (out,) = FloatExecutor(graph).run(X)
    np.testing.assert_allclose(out, model(X).detach(), rtol=1e-5)


class Unsupported(nn.Module):
    def __init__(self):
        super().__init__()
        self.neck = nn.Upsample(scale_factor=2, mode="bilinear")

    def forward(self, x):
        y = torch.fft.fft(self.neck(x)).real
        unused = torch.cumsum(x, 0)
        del unused
        return y.sort(-1)[0] + torch.special.i0(y)


def test_all_unsupported_operators_are_named_at_once_with_their_place():
    with pytest.raises(UnsupportedModelError) as caught:
        from_torch(Unsupported().eval(), (X,))
    message = str(caught.value)
    for expected in ("resize2d at neck", "fft_r2c", "i0", "sort"):
        assert expected in message
    assert "cumsum" not in message


class Causal(nn.Module):
    def forward(self, x):
        return nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)


def test_variants_that_the_importer_would_get_wrong_are_refused():
    with pytest.raises(UnsupportedModelError, match="causal"):
        from_torch(Causal().eval(), (X,))


def test_training_mode_is_refused():
    with pytest.raises(UnsupportedModelError, match=r"call model\.eval\(\)"):
        from_torch(Net(), (X,))
    model = Net().eval()
    model.blocks[1].norm.train()
    with pytest.raises(UnsupportedModelError, match=r"blocks\.1\.norm is in training mode"):
        from_torch(model, (X,))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(bad):
    model = Net().eval()
    model.blocks[0].mlp[2].weight.data[3, 1] = bad
    with pytest.raises(UnsupportedModelError, match=r"blocks\.0\.mlp\.2\.weight.* 1 values"):
        from_torch(model, (X,))


def test_open_shapes_are_refused(net):
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(net, (X,), dynamic_shapes=({0: batch},))
    with pytest.raises(UnsupportedModelError, match="without dynamic shapes"):
        from_torch(program)


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_what_torch_cannot_trace_is_refused():
    with pytest.raises(UnsupportedModelError, match="cannot trace"):
        from_torch(Branching().eval(), (X,))


def test_arguments_of_other_kinds_are_refused(net):
    with pytest.raises(UnsupportedModelError, match="not str"):
        from_torch("model.pt", (X,))
    with pytest.raises(UnsupportedModelError, match="example inputs"):
        from_torch(net)


def test_the_front_ends_know_what_extraction_reads():
    assert set(HANDLERS) - arithmetic.CONSTANTS_ONLY == OPERATORS
