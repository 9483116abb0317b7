"""Relax module -> canonical float graph."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.quantization.graph import UNARY, Graph, Node
from relay_passes.canonical.collect_terms import collect_terms
from relay_passes.canonical.drop_broadcasts import drop_broadcasts
from relay_passes.canonical.fold_affine import fold_affine
from relay_passes.canonical.fold_into_tables import fold_into_tables
from relay_passes.canonical.fold_matmul_scale import fold_matmul_scale
from relay_passes.canonical.fold_norm_affine import fold_norm_affine
from relay_passes.canonical.fold_padding import fold_padding
from relay_passes.canonical.fuse_attention import fuse_attention
from relay_passes.canonical.fuse_views import fuse_views
from relay_passes.canonical.merge_constants import merge_constants
from relay_passes.canonical.merge_duplicates import merge_duplicates
from relay_passes.canonical.merge_parallel_layers import merge_parallel_layers
from relay_passes.canonical.name_views import name_views
from relay_passes.canonical.recognise_activations import recognise_activations
from relay_passes.canonical.recognise_norms import recognise_norms
from relay_passes.canonical.simplify_algebra import simplify_algebra
from relay_passes.canonical.sink_views import sink_views
from relay_passes.canonical.split_projections import split_projections
from relay_passes.canonical.sums_to_matmul import sums_to_matmul
from relay_passes.reading import arithmetic, layout, network, pooling
from relay_passes.reading.reader import Reader

HANDLERS = {
    **layout.HANDLERS,
    **arithmetic.HANDLERS,
    **network.HANDLERS,
    **pooling.HANDLERS,
}

Pass = Callable[[Graph], Graph]

LAYOUT: tuple[Pass, ...] = (fuse_views, sink_views, drop_broadcasts, merge_duplicates)
"""Repeated until the layout is settled, before anything is recognised."""

IDIOMS: tuple[Pass, ...] = (
    simplify_algebra,
    recognise_activations,
    recognise_norms,
    merge_constants,
    split_projections,
    fold_norm_affine,
    fold_affine,
    fold_padding,
    fold_matmul_scale,
    merge_parallel_layers,
    collect_terms,
    sums_to_matmul,
    fuse_attention,
)
"""Applied in this order, and all again with the layout passes until nothing changes."""

MOST_ROUNDS = 50


def read_graph(mod: Any) -> Graph:
    """The raw graph of ``mod["main"]``, operator by operator, layout changes as imported."""
    if "main" not in [var.name_hint for var in mod.get_global_vars()]:
        raise UnsupportedModelError("the module has no function 'main'")
    return Reader(HANDLERS, arithmetic.CONSTANTS_ONLY).read(mod["main"])


def canonicalize(graph: Graph) -> Graph:
    """Apply all passes until the graph stays as it is."""
    return _settled(graph, (lambda g: _settled(g, LAYOUT), *IDIOMS))


def _settled(graph: Graph, passes: Sequence[Pass]) -> Graph:
    """Until nothing changes, or until a form returns: two passes may each undo the other's work."""
    known = {_form(graph): graph}
    for _ in range(MOST_ROUNDS):
        for apply in passes:
            graph = apply(graph)
        form = _form(graph)
        if form in known:
            return known[form]
        known[form] = graph
    raise AssertionError(f"the graph is still changing after {MOST_ROUNDS} rounds")


def _form(graph: Graph) -> Hashable:
    """Equal for graphs that differ in names alone; weights count as the arrays they are."""
    place = {name: number for number, name in enumerate(graph.nodes)}
    nodes = (
        (
            node.op,
            tuple(place[name] for name in node.inputs),
            node.shape,
            repr(sorted(node.attrs.items())),
            tuple(sorted((key, id(value)) for key, value in node.params.items())),
        )
        for node in graph
    )
    return tuple(nodes), tuple(place[name] for name in graph.outputs)


def extract_graph(mod: Any) -> Graph:
    """The canonical float graph of a Relax module (see hyq_tvm/quantization/graph.py).

    Takes what ``hyq_tvm.from_torch`` and ``hyq_tvm.from_onnx`` give, and any Relax module of one
    function ``main`` with static shapes and constant weights. Raises ``UnsupportedModelError``
    naming every operator that is in the way, each with the binding it comes from, and for weights
    that are not finite.
    """
    graph = name_views(fold_into_tables(canonicalize(read_graph(mod))))
    problems = [f"division by an activation at {n.name}" for n in graph if not _is_known(n)]
    if problems:
        raise UnsupportedModelError("unsupported operators:\n  " + "\n  ".join(problems))
    for node in graph:
        for key, value in node.params.items():
            if not np.isfinite(value).all():
                raise UnsupportedModelError(f"{key} of {node.name!r} holds NaN or infinity")
    return graph


def _is_known(node: Node) -> bool:
    """Whether a node is of the finished graph; only reciprocals may be left from before."""
    return node.op != "unary" or node.attrs["fn"] in UNARY
