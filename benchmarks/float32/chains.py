"""Which nodes of a graph become one kernel: a layer, its activation, the residual behind it."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.float32.functions import FUNCTIONS
from hyq_tvm.quantization.graph import Graph, Node

LAYERS = ("conv2d", "dense")


@dataclass(frozen=True, eq=False)
class Chain:
    """A layer with what follows it in its tile; ``others``: what its ``"add"`` steps add."""

    layer: Node
    steps: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def chains(graph: Graph) -> tuple[dict[str, Chain], set[str]]:
    """Chains by the name of their last node, and the names of the nodes before it."""
    consumers = graph.consumers()
    found: dict[str, Chain] = {}
    inside: set[str] = set()
    for node in graph:
        if node.op not in LAYERS:
            continue
        chain, last = Chain(node), node
        longer = _longer(graph, chain, last, consumers[last.name])
        while longer is not None and longer[1].name not in found:
            inside.add(last.name)
            chain, last = longer
            longer = _longer(graph, chain, last, consumers[last.name])
        found[last.name] = chain
    return found, inside


def _longer(
    graph: Graph, chain: Chain, last: Node, readers: tuple[Node, ...]
) -> tuple[Chain, Node] | None:
    """The chain with the one node that reads its end, and that node; None where it ends."""
    if len(readers) != 1 or last.name in graph.outputs or chain.others:
        return None
    reader = readers[0]
    if reader.op == "unary" and reader.attrs["fn"] in FUNCTIONS:
        return Chain(chain.layer, (*chain.steps, reader.attrs["fn"])), reader
    others = [name for name in reader.inputs if name != last.name]
    if reader.op != "add" or len(others) != 1 or graph[others[0]].shape != last.shape:
        return None
    return Chain(chain.layer, (*chain.steps, "add"), (others[0],)), reader
