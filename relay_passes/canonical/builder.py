"""Rewrites a graph node by node: what every pass of this package is written with."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, count

from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.view import View

_OUTPUT = "<output>"
"""Counts as a reader of every output."""


class Builder:
    """The graph that grows while a rule walks over an old one.

    Names that rules see are tensors of the new graph. A rule may emit nodes, and replace earlier
    ones that nobody but the node at hand reads.
    """

    def __init__(self, graph: Graph) -> None:
        self.old = graph
        self.changed = False
        self._nodes: dict[str, Node] = {}
        self._stands_for: dict[str, str] = {}
        self._at_hand = ""
        self._readers: dict[str, set[str]] = {}
        self._old_readers = {
            name: {node.name for node in readers} | ({_OUTPUT} if name in graph.outputs else set())
            for name, readers in graph.consumers().items()
        }

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def resolve(self, name: str) -> str:
        """The tensor that stands for one of the old graph, whose node was already visited."""
        return self._stands_for[name]

    def emit(self, node: Node) -> str:
        """Add a node, under another name if its own is taken; gives the name."""
        name = self._free(node.name)
        self._nodes[name] = node if name == node.name else node.with_(name=name)
        self._readers[name] = set()
        for source in node.inputs:
            self._readers[source].add(name)
        return name

    def replace(self, name: str, node: Node) -> None:
        """Put another node in the place of ``name``; it reads tensors made before it."""
        self.changed = True
        for source in self._nodes[name].inputs:
            self._readers[source].discard(name)
        self._nodes[name] = node.with_(name=name)
        for source in node.inputs:
            self._readers[source].add(name)

    def is_private(self, name: str) -> bool:
        """Whether nobody reads a tensor but the node at hand."""
        return not self._readers[name]

    def readers(self, name: str) -> set[str]:
        """Who else reads a tensor: names of the old graph for nodes that are still to come."""
        return set(self._readers[name])

    def view(self, source: str, view: View, name: str) -> str:
        """Read a tensor through a view; a view that does nothing adds nothing."""
        if view == View.identity(self._nodes[source].shape):
            return source
        return self.emit(Node(name, "view", (source,), view.out_shape, {"view": view}))

    def _free(self, name: str) -> str:
        candidates = chain([name], (f"{name}.{i}" for i in count(1)))
        return next(candidate for candidate in candidates if not self._taken(candidate))

    def _taken(self, name: str) -> bool:
        return name in self._nodes or (name in self.old and name != self._at_hand)

    def _visit(self, node: Node, rule: Rule) -> None:
        self._at_hand = node.name
        node = node.with_(inputs=tuple(self._stands_for[name] for name in node.inputs))
        for source in node.inputs:
            self._readers[source].discard(node.name)
        result = rule(self, node)
        if result is None:
            result = self.emit(node)
        else:
            self.changed = True
        self._stands_for[node.name] = result
        self._readers[result] |= self._old_readers[node.name]

    def _finished(self) -> Graph:
        outputs = [self._stands_for[name] for name in self.old.outputs]
        return Graph(self._nodes.values(), outputs).pruned()


Rule = Callable[[Builder, Node], "str | None"]


def rewrite(graph: Graph, rule: Rule) -> Graph:
    """Visit the nodes in order; ``rule`` gives the tensor that stands for a node's, or ``None``.

    ``None`` keeps the node as it is. Where the rule changes nothing the same graph comes back.
    """
    builder = Builder(graph)
    for node in graph:
        builder._visit(node, rule)
    return builder._finished() if builder.changed else graph
