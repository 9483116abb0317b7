"""Small graphs for pass tests: written by hand, run in float before and after."""

from __future__ import annotations

import zlib

import numpy as np

from hyq_tvm.quantization.float_executor import FloatExecutor
from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.view import View

CHANNELS_LAST, CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def random(name, *shape):
    """Numbers that depend on the name alone."""
    return np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape).astype(np.float32)


class Sketch:
    """Writes nodes one after the other; each method gives the new tensor's name."""

    def __init__(self):
        self.nodes = {}

    def add(self, name, op, inputs=(), shape=None, params=None, **attrs):
        shape = self.nodes[inputs[0]].shape if shape is None else tuple(shape)
        self.nodes[name] = Node(name, op, tuple(inputs), shape, attrs, params or {})
        return name

    def input(self, name, *shape):
        return self.add(name, "input", (), shape)

    def view(self, name, source, make):
        view = make(View.identity(self.nodes[source].shape))
        return self.add(name, "view", (source,), view.out_shape, view=view)

    def permute(self, name, source, *axes):
        return self.view(name, source, lambda view: view.permute(axes))

    def reshape(self, name, source, *shape):
        return self.view(name, source, lambda view: view.reshape(shape))

    def unary(self, name, source, fn, *args):
        return self.add(name, "unary", (source,), fn=fn, args=args)

    def scale(self, name, source, const):
        return self.add(name, "multiply", (source,), params={"const": np.float32(const)})

    def offset(self, name, source, const):
        return self.add(name, "add", (source,), params={"const": np.float32(const)})

    def pair(self, name, op, a, b):
        shape = np.broadcast_shapes(self.nodes[a].shape, self.nodes[b].shape)
        return self.add(name, op, (a, b), shape)

    def conv2d(self, name, source, outputs, kernel=1, padding=0, groups=1, stride=1):
        n, h, w, c = self.nodes[source].shape
        sides = [(size + 2 * padding - kernel) // stride + 1 for size in (h, w)]
        params = {
            "weight": random(f"{name}.weight", outputs, kernel, kernel, c // groups),
            "bias": random(f"{name}.bias", outputs),
        }
        attrs = {"strides": (stride,) * 2, "padding": (padding,) * 4, "dilation": (1, 1)}
        shape = (n, *sides, outputs)
        return self.add(name, "conv2d", (source,), shape, params, groups=groups, **attrs)

    def dense(self, name, source, outputs):
        *lead, width = self.nodes[source].shape
        params = {
            "weight": random(f"{name}.weight", outputs, width),
            "bias": random(f"{name}.bias", outputs),
        }
        return self.add(name, "dense", (source,), (*lead, outputs), params)

    def matmul(self, name, a, b, scale=1.0):
        shape = (*self.nodes[a].shape[:-1], self.nodes[b].shape[-2])
        return self.add(name, "matmul", (a, b), shape, scale=scale)

    def reduce(self, name, source, kind, axes, keepdims=False):
        before = self.nodes[source].shape
        shape = [1 if i in axes else n for i, n in enumerate(before) if keepdims or i not in axes]
        return self.add(
            name, "reduce", (source,), shape, kind=kind, axes=tuple(axes), keepdims=keepdims
        )

    def graph(self, *outputs):
        return Graph(self.nodes.values(), outputs or [list(self.nodes)[-1]])


def run(graph):
    inputs = [random(node.name, *node.shape) for node in graph.inputs]
    return [np.asarray(out) for out in FloatExecutor(graph).run(*inputs)]


def apply(graph, *passes, rtol=1e-4):
    """The graph after the passes, which left its results as they were."""
    after = graph
    for one in passes:
        after = one(after)
    before, now = run(graph), run(after)
    for x, y in zip(before, now, strict=True):
        np.testing.assert_allclose(y, x, rtol=rtol, atol=rtol)
    return after


def ops(graph, *hidden):
    """Operators in order, inputs left out."""
    return [node.op for node in graph if node.op not in ("input", *hidden)]


def assert_stays(one, s, *outputs):
    """The pass ``one`` gives back the very graph."""
    graph = s.graph(*outputs)
    assert one(graph) is graph


def widened(s, name, op, source, shape, const):
    """An operation whose constant gives the result more elements or axes than ``source`` has."""
    return s.add(name, op, (source,), shape, {"const": const})
