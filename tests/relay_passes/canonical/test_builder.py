"""The rewriter: names, readers, replacement and what comes back unchanged."""

from __future__ import annotations

import numpy as np

from hyq_tvm.quantization.graph import Node
from hyq_tvm.quantization.view import View
from relay_passes.canonical.builder import rewrite
from tests.relay_passes.canonical.small_graphs import Sketch, ops


def chain():
    s = Sketch()
    x = s.input("x", 2, 3)
    y = s.unary("y", x, "relu")
    return s.graph(s.unary("z", y, "tanh"))


def test_nothing_changed_is_the_same_graph():
    graph = chain()
    assert rewrite(graph, lambda new, node: None) is graph


def test_a_rule_may_leave_a_node_out():
    after = rewrite(chain(), lambda new, node: node.inputs[0] if node.name == "y" else None)
    assert [(n.name, n.inputs) for n in after] == [("x", ()), ("z", ("x",))]


def test_an_output_that_is_left_out_is_what_stands_for_it():
    after = rewrite(chain(), lambda new, node: node.inputs[0] if node.name == "z" else None)
    assert after.outputs == ("y",)


def test_taken_names_get_a_number_and_the_node_at_hand_keeps_its_own():
    def twice(new, node):
        if node.name != "y":
            return None
        first = new.emit(node)
        return new.emit(Node("z", "unary", (first,), node.shape, {"fn": "relu"}))

    after = rewrite(chain(), twice)
    assert list(after.nodes) == ["x", "y", "z.1", "z"]


def test_readers_are_counted_as_the_walk_goes_on():
    seen = {}

    def look(new, node):
        for source in node.inputs:
            seen[node.name, source] = (new.is_private(source), new.readers(source))

    s = Sketch()
    x = s.input("x", 4)
    a = s.unary("a", x, "relu")
    b = s.unary("b", x, "tanh")
    s.pair("c", "add", a, b)
    rewrite(s.graph("c", "b"), look)
    assert seen["a", "x"] == (False, {"b"})
    assert seen["b", "x"] == (False, {"a"})
    assert seen["c", "a"] == (True, set())
    assert seen["c", "b"] == (False, {"<output>"})


def test_replacing_an_earlier_node_keeps_its_name_and_place():
    def fold(new, node):
        if node.name != "z":
            return None
        new.replace("y", Node("ignored", "unary", ("x",), (2, 3), {"fn": "sigmoid"}))
        return "y"

    after = rewrite(chain(), fold)
    assert [(n.name, n.attrs.get("fn")) for n in after] == [("x", None), ("y", "sigmoid")]


def test_a_view_that_does_nothing_is_not_emitted():
    def shake(new, node):
        same = View.identity(new["x"].shape) if node.name == "y" else None
        return new.view("x", same, "v") if same else None

    assert ops(rewrite(chain(), shake)) == ["unary"]
    assert np.array_equal(rewrite(chain(), shake)["z"].inputs, ["x"])
