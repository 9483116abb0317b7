"""The canonical float graph: what a model is once layout, views and idioms are settled.

Every activation is channels-last: the channel axis of a tensor is its last one. A graph is a
list of nodes in topological order; each node makes exactly one tensor, which bears the node's
name. Weights are plain NumPy arrays inside their node. Nothing here imports TVM or torch.

Operators, their inputs, ``params`` (arrays) and ``attrs``:

=============  =========  ==============================  =======================================
op             inputs     params                          attrs
=============  =========  ==============================  =======================================
input          -          -                               -
constant       -          value                           -
conv2d         x          weight [O,KH,KW,I/g], bias [O]  strides (2), padding (t,l,b,r),
                                                          dilation (2), groups
dense          x          weight [N,K], bias [N]          -
matmul         a, b       -                               scale: a [..,M,K] x b [..,N,K] -> [..,M,N]
attention      q, k, v    bias (optional, [..,N,M])       scale: q [..,N,D], k [..,M,D], v [..,M,E]
softmax        x          -                               - (over the last axis)
layer_norm     x          gamma [C], beta [C]             eps (over the last axis)
group_norm     x          gamma [C], beta [C]             groups, eps (over all but batch, a group)
unary          x          -                               fn, args (see ``UNARY``)
add            a, b | a   const (if one input)            - (NumPy broadcasting)
multiply       a, b | a   const (if one input)            - (NumPy broadcasting)
concat         x...       -                               axis (>= 0)
reduce         x          -                               kind "sum"|"mean", axes (>= 0), keepdims
avg_pool2d     x          -                               kernel (2), strides (2), padding (tlbr),
                                                          count_include_pad
max_pool2d     x          -                               kernel, strides, padding
pad            x          -                               pads ((lo, hi) an axis), value
view           x          -                               view: ``View`` (reshape, permute, slice,
                                                          broadcast in one)
=============  =========  ==============================  =======================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPS = frozenset(
    "input constant conv2d dense matmul attention softmax layer_norm group_norm unary add multiply "
    "concat reduce avg_pool2d max_pool2d pad view".split()
)

TABLES = frozenset("silu gelu gelu_tanh sigmoid hardswish hardsigmoid tanh square".split())
"""Functions of one number without ``args`` that are always made as tables."""

AFFINE = "_affine"
"""Suffix of a function of ``TABLES``: ``silu_affine`` with ``args`` (a, b) is a*silu(x) + b."""

UNARY = frozenset(
    "relu relu6 hardtanh leaky_relu elu exp sqrt rsqrt abs neg affine clip erf".split()
) | TABLES.union(name + AFFINE for name in TABLES)
"""Functions of one number. ``args``: affine (a, b) is a*x + b; clip (lo, hi); leaky_relu (slope,);
elu (alpha,); hardtanh (lo, hi); those with ``AFFINE`` (a, b); the rest take none."""


@dataclass(frozen=True, eq=False)
class Node:
    """One operator and the tensor it makes. ``shape`` is the static shape of that tensor."""

    name: str
    op: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Length of the channel (last) axis."""
        return self.shape[-1]

    def with_(self, **changes: Any) -> Node:
        """A copy with the given fields changed."""
        return replace(self, **changes)


class Graph:
    """Nodes by name in topological order, and the names of the outputs.

    Raises ``ValueError`` when a node uses a later or unknown tensor, repeats a name or has an
    operator that this page does not list: a broken graph is a bug of the pass that made it.
    """

    def __init__(self, nodes: Iterable[Node], outputs: Iterable[str]) -> None:
        self.nodes: dict[str, Node] = {}
        for node in nodes:
            if node.op not in OPS:
                raise ValueError(f"{node.name}: unknown operator {node.op!r}")
            if node.name in self.nodes:
                raise ValueError(f"two nodes are called {node.name!r}")
            missing = [name for name in node.inputs if name not in self.nodes]
            if missing:
                raise ValueError(f"{node.name} reads {missing} before they are made")
            self.nodes[node.name] = node
        self.outputs = tuple(outputs)
        unknown = [name for name in self.outputs if name not in self.nodes]
        if unknown:
            raise ValueError(f"outputs {unknown} are not in the graph")

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def __contains__(self, name: object) -> bool:
        return name in self.nodes

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The input nodes, in the order of the model's arguments."""
        return tuple(node for node in self if node.op == "input")

    def consumers(self) -> dict[str, tuple[Node, ...]]:
        """For every tensor the nodes that read it, in order and each node once."""
        readers: dict[str, list[Node]] = {name: [] for name in self.nodes}
        for node in self:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node)
        return {name: tuple(nodes) for name, nodes in readers.items()}

    def pruned(self) -> Graph:
        """The graph without nodes that no output needs (inputs stay)."""
        needed = set(self.outputs)
        for node in reversed(list(self)):
            if node.name in needed:
                needed.update(node.inputs)
        return Graph((n for n in self if n.name in needed or n.op == "input"), self.outputs)

    def fingerprint(self) -> str:
        """SHA-256 over structure and weights: says whether a plan was made for this model."""
        digest = hashlib.sha256()
        for node in self:
            attrs = sorted((key, repr(value)) for key, value in node.attrs.items())
            digest.update(repr((node.name, node.op, node.inputs, node.shape, attrs)).encode())
            for key in sorted(node.params):
                digest.update(key.encode())
                digest.update(np.ascontiguousarray(node.params[key]).tobytes())
        digest.update(repr(self.outputs).encode())
        return digest.hexdigest()
