"""Relax modules of one operator, and the raw graphs that the readers make of them."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from tvm import relax

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.quantization.float_executor import FloatExecutor
from relay_passes.extract_graph import read_graph


def random(name, *shape):
    """Numbers that depend on the name alone."""
    return np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape).astype(np.float32)


def x0(*shape):
    """What ``assert_computes`` gives the first input."""
    return random("x0", *shape)


def const(array, dtype=np.float32):
    return relax.const(np.asarray(array, dtype))


def module(write, *shapes, dtypes=()):
    """``main`` of inputs ``x0``, ``x1``.. returns ``write(*inputs)``, whose binding is ``y``."""
    builder = relax.BlockBuilder()
    types = map(relax.TensorType, shapes, dtypes or ["float32"] * len(shapes))
    inputs = [relax.Var(f"x{i}", type_) for i, type_ in enumerate(types)]
    with builder.function("main", inputs):
        with builder.dataflow():
            out = builder.emit_output(write(*inputs), "y")
        builder.emit_func_output(out)
    return builder.get()


def read(write, *shapes, dtypes=()):
    """The raw graph."""
    return read_graph(module(write, *shapes, dtypes=dtypes))


def nodes(graph):
    """Name, operator and inputs of every node but inputs and the views of images behind them."""
    hidden = {n.name for n in graph.inputs}
    hidden |= {f"{name}.view{more}" for name in hidden for more in ("", ".1")}
    return [(n.name, n.op, n.inputs) for n in graph if n.name not in hidden]


def one(graph, op):
    """The only node of an operator."""
    (node,) = [n for n in graph if n.op == op]
    return node


def outputs(graph):
    """What the graph computes from ``random`` inputs, as arrays."""
    inputs = [random(node.name, *node.shape) for node in graph.inputs]
    return [np.asarray(out) for out in FloatExecutor(graph).run(*inputs)]


def assert_computes(graph, *expected, rtol=1e-5):
    """``graph`` computes these arrays, in their shapes."""
    found = outputs(graph)
    assert [a.shape for a in found] == [np.shape(e) for e in expected]
    for array, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, want, rtol=rtol, atol=rtol)


def refusals(write, *shapes, dtypes=()):
    """The reasons for which reading is refused."""
    with pytest.raises(UnsupportedModelError) as caught:
        read(write, *shapes, dtypes=dtypes)
    first, *reasons = str(caught.value).split("\n  ")
    assert first == "unsupported operators:"
    return reasons


def refusal(write, *shapes, dtypes=()):
    """The one reason for which reading is refused."""
    (reason,) = refusals(write, *shapes, dtypes=dtypes)
    return reason
