"""The demonstration model: a CNN-transformer hybrid of MobileViT's kind for 32x32 grey images.

A strided stem, inverted residuals with depthwise convolutions and SiLU, two MobileViT blocks
(local convolution, transformer over the patches, fusion with the input by concatenation) and a
linear head: every operator class that the compiler must handle, in 131 thousand parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hyq_tvm.demo.data import CLASSES, SIZE, WEIGHTS_FILE, load_weights
from hyq_tvm.errors import ArtifactError

INPUT_SHAPE = (1, 1, SIZE, SIZE)
"""Shape of the traced example: batch, channels, height, width."""


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm and, if asked for, SiLU: [B,I,H,W] -> [B,O,H/s,W/s]."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(
                channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False
            ),
            nn.BatchNorm2d(channels_out),
        ]
        super().__init__(*layers, *([nn.SiLU()] if activation else []))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the input is added where shapes allow it."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        middle = 2 * channels_in
        self.expand = ConvNorm(channels_in, middle)
        self.depthwise = ConvNorm(middle, middle, 3, stride, groups=middle)
        self.project = ConvNorm(middle, channels_out, activation=False)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """Images [B,I,H,W] -> [B,O,H/stride,W/stride]."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class TransformerBlock(nn.Module):
    """Pre-norm multi-head attention and a two-layer perceptron on tokens [B,N,D]."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width)
        self.activation = nn.SiLU()
        self.contract = nn.Linear(2 * width, width)

    def attention(self, x: Tensor) -> Tensor:
        """Softmax attention of the tokens among themselves."""
        batch, tokens, width = x.shape
        split = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        y: Tensor = self.project(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return y

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B,N,D] -> [B,N,D]."""
        x = x + self.attention(self.norm1(x))
        y: Tensor = x + self.contract(self.activation(self.expand(self.norm2(x))))
        return y


class MobileViTBlock(nn.Module):
    """Convolution for what is near, a transformer for what is far.

    Pixels at the same place of their 2x2 patch form one sequence, so a map of HxW makes four
    sequences of HW/4 tokens.
    """

    def __init__(self, channels: int, width: int, depth: int, patch: int = 2) -> None:
        super().__init__()
        self.patch = patch
        self.local = ConvNorm(channels, channels, 3)
        self.embed = ConvNorm(channels, width)
        self.blocks = nn.Sequential(*[TransformerBlock(width) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.unembed = ConvNorm(width, channels)
        self.fuse = ConvNorm(2 * channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B,C,H,W] -> [B,C,H,W]; H and W are multiples of the patch."""
        y = self.embed(self.local(x))
        batch, width, height, breadth = y.shape
        p, rows, columns = self.patch, height // self.patch, breadth // self.patch
        y = y.reshape(batch, width, rows, p, columns, p).permute(0, 3, 5, 2, 4, 1)
        y = self.norm(self.blocks(y.reshape(batch * p * p, rows * columns, width)))
        y = y.reshape(batch, p, p, rows, columns, width).permute(0, 5, 3, 1, 4, 2)
        y = self.unembed(y.reshape(batch, width, height, breadth))
        fused: Tensor = self.fuse(torch.cat((x, y), dim=1))
        return fused


class DigitsHybrid(nn.Module):
    """Float32 images [B,1,32,32] in [0, 1] -> logits [B,10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(1, 16, 3, 2)
        self.stage1 = nn.Sequential(InvertedResidual(16, 16), InvertedResidual(16, 24))
        self.hybrid1 = MobileViTBlock(24, 32, depth=2)
        self.stage2 = InvertedResidual(24, 40, 2)
        self.hybrid2 = MobileViTBlock(40, 48, depth=2)
        self.head = ConvNorm(40, 96)
        self.classifier = nn.Linear(96, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Images [B,1,32,32] -> logits [B,10]."""
        for stage in (self.stem, self.stage1, self.hybrid1, self.stage2, self.hybrid2, self.head):
            x = stage(x)
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits


def load_model() -> DigitsHybrid:
    """The trained model in evaluation mode.

    Raises ``ArtifactError`` when the weights beside this file are missing or of another model.
    """
    model = DigitsHybrid()
    weights = {name: torch.from_numpy(value) for name, value in load_weights().items()}
    shapes = {name: value.shape for name, value in model.state_dict().items() if value.ndim}
    if {name: value.shape for name, value in weights.items()} != shapes:
        raise ArtifactError(
            f"{WEIGHTS_FILE.name} holds the weights of another model; "
            "make it again with python -m hyq_tvm.demo.train"
        )
    model.load_state_dict({**model.state_dict(), **weights})
    model.eval()
    return model
