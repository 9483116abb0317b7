"""Padding with zeros before a convolution becomes the convolution's own."""

from __future__ import annotations

from hyq_tvm.quantization.graph import Graph, Node
from relay_passes.canonical.builder import Builder, rewrite


def fold_padding(graph: Graph) -> Graph:
    """Fold zero padding of height and width into ``attrs["padding"]`` of conv2d."""
    return rewrite(graph, _fold)


def _fold(new: Builder, node: Node) -> str | None:
    if node.op != "conv2d":
        return None
    pad = new[node.inputs[0]]
    if pad.op != "pad" or pad.attrs["value"] != 0.0:
        return None
    batch, rows, columns, channels = pad.attrs["pads"]
    if any(batch) or any(channels):
        return None
    extra = (rows[0], columns[0], rows[1], columns[1])
    padding = tuple(a + b for a, b in zip(node.attrs["padding"], extra, strict=True))
    return new.emit(node.with_(inputs=pad.inputs, attrs={**node.attrs, "padding": padding}))
