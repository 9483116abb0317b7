"""Where a 16-bit stream changes its scale, so that one great activation does not coarsen it all.

Some transformers make activations of several hundred in one block and carry them to the end. On
one scale the blocks before would use a fraction of their 16 bits: a trained ViT-Tiny, whose stream
grows from 13 to 585 in its eighth block, then loses more to its stream than to all 8-bit grids. An
add brings its operands to its own grid for one multiply (clause E4), so a stream is cut there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from hyq_tvm.quantization.demand import TRANSPARENT, Stream
from hyq_tvm.quantization.graph import Graph, Node

SPREAD = 4.0
"""Sums on one scale have peaks within this factor: two of the sixteen bits."""

Peak = Callable[[str], float]


class _Segment:
    """Tensors on one scale; ``least`` and ``most`` are the peaks of what is carried on."""

    def __init__(self, name: str, peak: float) -> None:
        self.tensors, self.least, self.most = [name], peak or math.inf, peak


def segments(graph: Graph, stream: Stream, peak: Peak) -> list[tuple[str, ...]]:
    """The tensors of a stream by the scale they share, in graph order.

    peak: greatest magnitude of a tensor of the stream, 0 where it was not seen. A branch that only
    an add reads lies on that add's scale, moves on the scale of what they move.
    """
    readers = graph.consumers()
    found: dict[str, _Segment] = {}
    for name in stream.tensors:
        node = graph[name]
        found[name] = _Segment(name, peak(name))
        for source in dict.fromkeys(i for i in node.inputs if i in found):
            branch = node.op == "add" and _is_branch(graph[source], readers[source])
            if branch or node.op in TRANSPARENT or _fit(found[source], found[name]):
                _join(found, source, name, carried=not branch)
    distinct = {id(segment): segment for segment in found.values()}
    return [tuple(n for n in stream.tensors if n in s.tensors) for s in distinct.values()]


def _is_branch(node: Node, readers: Sequence[Node]) -> bool:
    return node.op not in TRANSPARENT | {"add"} and len(readers) == 1


def _fit(a: _Segment, b: _Segment) -> bool:
    return max(a.most, b.most) <= SPREAD * min(a.least, b.least)


def _join(found: dict[str, _Segment], source: str, name: str, carried: bool = True) -> None:
    into, joined = found[name], found[source]
    if into is joined:
        return
    into.most = max(into.most, joined.most)
    if carried:
        into.least = min(into.least, joined.least)
    into.tensors += joined.tensors
    for tensor in joined.tensors:
        found[tensor] = into
