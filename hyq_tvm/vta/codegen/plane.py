"""Windows that slide over images: which input block a block of outputs reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.vta.codegen.context import Tensor
from hyq_tvm.vta.codegen.window import Window, pieces
from hyq_tvm.vta.isa.table import PAD_BITS
from hyq_tvm.vta.transfer import Transfer

MAX_PAD = (1 << PAD_BITS) - 1


@dataclass(frozen=True)
class Plane:
    """A sliding window over ``[B,H,W,C]``; padding is (top, left)."""

    batch: int
    height: int
    width: int
    out_height: int
    out_width: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    padded: bool

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        out: Sequence[int],
        kernel: Sequence[int],
        params: Mapping[str, Any],
    ) -> Plane:
        """Of a convolution's or a pool's parameters."""
        padding = [int(p) for p in params["padding"]]
        if max(padding) > MAX_PAD:
            raise UnsupportedModelError(f"padding {padding}: at most {MAX_PAD} on each side")
        dilation = params.get("dilation", (1, 1))
        return cls(
            batch=shape[0],
            height=shape[1],
            width=shape[2],
            out_height=out[1],
            out_width=out[2],
            kernel=(int(kernel[0]), int(kernel[1])),
            strides=(int(params["strides"][0]), int(params["strides"][1])),
            padding=(padding[0], padding[1]),
            dilation=(int(dilation[0]), int(dilation[1])),
            padded=any(padding),
        )

    @property
    def is_pointwise(self) -> bool:
        """Every output reads the input at its own position and no other."""
        return self.kernel == (1, 1) == self.strides and not self.padded

    @property
    def spans(self) -> tuple[int, int]:
        """Rows and columns from a window's first to its last element."""
        down, across = (d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))
        return down, across

    def extent(self, height: int, width: int) -> tuple[int, int]:
        """Input rows and columns, padding included, of a block of outputs."""
        down, across = self.spans
        return (height - 1) * self.strides[0] + down, (width - 1) * self.strides[1] + across

    def area(self, height: int, width: int) -> int:
        """Input positions of a block of outputs."""
        rows, columns = self.extent(height, width)
        return rows * columns

    def tap_shifts(self, in_width: int) -> list[int]:
        """The positions of a window's elements in a block that is ``in_width`` wide."""
        return [
            y * self.dilation[0] * in_width + x * self.dilation[1]
            for y in range(self.kernel[0])
            for x in range(self.kernel[1])
        ]


@dataclass(frozen=True)
class Spot:
    """A block of outputs and the block of inputs that it reads."""

    image: int
    row: int
    column: int
    height: int
    width: int
    in_height: int
    in_width: int

    @property
    def in_area(self) -> int:
        """Input positions, padding included."""
        return self.in_height * self.in_width

    def input_move(
        self, plane: Plane, x: Tensor, channel: int, length: int, memory: str
    ) -> Transfer:
        """Brings ``length`` channels of the inputs on chip, from entry 0 on."""
        top, y = clipped(self.row, self.in_height, plane.strides[0], plane.padding[0])
        left, column = clipped(self.column, self.in_width, plane.strides[1], plane.padding[1])
        rows = min(self.in_height - top, plane.height - y)
        columns = min(self.in_width - left, plane.width - column)
        require_inputs(rows, columns)
        channels, size = x.shape[3], np.dtype(x.dtype).itemsize
        start = ((self.image * plane.height + y) * plane.width + column) * channels + channel
        pads = (top, self.in_height - top - rows, left, self.in_width - left - columns)
        return Transfer(
            memory=memory,
            sram=0,
            dram=x.address + start * size,
            y=rows,
            x=columns,
            length=length,
            pads=pads,
            y_stride=plane.width * channels * size,
            x_stride=channels * size,
        )

    def output_window(self, plane: Plane, channels: int, channel: int, length: int) -> Window:
        """Where ``length`` channels of the outputs go."""
        position = (self.image * plane.out_height + self.row) * plane.out_width + self.column
        return Window(
            start=position * channels + channel,
            y=self.height,
            x=self.width,
            length=length,
            y_stride=plane.out_width * channels,
            x_stride=channels,
        )


def require_inputs(rows: int, columns: int) -> None:
    """Raises ``UnsupportedModelError`` where a block of outputs reads nothing but padding."""
    if rows < 1 or columns < 1:
        raise UnsupportedModelError("a window lies wholly in the padding")


def clipped(first: int, extent: int, stride: int, padding: int) -> tuple[int, int]:
    """Padding before the block, and the first real row or column."""
    start = first * stride - padding
    before = min(max(-start, 0), extent)
    return before, max(start, 0)


def plane_tiles(plane: Plane, height: int, width: int) -> Iterator[Spot]:
    """All blocks of at most ``height`` x ``width`` outputs."""
    for image in range(plane.batch):
        for row, rows in pieces(plane.out_height, height):
            for column, columns in pieces(plane.out_width, width):
                in_height, in_width = plane.extent(rows, columns)
                yield Spot(image, row, column, rows, columns, in_height, in_width)
