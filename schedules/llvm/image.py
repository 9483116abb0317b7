"""Windows over channels-last images: which rows and columns a block of output rows reads."""

from __future__ import annotations

from dataclasses import dataclass

from schedules.rule import Workload

_SCRATCH = 128 * 1024
_TASKS = 8


@dataclass(frozen=True)
class Window:
    """The geometry of a convolution or pooling; padding is (top, left, bottom, right)."""

    batch: int
    height: int
    in_width: int
    channels: int
    out_height: int
    out_width: int
    outputs: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]
    pad_value: int

    @classmethod
    def of(cls, workload: Workload) -> Window:
        """The geometry of a ``conv2d``."""
        params = workload.params
        batch, height, width, channels = workload.arguments[0].shape
        _, out_height, out_width, outputs = workload.output.shape
        top, left, bottom, right = (int(p) for p in params["padding"])
        return cls(
            batch=batch,
            height=height,
            in_width=width,
            channels=channels,
            out_height=out_height,
            out_width=out_width,
            outputs=outputs,
            kernel=_pair(workload.arguments[1].shape[1:3]),
            strides=_pair(params["strides"]),
            dilation=_pair(params["dilation"]),
            padding=(top, left, bottom, right),
            pad_value=int(params["pad_value"]),
        )

    @property
    def label(self) -> str:
        """Kernel and output in a few characters; the batch where there is more than one image."""
        (rows, columns), (height, width) = self.kernel, (self.out_height, self.out_width)
        batch = "" if self.batch == 1 else f"{self.batch}x"
        return f"{rows}x{columns}_{batch}{height}x{width}x{self.channels}"

    @property
    def pixels(self) -> int:
        """Output pixels in all images."""
        return self.batch * self.out_height * self.out_width

    def span(self, rows: int) -> int:
        """Padded input rows that ``rows`` output rows read."""
        return (rows - 1) * self.strides[0] + (self.kernel[0] - 1) * self.dilation[0] + 1

    @property
    def width(self) -> int:
        """Padded input columns that an output row reads."""
        return (self.out_width - 1) * self.strides[1] + (self.kernel[1] - 1) * self.dilation[1] + 1


def row_blocks(window: Window, default: int) -> list[int]:
    """Numbers of output rows to compute together: a few, in blocks of equal height."""
    pieces = [1 << i for i in range(window.out_height.bit_length())]
    return sorted({default, *(-(-window.out_height // n) for n in pieces)})


def _pair(values: tuple[int, ...] | list[int]) -> tuple[int, int]:
    first, second = values
    return int(first), int(second)


def row_block(window: Window, threads: bool, itemsize: int) -> int:
    """How many output rows are computed together from scratch memory.

    Many, because neighbours share input rows; few enough for the cache, and for several threads.
    """
    most = window.out_height
    if threads:
        most = max(1, window.batch * window.out_height // _TASKS)
    row = window.width * window.channels * itemsize
    fitting = [
        n for n in range(1, min(most, window.out_height) + 1) if window.span(n) * row <= _SCRATCH
    ]
    tallest = max(fitting, default=1)
    # Blocks of equal height: the last one starts early, what it computes twice is wasted.
    blocks = -(-window.out_height // tallest)
    return -(-window.out_height // blocks)
