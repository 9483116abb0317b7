"""Small graphs and plans made by hand: exact control over every grid."""

import numpy as np

from hyq_tvm.numerics.qparams import choose_qparams
from hyq_tvm.quantization.config import QuantConfig
from hyq_tvm.quantization.float_executor import FloatExecutor
from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.plan import WIDE, LayerPlan, QuantPlan, TensorPlan

SYMMETRIC_READERS = ("matmul", "attention")


def node(name, op, inputs, shape, attrs=None, **params):
    arrays = {key: np.asarray(value, np.float32) for key, value in params.items()}
    return Node(name, op, tuple(inputs), tuple(shape), attrs or {}, arrays)


def float_values(graph, x):
    values = {}
    FloatExecutor(graph).run(x, tap=lambda name, t: values.__setitem__(name, t.numpy().copy()))
    values.setdefault(graph.inputs[0].name, x)
    return values


def tensor_plan(low, high, bits=8, symmetric=False, alpha=None):
    scale, zero_point = choose_qparams(float(low), float(high), bits, symmetric)
    scales = (scale,) if alpha is None else tuple(scale * np.asarray(alpha, float))
    return TensorPlan(scales, zero_point, bits, symmetric, "minmax", float(low), float(high))


def minmax_plan(graph, x, *, wide=(), alpha=None, bits=None, layers=None):
    """8 bits everywhere, also 16 for ``wide`` tensors and outputs; alpha: factors per channel."""
    values = float_values(graph, x)
    readers = graph.consumers()
    tensors = {}
    for item in graph:
        if item.name not in values:
            continue
        v = values[item.name]
        symmetric = any(r.op in SYMMETRIC_READERS for r in readers[item.name])
        factor = (alpha or {}).get(item.name)
        real = v if factor is None else v / np.asarray(factor)
        width = (bits or {}).get(item.name, 8)
        tensors[item.name] = tensor_plan(real.min(), real.max(), width, symmetric, factor)
        if item.name in wide or item.name in graph.outputs:
            tensors[item.name + WIDE] = tensor_plan(v.min(), v.max(), 16, True)
    decisions = {n.name: LayerPlan(op=n.op) for n in graph}
    decisions.update({k: LayerPlan(op=graph[k].op, **v) for k, v in (layers or {}).items()})
    return QuantPlan(QuantConfig(), graph.fingerprint(), tensors, decisions)


def sqnr(reference, value):
    error = np.square(np.asarray(reference, float) - value).sum()
    return 10 * np.log10(np.square(np.asarray(reference, float)).sum() / max(error, 1e-30))


def conv(rng, name, source, shape, kernel=1, stride=1, groups=1, cin=None, padding=None):
    cin = cin if cin is not None else shape[-1]
    pad = kernel // 2 if padding is None else padding
    weight = rng.normal(size=(shape[-1], kernel, kernel, cin // groups)) / kernel
    attrs = {
        "strides": (stride, stride),
        "padding": (pad,) * 4,
        "dilation": (1, 1),
        "groups": groups,
    }
    return node(
        name, "conv2d", [source], shape, attrs, weight=weight, bias=rng.normal(size=shape[-1])
    )


def dense(rng, name, source, shape, k):
    weight = rng.normal(size=(shape[-1], k)) / np.sqrt(k)
    return node(name, "dense", [source], shape, weight=weight, bias=rng.normal(size=shape[-1]))


def residual_block(rng, channels=12):
    """conv, silu, depthwise, silu, project, add, and a second consumer of the stream."""
    s = (2, 6, 6, channels)
    m = (2, 6, 6, 2 * channels)
    return Graph(
        [
            node("x", "input", [], s),
            conv(rng, "expand", "x", m, cin=channels),
            node("act1", "unary", ["expand"], m, {"fn": "silu"}),
            conv(rng, "depthwise", "act1", m, kernel=3, groups=2 * channels, cin=2 * channels),
            node("act2", "unary", ["depthwise"], m, {"fn": "silu"}),
            conv(rng, "project", "act2", s, cin=2 * channels),
            node("sum", "add", ["x", "project"], s),
            conv(rng, "next", "sum", s, cin=channels),
            node("out", "add", ["next", "sum"], s),
        ],
        ["out"],
    )
